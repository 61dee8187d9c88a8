"""Certificates of a test's own authority, with any mistake, and the TLS contexts of servers that show them.

Everything is made in memory, and is worth nothing outside the test: no system trusts these authorities. A key
is in a file only while OpenSSL reads it, which it does from files alone.

It needs `cryptography` (the extra ``secure``), and must not know nodes, wallets or what is said over TLS.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Self

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["CLIENTS", "DAY", "SERVERS", "Authority", "Certificate", "self_signed", "server_context"]

DAY: Final = datetime.timedelta(days=1)
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
SERVERS: Final = ExtendedKeyUsageOID.SERVER_AUTH
CLIENTS: Final = ExtendedKeyUsageOID.CLIENT_AUTH


@attrs.frozen
class Certificate:
    """A certificate with its key.

    Attributes:
        chain: the certificate, and those between it and the root, PEM.
        key: its private key.
    """

    chain: bytes
    key: PrivateKey = attrs.field(repr=False)

    @property
    def public_key(self) -> bytes:
        """The public key, DER SubjectPublicKeyInfo."""
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def key_pem(self) -> bytes:
        """The private key, PEM, without a passphrase."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def load_into(self, context: ssl.SSLContext) -> None:
        """Have a context show this certificate."""
        with tempfile.TemporaryDirectory() as directory:  # nobody else may read it
            file = Path(directory, "chain-and-key.pem")
            file.write_bytes(self.chain + self.key_pem)
            context.load_cert_chain(file)


@attrs.frozen
class Authority:
    """Makes certificates; `make` makes it.

    Attributes:
        certificate: its own.
        key: what it signs with.
        chain: the certificates above it, without the root's.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = attrs.field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()

    @classmethod
    def make(cls, name: str = "test authority") -> Self:
        """A new root."""
        key = _new_key()
        return cls(_sign(_named(name), key, _named(name), key, authority=True), key)

    @property
    def pem(self) -> bytes:
        """Its certificate, PEM: what those who trust it need."""
        return self.certificate.public_bytes(Encoding.PEM)

    def below(self, name: str = "intermediate", *, authority: bool = True) -> Authority:
        """An intermediate authority, or a certificate that is none and signs all the same."""
        key = _new_key()
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
        key: PrivateKey | None = None,
    ) -> Certificate:
        """Make a certificate.

        Args:
            names: whom it is for: DNS names; IP addresses; of e-mail with an ``@``; URIs with a ``:``.
            common_name: the subject's.
            first: from when on it is valid, from now.
            last: until when, from now.
            usage: what it may be used for; None does not say.
            with_chain: with the certificates between it and the root.
            key: its private key; None makes one of an elliptic curve.
        """
        key = _new_key() if key is None else key
        certificate = _sign(
            _named(common_name),
            key,
            self.certificate.subject,
            self.key,
            alternatives=[_alternative(name) for name in names],
            first=first,
            last=last,
            usage=usage,
        )
        return Certificate(_pem_of([certificate, *(self.chain if with_chain else ())]), key)


def self_signed(*names: str) -> Certificate:
    """A certificate that nobody vouches for."""
    key = _new_key()
    alternatives = [_alternative(name) for name in names]
    signed = _sign(_named("test"), key, _named("test"), key, alternatives=alternatives, usage=SERVERS)
    return Certificate(_pem_of([signed]), key)


def server_context(
    certificate: Certificate,
    *,
    clients: Authority | None = None,
    version: ssl.TLSVersion | None = None,
    protocol: str | None = "h2",
) -> ssl.SSLContext:
    """The context of a server.

    Args:
        certificate: what it shows.
        clients: the authority from which clients must have a certificate; None asks for none.
        version: the only version of TLS that it speaks; None is what OpenSSL has.
        protocol: what it chooses by ALPN; None chooses nothing.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    certificate.load_into(context)
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


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(name: str) -> x509.GeneralName:
    if "@" in name:
        return x509.RFC822Name(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.UniformResourceIdentifier(name) if ":" in name else x509.DNSName(name)


def _usage_of_authorities() -> x509.KeyUsage:
    """What OpenSSL wants to see where it is strict, which is the default from Python 3.13 on."""
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    unused = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **unused)


def _pem_of(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def _sign(
    subject: x509.Name,
    key: PrivateKey,
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
