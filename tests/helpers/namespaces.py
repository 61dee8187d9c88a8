"""Network namespaces: a hub, which is this process's own, and a worker's behind each of its lines.

They have no names, and end with the processes in them. So nothing is left, whatever happens, and several runs
never meet. `python -m helpers.namespaces DIRECTORY` in a namespace of its own plays a partition there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import trio

from helpers.dask_cluster import bound_to_us, dask_cluster
from helpers.partition import Line, play_partition

__all__ = ["own_namespace"]

_HUB: Final = "10.99.0.1"
_NOBODY: Final = "02:00:00:00:00:99"
_PATIENT: Final = 90.0


def own_namespace() -> list[str] | None:
    """The command that runs another one in a network namespace of its own; None if there can be none here."""
    if not {*map(shutil.which, ("unshare", "nsenter", "ip"))} & {None}:
        for command in (["unshare", "--net"], ["unshare", "--user", "--map-root-user", "--net"]):
            probe = [*command, "ip", "link", "add", "probe", "type", "veth", "peer", "name", "other"]
            if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
                return command
    return None


class _Namespace:
    """One behind a line.

    Args:
        number: the line's.
        process: one that is in it.
    """

    def __init__(self, number: int, process: int) -> None:
        self.address = f"10.99.{number}.2"
        self.enter = ["nsenter", f"--net=/proc/{process}/ns/net"]
        self._hub_end, self._hub_address = f"line{number}", f"10.99.{number}.1"
        _ip("link", "add", self._hub_end, "type", "veth", "peer", "name", "line", "netns", str(process))
        _ip("address", "add", f"{self._hub_address}/24", "dev", self._hub_end)
        _ip("link", "set", self._hub_end, "up")
        _ip("address", "add", f"{self.address}/24", "dev", "line", within=self.enter)
        _ip("link", "set", "line", "up", within=self.enter)
        _ip("link", "set", "lo", "up", within=self.enter)
        _ip("route", "add", "default", "via", self._hub_address, within=self.enter)

    def line(self) -> Line:
        return Line(f"tls://{self.address}:", self._cut, self._mend)

    def _cut(self) -> None:
        """Send all frames to a card that nobody has: they are dropped, and no side is told."""
        _ip(*_neighbour("replace", self.address, self._hub_end), "lladdr", _NOBODY, "nud", "permanent")
        to_hub = _neighbour("replace", self._hub_address, "line")
        _ip(*to_hub, "lladdr", _NOBODY, "nud", "permanent", within=self.enter)

    def _mend(self) -> None:
        _ip(*_neighbour("del", self.address, self._hub_end))
        _ip(*_neighbour("del", self._hub_address, "line"), within=self.enter)


def _neighbour(verb: str, address: str, device: str) -> tuple[str, ...]:
    return "neighbour", verb, address, "dev", device


def _ip(*words: str, within: list[str] | None = None) -> None:
    subprocess.run([*(within or ()), "ip", *words], check=True)


@contextmanager
def _namespaces(count: int) -> Iterator[list[_Namespace]]:
    _ip("link", "set", "lo", "up")
    _ip("address", "add", f"{_HUB}/32", "dev", "lo")
    with ExitStack() as stack:
        made = []
        for number in range(1, count + 1):
            command = bound_to_us("unshare", "--net", "sh", "-c", "echo; exec sleep infinity")
            holder = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(holder.kill)
            assert holder.stdout is not None
            holder.stdout.readline()  # it is in its own by now
            made.append(_Namespace(number, holder.pid))
        yield made


def main() -> None:
    """Play a partition between namespaces."""
    with _namespaces(2) as namespaces, dask_cluster(Path(sys.argv[1]), workers=0, host=_HUB) as cluster:
        for each in namespaces:
            cluster.start_workers(1, "--host", each.address, within=each.enter)

        async def play() -> None:
            with trio.fail_after(_PATIENT):
                await play_partition(cluster, namespaces[0].line(), _HUB)

        trio.run(play)


if __name__ == "__main__":
    main()
