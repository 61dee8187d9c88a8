"""Credentials from files: what loads, and what is said of what doesn't."""

from __future__ import annotations

import datetime
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
from crunch_certificate import pem
from crunch_certificate.certificate import LocalTlsCertificateIssuer, generate_ca, generate_tls
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from helpers.secure_nodes import write_credentials

from trio_model_runner.config import ClusterConfig
from trio_model_runner.errors import ConfigError
from trio_model_runner.security import GatewayCredentials, SecureCredentials
from trio_model_runner.security.keys import read_file
from trio_model_runner.security.tls import client_context

DAY = datetime.timedelta(days=1)


def pem_of(key: Any, passphrase: bytes | None = None) -> bytes:
    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def certify(key: Any, first: datetime.timedelta = -DAY, last: datetime.timedelta = DAY) -> bytes:
    """A certificate for a key, by itself, valid from `first` to `last`, counted from now."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now + first, now + last)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)


def refusal(load: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        load(*args, **options)
    return str(raised.value)


def test_a_directory_is_loaded(directory: Path) -> None:
    credentials = SecureCredentials.from_directory(str(directory))
    assert credentials == SecureCredentials.from_files(
        *map(directory.joinpath, ("ca.crt", "tls.crt", "tls.key"))
    )
    assert credentials.context.verify_mode is ssl.CERT_REQUIRED
    assert credentials.context.check_hostname
    assert credentials.context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert len(credentials.context.get_ca_certs()) == 1


@pytest.mark.parametrize("name", ["ca.crt", "tls.crt", "tls.key"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "holds no "),
        (b"\x00\xff" * 500, "holds no "),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no "),
        (b"x" * 2_000_000, "too large"),
    ],
)
def test_a_file_that_holds_something_else_is_named(
    directory: Path, name: str, content: bytes | None, said: str
) -> None:
    path = directory / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    text = refusal(SecureCredentials.from_directory, directory)
    assert repr(str(path)) in text
    assert said in text


@pytest.mark.parametrize("name", ["ca.crt", "tls.crt", "tls.key"])
def test_a_directory_in_place_of_a_file_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()
    (directory / name).mkdir()
    assert refusal(SecureCredentials.from_directory, directory).startswith(
        f"cannot read {str(directory / name)!r}: Is a directory"
    )


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


NO_FILES = {"FIFO": make_fifo, "socket": make_socket, "device": link_to_device}


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("name", ["ca.crt", "tls.crt", "tls.key", "key.pem", "settings.toml"])
def test_what_is_no_regular_file_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: trustme.CA, kind: str, name: str
) -> None:
    monkeypatch.chdir(write_credentials(tmp_path / "c", authority))  # a socket's path may not be long
    path = Path(name)
    path.unlink(missing_ok=True)
    NO_FILES[kind](path)
    loads: dict[str, Any] = {
        "key.pem": GatewayCredentials.from_directory,
        "settings.toml": ClusterConfig.load,
    }
    load = loads.get(name, SecureCredentials.from_directory)
    text = refusal(load, path if name == "settings.toml" else Path())
    assert text == f"cannot read {name!r}: it is a {kind}, and no regular file"
    if name == "ca.crt":
        assert refusal(ClusterConfig, "c", tls_ca_file=path) == f"tls_ca_file: {text}"


def test_a_fifo_that_takes_the_place_of_a_file_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The file is looked at before it is opened, and may be another one then."""
    path = tmp_path / "key.pem"
    os.mkfifo(path)
    file = Path(__file__).stat()
    monkeypatch.setattr(Path, "stat", lambda self: file)
    assert "it is a FIFO" in refusal(read_file, path)


def test_a_file_of_100_megabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    assert refusal(read_file, path) == f"{str(path)!r}: is too large to hold a key or a certificate"
    assert refusal(ClusterConfig.load, path) == f"{str(path)!r}: is too large to hold settings"


def test_a_key_in_place_of_a_certificate_is_not_shown(directory: Path) -> None:
    key = (directory / "tls.key").read_bytes()
    (directory / "tls.crt").write_bytes(key)
    text = refusal(SecureCredentials.from_directory, directory)
    assert text == f"{str(directory / 'tls.crt')!r}: holds no certificate in PEM format"


def test_a_key_that_is_not_the_certificates_is_named(
    directory: Path, tmp_path: Path, authority: trustme.CA
) -> None:
    other = write_credentials(tmp_path / "other", authority)
    (other / "tls.key").replace(directory / "tls.key")
    text = refusal(SecureCredentials.from_directory, directory)
    assert text == (
        f"{str(directory / 'tls.key')!r}: is not the key of the certificate in {str(directory / 'tls.crt')!r}"
    )


def test_a_key_with_a_passphrase_is_refused_without_asking_for_it(directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (directory / "tls.crt").write_bytes(certify(key))
    (directory / "tls.key").write_bytes(pem_of(key, b"secret"))
    assert "has a passphrase" in refusal(SecureCredentials.from_directory, directory)


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [(-2 * DAY, -DAY, "has expired on 20"), (DAY, 2 * DAY, "is not valid before 20")],
)
def test_a_certificate_that_is_not_valid_now_is_named(
    directory: Path, first: datetime.timedelta, last: datetime.timedelta, said: str
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (directory / "tls.crt").write_bytes(certify(key, first, last))
    (directory / "tls.key").write_bytes(pem_of(key))
    assert refusal(SecureCredentials.from_directory, directory).startswith(
        f"{str(directory / 'tls.crt')!r}: the certificate {said}"
    )


def test_an_authority_that_is_not_valid_now_is_named(directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    old, path = certify(key, -2 * DAY, -DAY), directory / "ca.crt"
    current = path.read_bytes()
    path.write_bytes(old)
    assert refusal(client_context, path) == f"{str(path)!r}: no certificate in it is valid now"
    path.write_bytes(b"# authorities, old and new: \xc3\xa9\n" + old + current)
    assert len(client_context(path).get_ca_certs()) == 2


def test_without_a_file_the_systems_authorities_are_trusted() -> None:
    context = client_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_the_tools_directories_load_and_verify_each_other(tmp_path: Path) -> None:
    ca_key, ca_certificate = generate_ca(common_name="CA", organization_name="Test")
    issuer = LocalTlsCertificateIssuer(ca_key=ca_key, ca_cert=ca_certificate)
    _, key, certificate = generate_tls(certificate_issuer=issuer, common_name="coordinator")
    for name, text in (
        ("ca.crt", pem.dumps(certificate=ca_certificate)),
        ("tls.crt", pem.dumps(certificate=certificate)),
        ("tls.key", pem.dumps(private_key=key)),
        ("key.pem", pem.dumps(private_key=key)),
    ):
        (tmp_path / name).write_text(text)
    gateway = GatewayCredentials.from_files(key_path=tmp_path / "key.pem", cert_path=tmp_path / "tls.crt")
    assert gateway == GatewayCredentials.from_directory(tmp_path)
    client = SecureCredentials.from_directory(tmp_path).context

    host = "model-node-1.crunchdao.internal"
    _, node_key, node_certificate = generate_tls(
        certificate_issuer=issuer, common_name="node", san_dns=host, is_client=False, is_server=True
    )
    (tmp_path / "node.crt").write_text(pem.dumps(certificate=node_certificate))
    (tmp_path / "node.key").write_text(pem.dumps(private_key=node_key))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.crt"))
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags = ssl.VerifyFlags.VERIFY_DEFAULT
    server.load_cert_chain(tmp_path / "node.crt", tmp_path / "node.key")
    shake_hands(client, server, host)


def test_a_node_is_known_by_its_subject_alternative_name_alone(
    directory: Path, authority: trustme.CA
) -> None:
    client = SecureCredentials.from_directory(directory).context
    host = "model-node-1.crunchdao.internal"
    for names, said in (((host,), None), (("node@example.org",), "Hostname mismatch")):
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(*names, common_name=host).configure_cert(server)
        if said is None:
            shake_hands(client, server, host)
            continue
        with pytest.raises(ssl.SSLCertVerificationError, match=said):
            shake_hands(client, server, host)


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> None:
    """Have two contexts go through a handshake in memory; raises what either objects to."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=host)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    for _ in range(10):
        for end in (ours, theirs):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            done.add(end)
    assert done == {ours, theirs}


def test_a_gateways_key_is_loaded(tmp_path: Path, rsa_key: rsa.RSAPrivateKey) -> None:
    (tmp_path / "key.pem").write_bytes(pem_of(rsa_key))
    (tmp_path / "key.pem").chmod(0o600)
    credentials = GatewayCredentials.from_directory(tmp_path)
    assert credentials == GatewayCredentials.from_files(key_path=tmp_path / "key.pem")
    assert credentials == GatewayCredentials.from_pem(pem_of(rsa_key))
    assert credentials != GatewayCredentials.from_pem(pem_of(rsa.generate_private_key(65537, 2048)))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            pem_of(ec.generate_private_key(ec.SECP256R1())),
            "must be an RSA key, got one of kind E",
        ),
        (b"", "holds no private key in PEM format"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "holds no private key"),
        (pem_of(ec.generate_private_key(ec.SECP256R1()), b"secret"), "the private key has a passphrase"),
    ],
)
def test_a_gateways_key_must_be_an_rsa_key(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    text = refusal(GatewayCredentials.from_directory, tmp_path)
    assert text.startswith(f"{str(path)!r}: {said}")
    assert refusal(GatewayCredentials.from_pem, content).startswith(f"key_pem: {said}")


def test_a_gateways_key_may_be_held_against_its_certificate(
    tmp_path: Path, rsa_key: rsa.RSAPrivateKey
) -> None:
    key_path, certificate_path = tmp_path / "key.pem", tmp_path / "tls.crt"
    key_path.write_bytes(pem_of(rsa_key))
    certificate_path.write_bytes(certify(rsa_key))
    GatewayCredentials.from_files(key_path=key_path, cert_path=certificate_path)
    certificate_path.write_bytes(certify(ec.generate_private_key(ec.SECP256R1())))
    text = refusal(GatewayCredentials.from_files, key_path=key_path, cert_path=certificate_path)
    assert text == f"{str(key_path)!r}: is not the key of the certificate in {str(certificate_path)!r}"
    assert refusal(GatewayCredentials.from_directory, tmp_path / "nowhere").startswith("cannot read ")


def test_no_secret_is_in_a_repr(tmp_path: Path, rsa_key: rsa.RSAPrivateKey, directory: Path) -> None:
    gateway = repr(GatewayCredentials.from_pem(pem_of(rsa_key)))
    assert gateway.startswith("GatewayCredentials(public_key=<sha256 ")
    assert len(gateway) < 120
    secure = repr(SecureCredentials.from_directory(directory))
    assert "tls.key" in secure
    assert "SSLContext" not in secure
    assert "BEGIN" not in gateway + secure


@pytest.mark.parametrize("missing", ["cryptography", "base58"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    text = refusal(SecureCredentials.from_directory, directory)
    assert text == (f"credentials: need the package {missing!r}: pip install '.[secure]' in a clone")
    assert refusal(GatewayCredentials.from_pem, b"") == text


def test_what_credentials_need_is_imported_only_for_credentials() -> None:
    code = (
        "import sys, trio_model_runner.security.node_security, trio_model_runner.config;"
        "print({'cryptography', 'base58'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
