"""Regenerate ``trio_model_runner/proto`` from the ``.proto`` files beside this script.

    python proto/generate.py

It needs the ``dev`` extra: the compiler of ``grpcio-tools`` and betterproto's plugin, with black and
isort at the versions pinned there, which decide how the result is laid out.
"""

import argparse
import subprocess
import sys
import sysconfig
from pathlib import Path

SOURCES = Path(__file__).parent
TARGET = SOURCES.parent / "trio_model_runner" / "proto"


def generate(target: Path) -> None:
    """Write the generated packages into the directory `target`, which is made if it is not there."""
    import grpc_tools

    target.mkdir(parents=True, exist_ok=True)
    plugin = Path(sysconfig.get_path("scripts")) / "protoc-gen-python_betterproto"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--plugin=protoc-gen-python_betterproto={plugin}",
            f"--proto_path={SOURCES}",
            f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}",
            f"--python_betterproto_out={target}",
            *sorted(str(source) for source in SOURCES.rglob("*.proto")),
        ],
        check=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Regenerate the betterproto code from the .proto files.")
    parser.add_argument(
        "--target", type=Path, default=TARGET, help="where to write it (default: %(default)s)"
    )
    generate(parser.parse_args().target)
