"""A private key that stands where any other setting is wanted is in no error text, and in nothing behind it.

Keys are pasted into the wrong variable, and the error is copied into a chat. So a key, in all forms in which
it could be pasted, is put into every setting, and what is raised is searched for each piece of it.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import pickle
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from helpers.secure_nodes import write_credentials
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner.config import ClusterConfig
from trio_model_runner.config.settings_file import _options
from trio_model_runner.errors import ConfigError
from trio_model_runner.network import TCPNetwork
from trio_model_runner.security import GatewayCredentials, SecureCredentials
from trio_model_runner.security.keys import read_file
from trio_model_runner.text import kind_of_secret, shown

PREFIX = "TRIO_MODEL_RUNNER_"
PIECE = 16  # characters

RSA = rsa.generate_private_key(65537, 2048)
PEM = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
DER = RSA.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
EC_PEM = (
    ec.generate_private_key(ec.SECP256R1())
    .private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    .decode()
)


def body(pem: str) -> str:
    """The base64 of a key, without its first and last line."""
    return "\n".join(line for line in pem.splitlines() if not line.startswith("-----"))


def one_line_of(pem: str) -> str:
    return body(pem).replace("\n", "")


def written(data: bytes) -> Iterator[str]:
    """How bytes could be written down, beside base64."""
    yield from (data.hex(), data.hex(":"), data.hex("-"), str(list(data)), repr(data[-600:])[2:-1])
    yield from (str(signed(data)), c_array(data), "".join(f"\\x{byte:02x}" for byte in data))


def signed(data: bytes) -> list[int]:
    return [byte - 256 if byte > 127 else byte for byte in data]


def c_array(data: bytes) -> str:
    return ", ".join(f"{byte:#04x}" for byte in data)


TEXTS = {
    "PEM": PEM,
    "PEM of an elliptic curve": EC_PEM,
    "PEM on one line": PEM.replace("\n", " "),
    "PEM with escapes": PEM.replace("\n", "\\n"),
    "PEM in JSON": json.dumps({"key": PEM}),
    "a PEM's first line that is cut": PEM.removeprefix("-----BEGIN "),
    "base64": body(PEM),
    "base64 on one line": one_line_of(PEM),
    "base64 with escapes": body(EC_PEM).replace("\n", "\\n"),
    "one line of base64": body(PEM).splitlines()[3],
    "hexadecimal digits": DER.hex(),
    "digits with colons": DER.hex(":"),
    "digits with dashes": DER.hex("-"),
    "numbers": str(list(DER)),
    "signed numbers": str(signed(DER)),
    "array of C": c_array(DER),
    "repr of bytes": repr(DER[-600:]),
    "bytes that are all written out": "".join(f"\\x{byte:02x}" for byte in DER),
    "base64 of PEM": base64.b64encode(PEM.encode()).decode(),
}
VALUES: dict[str, Any] = TEXTS | {
    "path": Path(PEM),
    "DER": DER,
    "bytes of PEM": bytearray(PEM.encode()),
    "numbers of TOML": list(DER),
    "list": [PEM],
    "tuple of bytes": (DER,),
    "dict": {"a": [Path(body(PEM))]},
    "key of a dict": {PEM: 1},
}
FEW_TEXTS = {name: TEXTS[name] for name in ("PEM", "base64 on one line", "hexadecimal digits")}
"""For what reads text and leaves the values to the classes, which see all forms."""

PIECES = frozenset(
    text[start : start + PIECE]
    for text in (
        *map(one_line_of, (PEM, EC_PEM)),
        *written(DER),
        TEXTS["base64 of PEM"],
    )
    for start in range(len(text) - PIECE + 1)
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def secure_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_credentials(tmp_path_factory.mktemp("credentials"), trustme.CA())


def has_piece(text: str) -> bool:
    text = text.replace("\\\\", "\\").replace("\\n", "").replace("\n", "")
    return any(text[start : start + PIECE] in PIECES for start in range(len(text) - PIECE + 1))


def said_by(error: BaseException | None) -> Iterator[str]:
    """All that an exception and those behind it say, if they are printed or not."""
    if error is not None:
        yield "".join(traceback.format_exception(error))
        yield from map(str, (error, repr(error), error.args, vars(error), getattr(error, "filename", "")))
        yield from said_by(error.__cause__)
        yield from said_by(error.__context__)


def refusal(make: Callable[[], object]) -> str | None:
    """What is said of a configuration that is refused, and tells nothing; None if it is not refused."""
    refused: ConfigError | None = None
    try:
        make()
    except ConfigError as error:
        refused = error
    if refused is None:
        return None
    assert not any(map(has_piece, said_by(refused)))
    assert len(str(refused)) < 1000
    return str(refused)


def settings_of(kind: type) -> Iterator[tuple[type, str]]:
    """The fields of a class of settings and of its parts."""
    for field in attrs.fields(kind):
        yield kind, field.name
        if hasattr(type(field.default), "SECTION"):
            yield from settings_of(type(field.default))


FIELDS = list(settings_of(ClusterConfig))
OPTIONS = list(_options(ClusterConfig))


def test_the_search_finds_what_it_looks_for() -> None:
    for value in VALUES.values():
        assert has_piece(repr(value))
    leaking = ConfigError("cannot read it")
    leaking.__context__ = OSError(2, "No such file", PEM)
    assert any(map(has_piece, said_by(leaking)))
    assert len(FIELDS) > 50
    assert len(OPTIONS) > 50


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_no_field_shows_a_key(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for kind, name in FIELDS:
        fields = {"crunch_id": "c"} if kind is ClusterConfig else {}
        fields |= {name: value}
        said = refusal(lambda kind=kind, fields=fields: kind(**fields))
        assert name in (said or ""), name
    assert not has_piece(caplog.text)


@pytest.mark.parametrize("text", FEW_TEXTS.values(), ids=FEW_TEXTS)
def test_no_environment_variable_that_holds_a_key_is_shown(
    text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in OPTIONS:
        with monkeypatch.context() as environment:
            environment.setenv(f"{PREFIX}CRUNCH_ID", "c")
            if name == "credentials_path":
                environment.setenv(f"{PREFIX}CREDENTIALS_MODE", "gateway")
            environment.setenv(PREFIX + name.replace(".", "_").upper(), text)
            said = refusal(ClusterConfig.load)
        assert name in (said or ""), name
    assert not has_piece(caplog.text)


@pytest.mark.parametrize("inside", [False, True], ids=["text", "list"])
@pytest.mark.parametrize("text", FEW_TEXTS.values(), ids=FEW_TEXTS)
def test_no_setting_of_a_file_that_holds_a_key_is_shown(text: str, inside: bool, tmp_path: Path) -> None:
    value = json.dumps([text] if inside else text)  # TOML's basic strings are as JSON's
    path = tmp_path / "settings.toml"
    for name in OPTIONS:
        *parts, last = name.split(".")
        lines = [] if parts else ["crunch_id = 'c'"] if last != "crunch_id" else []
        if last == "credentials_path":
            lines.append("credentials_mode = 'secure'")
        table = ".".join(("trio-model-runner", *parts))
        before = "[trio-model-runner]\ncrunch_id = 'c'\n" if parts else ""
        path.write_text("\n".join([f"{before}[{table}]", *lines, f"{last} = {value}"]))
        said = refusal(lambda: ClusterConfig.load(path))
        assert last in (said or ""), name


@pytest.mark.parametrize(
    "content",
    [
        "[trio-model-runner]\ncrunch_id = 'c'\n{key} = 1",
        "[trio-model-runner]\ncrunch_id = 'c'\nlimits.{key} = 1",
        "[trio-model-runner]\ncrunch_id = 'c'\n[trio-model-runner.{key}]\na = 1",
        "[{key}]\ncrunch_id = 'c'",
        "[trio-model-runner]\n{key} = 1\n{key} = 2",
        "[{key}]\n[{key}]",
        "[trio-model-runner.{key}]\na = 1\n[trio-model-runner]\n{key}.b = 2",
        "[trio-model-runner]\na = {key}x",
    ],
)
@pytest.mark.parametrize("text", FEW_TEXTS.values(), ids=FEW_TEXTS)
def test_no_name_in_a_file_is_shown_that_is_a_key(text: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(content.replace("{key}", json.dumps(text)))
    assert refusal(lambda: ClusterConfig.load(path)) is not None


@pytest.mark.parametrize("content", [PEM.encode(), body(PEM).encode(), DER], ids=["PEM", "base64", "DER"])
def test_a_file_that_is_a_key_is_not_shown_in_place_of_settings(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(content)
    assert str(path) in (refusal(lambda: ClusterConfig.load(path)) or "")


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_says_where_the_settings_are_is_not_shown_if_it_is_a_key(text: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("[trio-model-runner]\ncrunch_id = 'c'")
    for arguments in ({"path": text}, {"path": path, "section": text}, {"env_prefix": text}):
        assert refusal(lambda arguments=arguments: ClusterConfig.load(**arguments)) is not None


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_credentials_show_no_key_that_stands_in_place_of_a_path(value: Any, tmp_path: Path) -> None:
    good = tmp_path / "key.pem"
    good.write_text(PEM)
    for load in (
        lambda: GatewayCredentials.from_files(key_path=value),
        lambda: GatewayCredentials.from_files(key_path=good, cert_path=value),
        lambda: read_file(value),
    ):
        assert refusal(load) is not None
    for of_directory in (GatewayCredentials.from_directory, SecureCredentials.from_directory):
        assert refusal(lambda load=of_directory: load(value)) is not None


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_secure_credentials_show_no_key_that_stands_in_place_of_a_path(
    text: str, place: int, secure_directory: Path
) -> None:
    paths: list[str | Path] = [secure_directory / name for name in ("ca.crt", "tls.crt", "tls.key")]
    assert refusal(lambda: SecureCredentials.from_files(*paths)) is None
    paths[place] = text
    assert "a path is wanted" in (refusal(lambda: SecureCredentials.from_files(*paths)) or "")


def test_credentials_are_read_from_bytes_alone() -> None:
    assert "key_pem: must be bytes, got str" in (refusal(lambda: GatewayCredentials.from_pem(PEM)) or "")  # type: ignore[arg-type]
    assert GatewayCredentials.from_pem(bytearray(PEM.encode())).public_key  # type: ignore[arg-type]


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_network_shows_no_key_that_stands_in_place_of_its_setting(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^network\.happy_eyeballs_delay: must be a finite") as raised:
        TCPNetwork(value)
    assert not any(map(has_piece, said_by(raised.value)))


def test_it_is_said_what_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{PREFIX}CRUNCH_ID", "c")
    monkeypatch.setenv(f"{PREFIX}TLS_CA_FILE", PEM)
    assert refusal(ClusterConfig.load) == (
        "tls_ca_file: holds PEM text; a path is wanted"
        " (from environment variable TRIO_MODEL_RUNNER_TLS_CA_FILE)"
    )
    assert refusal(lambda: ClusterConfig("c", tls_ca_file=DER)) == (  # type: ignore[arg-type]
        f"tls_ca_file: holds {len(DER)} bytes; a path is wanted"
    )
    assert refusal(lambda: ClusterConfig("c", timeout=PEM)) == (  # type: ignore[arg-type]
        "timeout: must be a number of seconds > 0, got PEM text (not shown)"
    )
    assert refusal(lambda: ClusterConfig("c", allowed_networks=["10.0.0.0/8", PEM])) == (  # type: ignore[list-item]
        "allowed_networks: must be networks such as '10.0.0.0/8', or 'off',"
        " got tuple with PEM text (not shown)"
    )


@pytest.mark.parametrize(
    "key",
    [
        "K7mQ2xVb9RtY4uNcZ8wLp3JdHs6GfE1aXoTiWqMvB5k=",
        "5Kb8kLf9zgWQnogidDA76MzPL6TsZZY36hWXMssSzNydYXYB9KF",
        "4f" * 32,
    ],
    ids=["base64", "base58", "hexadecimal"],
)
def test_a_short_key_is_no_name(key: str) -> None:
    with pytest.raises(
        ConfigError, match="crunch_id: holds text that could be a key; a name is wanted"
    ) as raised:
        ClusterConfig(key)
    assert key not in str(raised.value)
    with pytest.raises(
        ConfigError, match=r"host: must be a host name .*, got text that could be a key"
    ) as raised:
        ClusterConfig("c", key)
    assert key not in str(raised.value)


@pytest.mark.parametrize(
    "name",
    [
        "bird-game-2026",
        "BirdGame2026-Season3-FinalRound-B2B-v1",
        "structural-break-open-benchmark-of-the-winter-2025-2026",
        "3f2b8c1e-7d64-4c8e-9b35-0a1d2e3f4a5b",
        "3F2B8C1E-7D64-4C8E-9B35-0A1D2E3F4A5B",
        "507f1f77bcf86cd799439011",
        "9e107d9d372bb6826bd81d3542a419d6",
        "9E107D9D372BB6826BD81D3542A419D6",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "V1StGXR8_Z5jdHi6B-myT",
        "bird-" * 40,
        "Bird2026-R1-B2B-Game3-Season4-Rd5-V1a2",
    ],
)
def test_honest_names_of_crunches_are_taken(name: str) -> None:
    assert ClusterConfig(name).crunch_id == name


@given(st.uuids())
def test_every_uuid_is_an_honest_name(name: uuid.UUID) -> None:
    for text in (str(name), str(name).upper(), name.hex):
        assert ClusterConfig(text).crunch_id == text


def test_a_name_has_at_most_200_characters() -> None:
    assert refusal(lambda: ClusterConfig("bird-" * 40 + "s")) == (
        "crunch_id: must be a name of at most 200 characters, got 201"
    )


def test_a_key_as_a_url_has_it_is_known() -> None:
    assert kind_of_secret("ILI%2Fqn3tK7mQ2xVb9RtY%2B4uNcZ8wLp3JdHs6GfE1aXo") == "text that could be a key"


def test_a_key_in_pieces_of_which_none_is_a_key_is_not_shown() -> None:
    """The last line of a key is too short to be known as such."""
    lines = ["a b c d", *EC_PEM.splitlines()]
    said = refusal(lambda: ClusterConfig("c", gateway_hosts=lines))
    assert "got tuple with PEM text (not shown)" in (said or "")
    assert refusal(lambda: ClusterConfig("c", gateway_hosts=[1, *lines])) is not None
    assert "a b c d" not in (said or "")


def test_a_number_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(f"[trio-model-runner]\ncrunch_id = 'c'\ntimeout = {'9' * 5000}")
    said = refusal(lambda: ClusterConfig.load(path))
    assert said == f"cannot read {str(path)!r}: has a number of too many digits"


def test_credentials_can_not_be_pickled_and_a_copy_shows_as_little() -> None:
    credentials = GatewayCredentials.from_pem(PEM.encode())
    config = ClusterConfig("c", credentials=credentials)
    for each in (credentials, config):
        assert not has_piece(repr(each) + str(each))
        with pytest.raises(TypeError) as raised:
            pickle.dumps(each)
        assert not any(map(has_piece, said_by(raised.value)))


@pytest.mark.parametrize(
    "value",
    [
        "/etc/birds/credentials",
        "/var/lib/Kubernetes-1.29/pods/3f2b8c1e-7d64-4c8e-9b35-0a1d2e3f4a5b/volumes/secret/tls.key",
        "/private/var/folders/zz/zyxvpxvq6csfxvn_n0000000000000/T/pytest-of-bird/pytest-12/test_it0/key.pem",
        r"C:\new\run\x86\bird game\key.pem",
        r"C:\xeon\x86\xa1\new\u00e9\xbed\key.pem",
        "2026-11-26-03-29-51-02-17-birds",
        "00:1b:44:11:3a:b7-00:1b:44:11:3a:b8",
        "model-node-13367.crunchdao.internal",
        "orchestrator.example.org",
        "10.0.0.0/8",
        "off",
        "ünïcode",
        "the directory of the Credentials for the Birds of 2024, which is on the other Disk",
        ["10.0.0.0/8", "fd00::/8"],
        {"a": 1, "b": [None, True]},
        1e-300,
        10**30,
        -1,
        None,
    ],
)
def test_ordinary_values_are_shown(value: object) -> None:
    assert kind_of_secret(value) is None
    assert shown(value) == repr(value)


def test_long_values_are_shortened() -> None:
    assert shown("bird " * 1000, 10) == "'bird bird..."
    assert len(shown(["word"] * 1000)) == 103


def test_a_value_without_a_repr_is_shown_by_its_kind() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    assert shown(Odd()) == "<Odd>"
    assert shown(10**10_000) == "<int>"  # Python refuses to write it down


@given(st.binary(min_size=48, max_size=4096))
def test_no_random_key_is_taken_for_an_ordinary_text(secret: bytes) -> None:
    """Random bytes of hypothesis are not that random: those that repeat a byte are no key."""
    text = secret.hex()
    assert kind_of_secret(text) is not None
    assert kind_of_secret(f"/etc/birds/{text}/key.pem") is not None
    assert kind_of_secret([{"a": secret}]) is not None
