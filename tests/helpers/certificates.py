"""Certificates with any mistake, and the contexts of servers that show them. All have the same key."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Self

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
SERVERS, CLIENTS = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


@cache
def key_of_all() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem() -> bytes:
    return key_of_all().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@attrs.frozen
class Authority:
    """Makes certificates.

    Attributes:
        certificate: its own.
        key: what it signs with.
        chain: the certificates above it, without the root's.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    @classmethod
    def make(cls, name: str = "test authority") -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(_sign(_named(name), key, _named(name), key, authority=True), key)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def below(self, name: str = "intermediate", *, authority: bool = True) -> Authority:
        """An intermediate authority, or a certificate that is none and signs all the same."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(_named(name), key, self.certificate.subject, self.key, authority=authority)
        return Authority(certificate, key, (certificate, *self.chain))

    def issue(
        self,
        names: Iterable[str] = (),
        *,
        common_name: str = "test",
        first: datetime.timedelta = -DAY,
        last: datetime.timedelta = DAY,
        usage: x509.ObjectIdentifier | None = SERVERS,
        with_chain: bool = True,
    ) -> bytes:
        """A chain, PEM. Names with ``@`` are of e-mail, and those with ``:`` URIs; IP addresses are these."""
        certificate = _sign(
            _named(common_name),
            key_of_all(),
            self.certificate.subject,
            self.key,
            alternatives=[_alternative(name) for name in names],
            first=first,
            last=last,
            usage=usage,
        )
        return _pem_of([certificate, *(self.chain if with_chain else ())])


def self_signed(*names: str) -> bytes:
    """A certificate that nobody vouches for, PEM."""
    key = key_of_all()
    alternatives = [_alternative(name) for name in names]
    return _pem_of(
        [_sign(_named("test"), key, _named("test"), key, alternatives=alternatives, usage=SERVERS)]
    )


def server_context(
    chain: bytes,
    *,
    clients: Authority | None = None,
    version: ssl.TLSVersion | None = None,
    protocol: str | None = "h2",
) -> ssl.SSLContext:
    """The context of a server that shows `chain`.

    Args:
        chain: PEM.
        clients: the authority from which clients must have a certificate; None asks for none.
        version: the only version of TLS that it speaks; None is what OpenSSL has.
        protocol: what it chooses by ALPN; None chooses nothing.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    with tempfile.NamedTemporaryFile() as file:
        file.write(chain + key_pem())
        file.flush()
        context.load_cert_chain(file.name)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=clients.pem.decode())
    if protocol is not None:
        context.set_alpn_protocols([protocol])
    if version is not None:
        with warnings.catch_warnings(action="ignore"):  # the older ones are deprecated
            context.minimum_version = context.maximum_version = version
        if version < ssl.TLSVersion.TLSv1_2:
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(name: str) -> x509.GeneralName:
    if "@" in name:
        return x509.RFC822Name(name)
    if ":" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage_of_authorities() -> x509.KeyUsage:
    """What OpenSSL wants to see where it is strict, which is the default from Python 3.13 on."""
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    unused = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **unused)


def _pem_of(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def _sign(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuers_key: ec.EllipticCurvePrivateKey,
    *,
    authority: bool = False,
    alternatives: Sequence[x509.GeneralName] = (),
    first: datetime.timedelta = -DAY,
    last: datetime.timedelta = DAY,
    usage: x509.ObjectIdentifier | None = None,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    serial = x509.random_serial_number()
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), serial, now + first, now + last)
    constraints = x509.BasicConstraints(ca=authority, path_length=None)
    builder = builder.add_extension(constraints, critical=True)
    issuers_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuers_key.public_key())
    builder = builder.add_extension(issuers_id, critical=False)
    own_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(own_id, critical=False)
    if authority:
        builder = builder.add_extension(_usage_of_authorities(), critical=True)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(issuers_key, hashes.SHA256())
