"""What a coordinator can set, and the rules that every setting must keep.

A mistake in a configuration should be found before anything is sent, and the error should name the field as
the configuration does. So every class here is frozen, checks every field when it is made, and raises one
`ConfigError` with a line such as ``limits.max_queued_calls: must be a whole number >= 1 or 'off', got 0`` for
each wrong one. Nothing is converted silently, with two exceptions: a whole number is taken as a float, and
``"off"`` is None, since TOML and the environment have no None. Text such as ``"10"`` is a number only for
`ClusterConfig.load`.

All times are in seconds, and all sizes in bytes. A time limit of ``math.inf`` is no limit. ``"off"`` lifts
limits on what this program does itself. What bounds a peer has none. This module knows
values and the classes that open byte streams. It must not know what other rooms do with its settings.
"""

from __future__ import annotations

import itertools
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs

from ..backoff import growing_waits
from ..errors import ConfigError
from ..network import IPNetwork, MemoryNetwork, Network, RestrictedNetwork, TCPNetwork, UnixNetwork
from ..network.named_hosts import NamedHosts
from ..security import GatewayCredentials, SecureCredentials
from ..security.tls import client_context, warn_of_plaintext
from .together import told_together
from .validators import (
    Host,
    HostPatterns,
    InstanceOf,
    Networks,
    Number,
    OneOf,
    PathSegment,
    TrueOrFalse,
    WholeNumber,
    off_to_none,
    refuse,
    refuse_as_path,
    to_float,
    to_host_patterns,
    to_networks,
    to_path,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["Backoff", "ClusterConfig", "Health", "Keepalive", "Limits", "OrchestratorConfig"]

_MIB = 1 << 20
_POSITIVE = Number(above=0)
_POSITIVE_FINITE = Number(above=0, finite=True)
_FRACTION = Number(unit="", at_least=0, at_most=1)
_OF_32_BITS = WholeNumber(at_least=1, at_most=2**32 - 1)
"""HTTP/2 has so many bits for a setting, and gRPC for the length of a message."""

_LARGEST_FRAME = 1 << 40  # bytes; the operating system is told several times as much
_FACTOR = Number(unit="", at_least=1, finite=True)


@attrs.frozen(kw_only=True, field_transformer=told_together)
class Backoff:
    """How often to try to reach a model's node, and how long to wait in between.

    Attributes:
        attempts: how many times to try before the model counts as unreachable.
        initial: seconds to wait after the first attempt.
        factor: how many times longer each wait is than the one before.
        maximum: seconds; no wait is longer. The jitter comes on top.
        jitter: fraction, 0 to 1, by which each wait is randomly longer or shorter. With it, a hundred models
            that were lost together are not all tried again at the same moment.
        connect_timeout: seconds that one attempt may take until the connection is ready.
    """

    SECTION: ClassVar[str] = "backoff."

    attempts: int = attrs.field(default=5, validator=WholeNumber(at_least=1))
    initial: float = attrs.field(default=2.0, converter=to_float, validator=_POSITIVE_FINITE)
    factor: float = attrs.field(default=2.0, converter=to_float, validator=_FACTOR)
    maximum: float = attrs.field(default=16.0, converter=to_float, validator=_POSITIVE_FINITE)
    jitter: float = attrs.field(default=0.0, converter=to_float, validator=_FRACTION)
    connect_timeout: float = attrs.field(default=10.0, converter=to_float, validator=_POSITIVE)

    def delays(self) -> Iterator[float]:
        """Give the waits between the attempts, in seconds: 2, 4, 8 and 16 by default."""
        waits = growing_waits(self.initial, factor=self.factor, maximum=self.maximum, jitter=self.jitter)
        return itertools.islice(waits, self.attempts - 1)


@attrs.frozen(kw_only=True, field_transformer=told_together)
class OrchestratorConfig:
    """How the connection to the orchestrator is kept.

    Attributes:
        reconnect_initial: seconds to wait before the first attempt to reconnect. The attempts never end.
        reconnect_factor: how many times longer each wait is than the one before.
        reconnect_maximum: seconds; no wait is longer. The jitter comes on top.
        reconnect_jitter: fraction, 0 to 1, by which each wait is randomly longer or shorter.
        ping_interval: seconds between our pings; ``math.inf`` is never. Only pings show that a connection is
            half open, and an orchestrator may send none itself.
        pong_timeout: seconds without any byte in which the answer to a ping must come. An ``init`` of
            thousands of entries may come before it; however long that takes, the connection lives.
        handshake_timeout: seconds that connecting and the WebSocket handshake may take together.
        resync_interval: seconds after which the list of models is fetched anew, a tenth more or less at
            random; ``math.inf`` is never. This needs a second connection, which then replaces the first one.
            Deployed orchestrators lose updates when clients come and go, and only a new list mends that.
        max_message_bytes: the largest message that is read, in bytes; a larger one ends the connection. While
            a message is read, it can take 25 times as much memory.
        max_models: how many models there may be; others are left out. Of one message, at most twice as many
            entries are read.
    """

    SECTION: ClassVar[str] = "orchestrator."

    reconnect_initial: float = attrs.field(default=0.5, converter=to_float, validator=_POSITIVE_FINITE)
    reconnect_factor: float = attrs.field(default=2.0, converter=to_float, validator=_FACTOR)
    reconnect_maximum: float = attrs.field(default=10.0, converter=to_float, validator=_POSITIVE_FINITE)
    reconnect_jitter: float = attrs.field(default=0.25, converter=to_float, validator=_FRACTION)
    ping_interval: float = attrs.field(default=20.0, converter=to_float, validator=_POSITIVE)
    pong_timeout: float = attrs.field(default=30.0, converter=to_float, validator=_POSITIVE)
    handshake_timeout: float = attrs.field(default=10.0, converter=to_float, validator=_POSITIVE)
    resync_interval: float = attrs.field(default=600.0, converter=to_float, validator=_POSITIVE)
    max_message_bytes: int = attrs.field(default=16 * _MIB, validator=WholeNumber(at_least=1))
    max_models: int = attrs.field(default=10_000, validator=WholeNumber(at_least=1))

    def delays(self) -> Iterator[float]:
        """Give the waits before the attempts to reconnect, in seconds, without end."""
        return growing_waits(
            self.reconnect_initial,
            factor=self.reconnect_factor,
            maximum=self.reconnect_maximum,
            jitter=self.reconnect_jitter,
        )


@attrs.frozen(kw_only=True, field_transformer=told_together)
class Health:
    """How to find out what failed: a model, its connection, or this program.

    Attributes:
        timeout: seconds in which a node must give a sign of life when it is asked for one. Else its
            connection is made anew.
        require_witness: a failure or a timeout counts only if another model succeeded with the same request.
            False is for a crunch of one model.
        unserved: seconds. If calls of a method come to nothing for so long, each time for a reason on the
            model's side such as a lost connection, while most other models succeed, the model is reported.
        mass_fraction: fraction, 0 to 1. If so many of the models that were asked the same have trouble, none
            of them is reported.
        mass_minimum: at least so many models must have trouble for that, or all that there are.
        mass_window: seconds that a report waits, to see whether the model is alone with its trouble.
    """

    SECTION: ClassVar[str] = "health."

    timeout: float = attrs.field(default=5.0, converter=to_float, validator=_POSITIVE)
    require_witness: bool = attrs.field(default=True, validator=TrueOrFalse())
    unserved: float = attrs.field(default=900.0, converter=to_float, validator=_POSITIVE)
    mass_fraction: float = attrs.field(
        default=0.5, converter=to_float, validator=Number(unit="", above=0, at_most=1)
    )
    mass_minimum: int = attrs.field(default=3, validator=WholeNumber(at_least=1))
    mass_window: float = attrs.field(default=60.0, converter=to_float, validator=_POSITIVE)


@attrs.frozen(kw_only=True, field_transformer=told_together)
class Limits:
    """Limits for each peer, so that no single one can use up this process.

    Attributes:
        max_message_bytes: the largest gRPC message that is sent or read, in bytes. Deployed nodes have the
            same limit of 64 MiB.
        max_header_bytes: the largest list of headers that is taken from a node, in bytes. A larger one costs
            its call alone.
        max_frame_bytes: how large a data frame in an answer may become when it is read, in bytes. Each value
            counts as 8 bytes or more. A small file can hold an enormous frame.
        max_json_values: how many values JSON in an answer may hold. Each number, text, literal and key is
            one, an array or an object is four, an empty one five. Time and memory go by these, not by bytes.
        max_queued_calls: how many calls may wait for one model, behind the one that runs; further calls are
            SKIPPED. None or ``"off"`` is no limit. No peer can make calls wait here: only this program does,
            each for no longer than its timeout. One takes 3 to 4 KB meanwhile, or 12 in a round of its own.
        max_simultaneous_connects: how many connections may be made at the same time. None or ``"off"`` is no
            limit.
        max_detail_length: characters that are kept of a text from a node, such as a model's traceback.
    """

    SECTION: ClassVar[str] = "limits."

    max_message_bytes: int = attrs.field(default=64 * _MIB, validator=_OF_32_BITS)
    max_header_bytes: int = attrs.field(default=16 * 1024, validator=_OF_32_BITS)
    max_frame_bytes: int = attrs.field(
        default=256 * _MIB, validator=WholeNumber(at_least=1, at_most=_LARGEST_FRAME)
    )
    max_json_values: int = attrs.field(default=500_000, validator=WholeNumber(at_least=1))
    max_queued_calls: int | None = attrs.field(
        default=256, converter=off_to_none, validator=WholeNumber(at_least=1, or_off=True)
    )
    max_simultaneous_connects: int | None = attrs.field(
        default=100, converter=off_to_none, validator=WholeNumber(at_least=1, or_off=True)
    )
    max_detail_length: int = attrs.field(default=2000, validator=WholeNumber(at_least=1))


@attrs.frozen(kw_only=True, field_transformer=told_together)
class Keepalive:
    """How connections to the nodes are kept alive, since routers on the way forget quiet ones.

    Attributes:
        interval: a connection with open calls is pinged after so many seconds without traffic; ``math.inf``
            is never.
        timeout: seconds that the answer may take before the connection counts as lost.
    """

    SECTION: ClassVar[str] = "keepalive."

    interval: float = attrs.field(default=300.0, converter=to_float, validator=_POSITIVE)
    timeout: float = attrs.field(default=20.0, converter=to_float, validator=_POSITIVE)


@attrs.frozen(field_transformer=told_together)
class ClusterConfig:
    """All settings of a `Cluster`.

    Attributes:
        crunch_id: the competition whose models are called; the orchestrator knows it by this name. It has at
            most 200 characters, and what could be a key is refused.
        host: the orchestrator's host name or IP address.
        port: the orchestrator's TCP port.
        timeout: seconds that a round may take when the call doesn't say.
        orchestrator_timeout: seconds to wait at the start for the orchestrator's list of models.
        startup_timeout: seconds to wait at the start for the models in the list; 0 doesn't wait. Slower
            models join later.
        tls_ca_file: a file with the certificates (PEM) of authorities. Only these are trusted for the
            orchestrator's certificate, and TLS is used. None trusts the system's authorities.
        tls: use TLS with the orchestrator (``wss://``), and verify its certificate: True, or an SSL context.
        report_failures: tell the orchestrator about models that exceed the limits below. It stops such a
            model and shows its author the reason.
        max_consecutive_failures: a model may have so many failures in a row; the next one is reported. None
            or ``"off"`` is no limit.
        max_consecutive_timeouts: the same for timeouts; each kind has its own count.
        credentials: how the nodes and this process prove to each other who they are: `SecureCredentials` or
            `GatewayCredentials`; None speaks plaintext with the nodes.
        clock_leeway: a node's proof is taken for so many seconds after it expired, since clocks differ.
        allowed_networks: the networks that nodes may be in, such as ``["10.0.0.0/8"]``: the orchestrator
            could name any address; None or ``"off"`` allows all.
        gateway_hosts: the hosts that nodes may have with `GatewayCredentials`, by names, IP addresses, and
            suffixes: ``[".example.org"]`` stands for all names that end so. Nothing is sent to others, tokens
            above all. None or ``"off"`` allows all; other words for that, such as ``"any"``, are refused.
        setup_timeout: seconds that a model's own setup may take.
        on_join_timeout: seconds that the coordinator's ``on_join`` may take for one model.
        shutdown_grace: seconds that saying goodbye to all peers may take when the cluster is left.
        scope_margin: a round ends so many seconds before the deadline of a cancel scope around it. Else the
            cancellation would lose its answers.
        frames: what data frames in answers become: ``"arrow"`` tables or ``"pandas"`` frames.
        isolate_frames: read data frames in answers in processes of their own: a hostile frame can end its
            reader, and not this process. False reads them in threads, for participants who are no strangers.
        blame_invalid_answers: count an answer that doesn't fit ``returns=`` as the model's failure.
        backoff: attempts to reach a node; see `Backoff`.
        orchestrator: the connection to the orchestrator; see `OrchestratorConfig`.
        health: how to find out what failed; see `Health`.
        limits: sizes and numbers; see `Limits`.
        keepalive: pings of idle connections; see `Keepalive`.
        network: opens every byte stream, to the orchestrator and to the nodes; see `Network`.

    Raises:
        ConfigError: fields have a wrong type or value; the text names each of them.
    """

    crunch_id: str = attrs.field(validator=PathSegment())
    host: str = attrs.field(default="localhost", validator=Host())
    port: int = attrs.field(default=9091, validator=WholeNumber(at_least=1, at_most=65535))
    timeout: float = attrs.field(default=10.0, kw_only=True, converter=to_float, validator=_POSITIVE)
    orchestrator_timeout: float = attrs.field(
        default=60.0, kw_only=True, converter=to_float, validator=_POSITIVE
    )
    startup_timeout: float = attrs.field(
        default=10.0, kw_only=True, converter=to_float, validator=Number(at_least=0)
    )
    tls_ca_file: Path | None = attrs.field(default=None, kw_only=True, converter=to_path)
    tls: bool | ssl.SSLContext = attrs.field(
        default=attrs.Factory(lambda self: self.tls_ca_file is not None, takes_self=True), kw_only=True
    )
    report_failures: bool = attrs.field(default=True, kw_only=True, validator=TrueOrFalse())
    max_consecutive_failures: int | None = attrs.field(
        default=3, kw_only=True, converter=off_to_none, validator=WholeNumber(at_least=0, or_off=True)
    )
    max_consecutive_timeouts: int | None = attrs.field(
        default=3, kw_only=True, converter=off_to_none, validator=WholeNumber(at_least=0, or_off=True)
    )
    credentials: SecureCredentials | GatewayCredentials | None = attrs.field(
        default=None, kw_only=True, validator=InstanceOf(SecureCredentials, GatewayCredentials, or_none=True)
    )
    clock_leeway: float = attrs.field(
        default=10.0, kw_only=True, converter=to_float, validator=Number(at_least=0, finite=True)
    )
    allowed_networks: tuple[IPNetwork, ...] | None = attrs.field(
        default=None, kw_only=True, converter=to_networks, validator=Networks()
    )
    gateway_hosts: tuple[str, ...] | None = attrs.field(
        default=None, kw_only=True, converter=to_host_patterns, validator=HostPatterns()
    )
    setup_timeout: float = attrs.field(default=120.0, kw_only=True, converter=to_float, validator=_POSITIVE)
    on_join_timeout: float = attrs.field(default=60.0, kw_only=True, converter=to_float, validator=_POSITIVE)
    shutdown_grace: float = attrs.field(
        default=2.0, kw_only=True, converter=to_float, validator=Number(at_least=0, finite=True)
    )
    scope_margin: float = attrs.field(
        default=0.005, kw_only=True, converter=to_float, validator=Number(at_least=0, finite=True)
    )
    frames: Literal["arrow", "pandas"] = attrs.field(
        default="arrow", kw_only=True, validator=OneOf(("arrow", "pandas"))
    )
    isolate_frames: bool = attrs.field(default=True, kw_only=True, validator=TrueOrFalse())
    blame_invalid_answers: bool = attrs.field(default=False, kw_only=True, validator=TrueOrFalse())
    backoff: Backoff = attrs.field(default=Backoff(), kw_only=True, validator=InstanceOf(Backoff))
    orchestrator: OrchestratorConfig = attrs.field(
        default=OrchestratorConfig(), kw_only=True, validator=InstanceOf(OrchestratorConfig)
    )
    health: Health = attrs.field(default=Health(), kw_only=True, validator=InstanceOf(Health))
    limits: Limits = attrs.field(default=Limits(), kw_only=True, validator=InstanceOf(Limits))
    keepalive: Keepalive = attrs.field(default=Keepalive(), kw_only=True, validator=InstanceOf(Keepalive))
    network: Network = attrs.field(default=TCPNetwork(), kw_only=True, validator=InstanceOf(Network))

    @tls_ca_file.validator
    def _check_tls_ca_file(self, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is None:
            return
        if not isinstance(value, Path):
            refuse_as_path(self, attribute, value)
        try:
            client_context(value)
        except ConfigError as error:
            raise ConfigError(f"{attribute.name}: {error}") from error

    @tls.validator
    def _check_tls(self, attribute: attrs.Attribute[Any], value: object) -> None:
        if isinstance(value, ssl.SSLContext):
            if value.protocol is ssl.PROTOCOL_TLS_SERVER:
                raise ConfigError(f"{attribute.name}: must be a context for clients, got one for servers")
            if self.tls_ca_file is not None:
                raise ConfigError(
                    f"{attribute.name}: is a context, with authorities of its own; "
                    "leave out tls_ca_file, or give tls=True"
                )
        elif not isinstance(value, bool):
            refuse(self, attribute, "true or false, or an ssl.SSLContext", value)
        elif self.tls_ca_file is not None and not value:
            raise ConfigError(
                f"{attribute.name}: is false, and tls_ca_file asks for TLS: leave out one of them"
            )

    @gateway_hosts.validator
    def _check_gateway_hosts(self, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is not None and not isinstance(self.credentials, GatewayCredentials):
            raise ConfigError(
                f"{attribute.name}: needs GatewayCredentials as credentials; with others, and without any, "
                "allowed_networks limits where nodes may be"
            )

    @property
    def node_network(self) -> Network:
        """The network for connections to nodes: `network`, to the hosts and networks that are allowed."""
        network = self.network
        if self.allowed_networks is not None:
            network = RestrictedNetwork(network, self.allowed_networks)
        return network if self.gateway_hosts is None else NamedHosts(network, self.gateway_hosts)

    def orchestrator_tls(self) -> ssl.SSLContext | None:
        """Make the SSL context for `tls` and `tls_ca_file`; None is plaintext. This reads files.

        With credentials, plaintext to another machine is warned of in the log: the `Cluster` asks once.

        Raises:
            ConfigError: the file can't be read any more.
        """
        if isinstance(self.tls, ssl.SSLContext):
            return self.tls
        if self.tls:
            return client_context(self.tls_ca_file)
        safe = self.network.secure or isinstance(
            self.network, UnixNetwork | MemoryNetwork
        )  # never leave here
        if self.credentials is not None and not safe:
            warn_of_plaintext(self.host)
        return None

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        section: str = "trio-model-runner",
        env_prefix: str = "TRIO_MODEL_RUNNER_",
    ) -> ClusterConfig:
        """Read a configuration from a TOML file and from the environment. The environment has priority.

        In the file, the settings are in the table `section`, and parts such as `limits` in tables below it::

            [trio-model-runner]
            crunch_id = "bird-game"
            max_consecutive_timeouts = "off"
            startup_timeout = inf

            [trio-model-runner.limits]
            max_queued_calls = 8

        In the environment, the last setting is ``TRIO_MODEL_RUNNER_LIMITS_MAX_QUEUED_CALLS``. Numbers may be
        written as text in both. For the network, the fields of `TCPNetwork` can be set. Credentials are
        loaded from the directory ``credentials_path``; ``credentials_mode`` is ``"secure"`` or ``"gateway"``.
        This blocks for a moment, so call it before ``trio.run``.

        Args:
            path: the TOML file; None reads the environment alone.
            section: the table's name, with dots if it is nested in another table.
            env_prefix: what the names of environment variables begin with; not empty.

        Raises:
            ConfigError: the file is missing or broken, a name with our prefix or in our table is unknown, or
                a value is wrong; the text says which one and where it was found.
        """
        from .settings_file import load_settings  # imports typed-settings, which a program may not need

        return load_settings(cls, path, section=section, env_prefix=env_prefix)
