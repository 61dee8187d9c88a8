"""What a failed stage means, and what to do about it: exceptions become a `Trouble`.

Whose trouble it is differs: at the orchestrator, the settings are wrong most often; at a node, the node is;
and a gateway in front of the nodes is an ordinary server. So the advice is about one of these, and the words
for what is wrong are the same.
"""

from __future__ import annotations

import enum
import errno
import socket
from collections.abc import Sequence
from typing import Final

import attrs

from ...errors import ProofFailed
from ...groups import describe
from ...network.tls import TLSFault, fault_of
from ...rpc.ending import EndCause, Ending
from ...security.delegation import UnknownIdentity
from .findings import Stage, Trouble

__all__ = [
    "Place",
    "of_name",
    "of_no_health_service",
    "of_no_node",
    "of_node_end",
    "of_proof",
    "of_silence",
    "of_tcp",
    "of_tls",
]

_OURS: Final = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS)


@attrs.frozen
class _Advice:
    """What to do about the troubles of one kind of place."""

    name: str
    refused: str
    silent: str
    plaintext: str
    certificate: str
    our_certificate: str
    other: str


class Place(enum.Enum):
    """Where the trouble is."""

    ORCHESTRATOR = _Advice(
        name="Check host in the settings: is it spelt right? getent hosts NAME asks the same resolver.",
        refused="Is the orchestrator started? Check host and port: 9091 is the usual port.",
        silent="Check host and port. The host may be down, or a firewall may drop what is sent.",
        plaintext="Set tls to false (--no-tls), if you trust the network; or check the port.",
        certificate=(
            "Check host: the certificate must have this name. If an authority of your own has signed it, set "
            "tls_ca_file to that authority's certificate."
        ),
        our_certificate="The server wants a certificate of ours: give tls a context that has one.",
        other="Look at the orchestrator's log.",
    )
    NODE = _Advice(
        name="The orchestrator named a host that this machine can't look up; ask whoever runs it.",
        refused="The node is down, or the orchestrator's list is out of date. Restart the model.",
        silent="The node's machine is down or its process hangs, or a firewall drops what is sent.",
        plaintext="The node speaks plaintext. Deploy it in secure mode, or leave out credentials.",
        certificate=(
            "The node must have a certificate for exactly this model's name, signed by the authority of "
            "ca.crt. Another node may listen there, or ca.crt is not the right one."
        ),
        our_certificate="The node does not accept our certificate: make tls.crt anew with its authority.",
        other="Look at the node's log.",
    )
    GATEWAY = _Advice(
        name=NODE.name,
        refused="The gateway is down, or the orchestrator's list is out of date.",
        silent="The gateway is down, or a firewall drops what is sent.",
        plaintext="A gateway speaks TLS, but this port does not. Is a node there itself, without a gateway?",
        certificate=(
            "The gateway's certificate must have the name of its host, signed by an authority that this "
            "system trusts. If the gateway has an authority of its own (gateway-ca.crt of a LocalCrunch), a "
            "program gives it as GatewayCredentials.from_pem(key, tls=...); for a command, set SSL_CERT_FILE "
            "to the authority's certificate."
        ),
        our_certificate="The server wants a certificate of ours, which a gateway does not: is a node there?",
        other="Look at the gateway's log, then at the node's.",
    )


def of_name(error: OSError, place: Place) -> Trouble:
    """The trouble that a host's name can't be looked up."""
    return Trouble(Stage.NAME, "no such host", describe(error), place.value.name)


def of_tcp(error: OSError, address: str, place: Place) -> Trouble:
    """The trouble that no TCP connection can be made."""
    code = _errno(error)
    if isinstance(error, socket.gaierror):
        return of_name(error, place)
    if isinstance(error, PermissionError):
        advice = "allowed_networks and gateway_hosts say which hosts are allowed."
        return Trouble(Stage.TCP, "not allowed", describe(error), advice)
    if code == errno.ECONNREFUSED:
        return Trouble(Stage.TCP, "nothing listens", f"at {address}", place.value.refused)
    if code in _OURS:
        advice = "This machine is at its limits: ulimit -n says how many connections a process may have."
        return Trouble(Stage.TCP, "this machine can't connect", describe(error), advice)
    return Trouble(Stage.TCP, "can't connect", describe(error), place.value.silent)


def of_silence(stage: Stage, what: str, address: str, seconds: float, place: Place) -> Trouble:
    """The trouble that nothing comes."""
    return Trouble(stage, what, f"{address} within {seconds:g} s", place.value.silent)


def of_tls(error: OSError, place: Place) -> Trouble:
    """The trouble that a TLS handshake failed."""
    match fault_of(error):
        case TLSFault.UNTRUSTED:
            what, advice = "another certificate", place.value.certificate
        case TLSFault.PLAINTEXT:
            what, advice = "plaintext where TLS is wanted", place.value.plaintext
        case TLSFault.OUR_CERTIFICATE | TLSFault.REFUSED:
            what, advice = "our side of TLS is refused", place.value.our_certificate
        case TLSFault.NO_HTTP2:
            what, advice = "no HTTP/2 over TLS", place.value.other
        case _:
            what, advice = "no TLS", place.value.plaintext
    return Trouble(Stage.TLS, what, describe(error), advice)


def of_node_end(
    ending: Ending, address: str, place: Place, *, answered: bool, encrypted: bool, tls: bool
) -> Trouble:
    """The trouble that a node's connection ended before it carried an answer.

    Args:
        ending: how it ended.
        address: where the node is.
        place: the node, or its gateway.
        answered: the node has spoken HTTP/2.
        encrypted: the connection spoke TLS.
        tls: the port speaks TLS, as was tried on another connection.
    """
    detail = f"{address}: {ending}"
    match ending.cause:
        case _ if ending.cause is EndCause.SPEAKS_TLS or tls:
            advice = "Set credentials: secure for mutual TLS, gateway for a gateway in front of the nodes."
            return Trouble(Stage.TLS, "TLS where plaintext is spoken", detail, advice)
        case EndCause.SPEAKS_HTTP1:
            advice = "A web server or a proxy listens there: a proxy must speak HTTP/2 to us, too."
            return Trouble(Stage.HTTP2, "HTTP/1, not gRPC", detail, advice)
        case _ if ending.cause is EndCause.TLS_FAILED or (encrypted and not answered):
            return Trouble(Stage.TLS, "our side of TLS is refused", detail, place.value.our_certificate)
        case _:
            return Trouble(Stage.HTTP2, "no HTTP/2", detail, place.value.other)


def of_no_health_service(address: str) -> Trouble:
    """The trouble that a gRPC server has no health service. Deployed nodes have one, whatever they serve."""
    advice = "Are these model nodes? They speak gRPC; another service may listen there."
    return Trouble(Stage.HEALTH, "no health service", address, advice)


def of_no_node(states: Sequence[str]) -> Trouble:
    """The trouble that a model has no node.

    Args:
        states: as what the orchestrator lists it; empty if it doesn't.
    """
    if states:
        advice = "Start the model, or look at why it was stopped."
        return Trouble(Stage.INIT, "not running", f"the orchestrator says {', '.join(states)}", advice)
    advice = "Check its id, and crunch_id: they must be spelt as the orchestrator has them."
    return Trouble(Stage.INIT, "not announced", "the orchestrator does not list it", advice)


def of_proof(error: ProofFailed) -> Trouble:
    """The trouble that a node did not prove that it belongs to the model."""
    if isinstance(error, UnknownIdentity):
        advice = "The orchestrator must say the wallet and the hotkey of the model's participant."
        return Trouble(Stage.PROOF, "nobody says whose the model is", str(error), advice)
    if "has expired" in str(error):
        advice = "The participant must sign anew. If clocks differ, set them, or raise clock_leeway."
        return Trouble(Stage.PROOF, "an expired proof", str(error), advice)
    if "wallet is" in str(error):
        advice = "The node is signed for by another wallet than the orchestrator names: one is wrong."
        return Trouble(Stage.PROOF, "another wallet", str(error), advice)
    advice = "The participant's wallet must sign the key of the node's certificate, for this model."
    return Trouble(Stage.PROOF, "no good proof", str(error), advice)


def _errno(error: OSError) -> int | None:
    """The number of an error, or of the attempts that it stands for, if all have the same."""
    if error.errno is not None:
        return error.errno
    cause = error.__cause__
    if isinstance(cause, ExceptionGroup):
        numbers = {each.errno for each in cause.exceptions if isinstance(each, OSError)}
        return numbers.pop() if len(numbers) == 1 else None
    return cause.errno if isinstance(cause, OSError) else None
