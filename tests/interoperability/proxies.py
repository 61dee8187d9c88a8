"""Nginx and Envoy before servers that speak plaintext, each configured in a directory of its own.

A proxy listens with plaintext or TLS, and sends each call to the backend whose token it carries, as gateways
do, which read the model's id in it. Both allow long calls and large messages; nothing else is set but
`Limits`.
"""

from __future__ import annotations

import abc
import base64
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from .building import envoy, nginx
from .service import NO_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    import trustme

__all__ = ["PROXIES", "Backend", "Envoy", "Nginx", "Proxy"]

HOST = "127.0.0.1"
PATIENCE = 60.0  # seconds for a proxy to take connections, or to end
TOKEN = "x-gateway-auth-message"  # noqa: S105 - the name of a header


@attrs.frozen
class Backend:
    """A server behind a proxy.

    Attributes:
        port: where it listens.
        model_id: which calls it gets: those whose token names this model; None is all that go nowhere else.
    """

    port: int
    model_id: str | None = None

    @property
    def token(self) -> str:
        """How the tokens of its model begin, and no others.

        A token is the base64 of JSON that begins with the model's id; three bytes of that are four letters.
        """
        assert self.model_id is not None
        message = json.dumps({"model_id": self.model_id}, separators=(",", ":"))[:-1]
        assert len(message) % 3 == 0, "else the last letters would say something of what follows"
        return base64.b64encode(message.encode()).decode()


class Proxy(abc.ABC):
    """A proxy before backends; a context manager, whose end is that of all its processes.

    Args:
        backends: who gets its calls.
        limits: what it allows its clients' connections.
        tls: its certificate; None is plaintext.

    Attributes:
        port: where it listens.
        file_name: what its configuration is called.
        retiring: what it says when what ran before a reload begins to retire.
    """

    file_name: ClassVar[str]
    retiring: ClassVar[str]

    def __init__(
        self, *backends: Backend, limits: Limits = NO_LIMITS, tls: trustme.LeafCert | None = None
    ) -> None:
        self.port = free_port()
        self._backends = backends
        self._limits = limits
        self._tls = tls
        self._directory = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._processes: list[subprocess.Popen[bytes]] = []

    @abc.abstractmethod
    def configuration(self) -> str:
        """What it reads; the certificate is beside it."""

    @abc.abstractmethod
    def command(self) -> list[str]:
        """What starts it, or, where a process runs already, what takes over from that."""

    @abc.abstractmethod
    def reload(self) -> None:
        """Have it begin anew with its configuration, while what runs now retires."""

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return Path(self._directory.name)

    @property
    def file(self) -> Path:
        """Its configuration."""
        return self.directory / self.file_name

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.directory / "log").read_text()

    def start(self) -> None:
        """Start a process."""
        with (self.directory / "log").open("ab") as log:
            command = self.command()
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._processes.append(process)

    def _wait(self, condition: Callable[[], bool]) -> None:
        """Wait for that, a minute at most, as long as it lives."""
        given_up = time.monotonic() + PATIENCE
        while not condition():
            assert self._processes[-1].poll() is None, self.log
            assert time.monotonic() < given_up, self.log
            time.sleep(0.01)

    def wait_until_retiring(self) -> None:
        """Wait until what ran before a reload begins to retire."""
        self._wait(lambda: self.retiring in self.log)

    def _takes_connections(self) -> bool:
        try:
            socket.create_connection((HOST, self.port)).close()
        except OSError:
            return False
        return True

    def __enter__(self) -> Self:
        if self._tls is not None:
            self._tls.private_key_pem.write_to_path(self.directory / "key.pem")
            for number, part in enumerate(self._tls.cert_chain_pems):
                part.write_to_path(self.directory / "certificates.pem", append=number > 0)
        self.file.write_text(self.configuration())
        try:
            self.start()
            self._wait(self._takes_connections)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()
        self._directory.cleanup()


def free_port() -> int:
    """A port that nobody has; a proxy can't say which one it took."""
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


NGINX = """
daemon off;
{user}
worker_processes 2;
pid DIRECTORY/pid;
error_log stderr notice;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path DIRECTORY/client_body;
    proxy_temp_path DIRECTORY/proxy;
    fastcgi_temp_path DIRECTORY/fastcgi;
    uwsgi_temp_path DIRECTORY/uwsgi;
    scgi_temp_path DIRECTORY/scgi;
    client_max_body_size 0;
    client_body_timeout 1h;
    grpc_read_timeout 1h;
    grpc_send_timeout 1h;
    {limits}
    map $http_{token} $backend {{ {backends} }}
    server {{
        listen {host}:{port} http2 {tls};
        location / {{ grpc_pass grpc://$backend; }}
    }}
}}
"""
NGINX_TLS = "ssl; ssl_certificate DIRECTORY/certificates.pem; ssl_certificate_key DIRECTORY/key.pem"


class Nginx(Proxy):
    """Nginx, as Debian has it."""

    file_name = "nginx.conf"
    retiring = "gracefully shutting down"

    def configuration(self) -> str:
        """What it reads."""
        limits = []
        if self._limits.streams:
            limits.append(f"http2_max_concurrent_streams {self._limits.streams};")
        if self._limits.calls:
            limits.append(f"keepalive_requests {self._limits.calls};")
        if self._limits.age:
            limits.append(f"keepalive_time {self._limits.milliseconds}ms;")
        backends = [f"{self._pattern(each)} {HOST}:{each.port};" for each in self._backends]
        written = NGINX.format(
            user="user root;" if os.geteuid() == 0 else "",
            limits=" ".join(limits),
            token=TOKEN.replace("-", "_"),
            backends=" ".join(backends),
            host=HOST,
            port=self.port,
            tls="" if self._tls is None else NGINX_TLS,
        )
        return written.replace("DIRECTORY", str(self.directory))

    @staticmethod
    def _pattern(backend: Backend) -> str:
        return "default" if backend.model_id is None else f"~^{re.escape(backend.token)}"

    def command(self) -> list[str]:
        """What starts it."""
        return [str(nginx()), "-p", str(self.directory), "-c", str(self.file)]

    def reload(self) -> None:
        """Have it start new workers."""
        self._processes[0].send_signal(signal.SIGHUP)


def address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": HOST, "port_value": port}}


def cluster(backend: Backend) -> dict[str, Any]:
    """A backend, as Envoy knows it."""
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(backend.port)}}]}]
    protocol = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        "name": str(backend.port),
        "type": "STATIC",
        "load_assignment": {"cluster_name": str(backend.port), "endpoints": endpoints},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol
        },
    }


def route(backend: Backend) -> dict[str, Any]:
    """Which calls a backend gets, as Envoy knows it."""
    match: dict[str, Any] = {"prefix": "/"}
    if backend.model_id is not None:
        match["headers"] = [{"name": TOKEN, "string_match": {"prefix": backend.token}}]
    return {"match": match, "route": {"cluster": str(backend.port), "timeout": "0s"}}


def connection_manager(backends: tuple[Backend, ...], limits: Limits) -> dict[str, Any]:
    """What Envoy does with its clients' connections."""
    http2 = {"max_concurrent_streams": limits.streams} if limits.streams else {}
    http: dict[str, Any] = {"max_connection_duration": f"{limits.age}s"} if limits.age else {}
    if limits.calls:
        http["max_requests_per_connection"] = limits.calls
    routes = [route(each) for each in sorted(backends, key=lambda each: each.model_id is None)]
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    return {
        "@type": "type.googleapis.com/envoy.extensions.filters.network"
        ".http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "tests",
        "codec_type": "HTTP2",
        "http2_protocol_options": http2,
        "common_http_protocol_options": http,
        "stream_idle_timeout": "0s",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }


ENVOY_TLS = {
    "name": "envoy.transport_sockets.tls",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_certificates": [
                {
                    "certificate_chain": {"filename": "DIRECTORY/certificates.pem"},
                    "private_key": {"filename": "DIRECTORY/key.pem"},
                }
            ],
        },
    },
}


class Envoy(Proxy):
    """Envoy, as PyPI has it."""

    file_name = "envoy.json"
    retiring = "closing and draining listeners"

    def configuration(self) -> str:
        """What it reads."""
        manager = {
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": connection_manager(self._backends, self._limits),
        }
        chain = {"filters": [manager]} | ({} if self._tls is None else {"transport_socket": ENVOY_TLS})
        listener = {"name": "tests", "address": address(self.port), "filter_chains": [chain]}
        clusters = [cluster(each) for each in self._backends]
        written = json.dumps({"static_resources": {"listeners": [listener], "clusters": clusters}})
        return written.replace("DIRECTORY", str(self.directory))

    def command(self) -> list[str]:
        """What starts it, or takes the listening socket over from the process before (its hot restart)."""
        base, epoch = self.directory / "base-id", len(self._processes)
        which = (
            ["--base-id", base.read_text(), "--restart-epoch", str(epoch)]
            if epoch
            else ["--use-dynamic-base-id", "--base-id-path", str(base)]
        )
        drain = ["--drain-strategy", "immediate", "--drain-time-s", "1", "--parent-shutdown-time-s", "2"]
        return [str(envoy()), "-c", str(self.file), "--concurrency", "2", "-l", "info", *which, *drain]

    def reload(self) -> None:
        """Start a process that takes over from the one before."""
        self.start()


PROXIES: Mapping[str, type[Proxy]] = {"nginx": Nginx, "Envoy": Envoy}
