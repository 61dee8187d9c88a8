"""A shard's process as `LocalEngine` starts it, with less time for a shard whose driver is gone."""

from __future__ import annotations

from trio_model_runner.sharding import program

program._SECONDS_LEFT = 0.2  # type: ignore[misc]
program._SECONDS_UNTIL_KILLED = 0.6  # type: ignore[misc]

if __name__ == "__main__":
    program.main()
