"""Who else could read a private key, or put another one in its place: what is said of that."""

from __future__ import annotations

import errno
import io
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from trio_model_runner.errors import ConfigError
from trio_model_runner.security import GatewayCredentials, SecureCredentials, keys


def pem_of(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def refusal(load: Any, *arguments: Any, **keywords: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        load(*arguments, **keywords)
    return str(raised.value)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_key_of_its_owner_alone_is_worth_no_word(
    directory: Path, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    (directory / "tls.key").chmod(mode)
    SecureCredentials.from_directory(directory)
    assert not caplog.records


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_private_key_that_others_may_read_is_warned_of(
    directory: Path, rsa_key: rsa.RSAPrivateKey, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    path = directory / "key.pem"
    path.write_bytes(pem_of(rsa_key))
    path.chmod(mode)
    (directory / "tls.key").chmod(mode)
    SecureCredentials.from_directory(directory)
    GatewayCredentials.from_directory(directory)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert [record.name for record in caplog.records] == ["trio_model_runner.security"] * 2
    assert str(directory / "tls.key") in caplog.text
    assert f"(mode {mode:03o})" in caplog.text


@pytest.mark.parametrize(("mode", "warned"), [(0o777, 1), (0o775, 1), (0o757, 1), (0o1777, 0), (0o755, 0)])
def test_a_directory_in_which_others_may_replace_a_private_key_is_warned_of(
    directory: Path, caplog: pytest.LogCaptureFixture, mode: int, warned: int
) -> None:
    directory.chmod(mode)
    SecureCredentials.from_directory(directory)
    assert len(caplog.records) == warned
    assert all(f"the directory {str(directory)!r} is open to other users" in each for each in caplog.messages)
    assert all(f"(mode {mode:03o})" in each for each in caplog.messages)


@pytest.mark.parametrize("opened", ["links", "middle", "target"])
def test_directories_of_links_to_a_private_key_are_warned_of(
    tmp_path: Path, rsa_key: rsa.RSAPrivateKey, caplog: pytest.LogCaptureFixture, opened: str
) -> None:
    for name in ("links", "middle", "target"):
        (tmp_path / name).mkdir(0o700)
    (tmp_path / "target" / "key").write_bytes(pem_of(rsa_key))
    (tmp_path / "target" / "key").chmod(0o600)
    (tmp_path / "middle" / "key").symlink_to("../target/key")
    (tmp_path / "links" / "key.pem").symlink_to(tmp_path / "middle" / "key")
    GatewayCredentials.from_directory(tmp_path / "links")
    assert not caplog.records
    (tmp_path / opened).chmod(0o770)
    GatewayCredentials.from_directory(tmp_path / "links")
    (message,) = caplog.messages
    assert f"the directory {str(tmp_path / opened)!r} is open" in message


def put_key(directory: Path, key: rsa.RSAPrivateKey) -> Path:
    """Write a gateway's key, which its owner alone may read, in a directory like that."""
    directory.mkdir(mode=0o700, parents=True)
    path = directory / "key.pem"
    path.write_bytes(pem_of(key))
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("spelling", ["plain", "relative", "dots"])
def test_a_directory_further_up_in_which_others_may_replace_the_next_is_warned_of(
    tmp_path: Path,
    rsa_key: rsa.RSAPrivateKey,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    spelling: str,
) -> None:
    path = put_key(tmp_path / "open" / "middle" / "own", rsa_key)
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "middle").chmod(0o777)  # one warning is enough
    if spelling == "relative":
        monkeypatch.chdir(path.parents[1])
        path = Path("own", "key.pem")
    elif spelling == "dots":
        (tmp_path / "other").mkdir(0o700)
        path = tmp_path / "other" / ".." / "open" / "middle" / "own" / "key.pem"
    GatewayCredentials.from_files(key_path=path)
    (message,) = caplog.messages
    assert message.startswith(f"the private key in {str(path)!r} can be replaced: ")
    assert f"the directory {str(tmp_path / 'open')!r} is open to other users" in message


@pytest.mark.parametrize("absolute", [True, False])
def test_a_directory_that_is_a_link_in_an_open_one_is_warned_of(
    tmp_path: Path, rsa_key: rsa.RSAPrivateKey, caplog: pytest.LogCaptureFixture, absolute: bool
) -> None:
    put_key(tmp_path / "safe" / "own", rsa_key)
    links = tmp_path / "links"
    links.mkdir(0o700)
    (links / "credentials").symlink_to(tmp_path / "safe" / "own" if absolute else "../safe/own")
    GatewayCredentials.from_directory(links / "credentials")
    assert not caplog.records
    links.chmod(0o777)
    GatewayCredentials.from_directory(links / "credentials")
    (message,) = caplog.messages
    assert f"the directory {str(links)!r} is open" in message


@pytest.mark.parametrize(
    ("foreign", "mode", "warned"),
    [
        ("top/own/key.pem", 0o700, True),
        ("top/own", 0o700, True),
        ("top", 0o700, True),
        ("top/link", 0o1777, True),  # its owner can replace it
        ("top/link", 0o700, False),
        ("aside", 0o700, False),
    ],
)
def test_what_belongs_to_another_user_on_the_way_to_a_private_key_is_warned_of(
    tmp_path: Path,
    rsa_key: rsa.RSAPrivateKey,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    foreign: str,
    mode: int,
    warned: bool,
) -> None:
    put_key(tmp_path / "top" / "own", rsa_key)
    (tmp_path / "top" / "link").symlink_to("own")
    (tmp_path / "top").chmod(mode)
    owner, lstat = os.geteuid() + 1, Path.lstat

    def of_another(path: Path) -> os.stat_result:
        """As if `foreign` were another user's: only root could give it away."""
        status = lstat(path)
        if path != tmp_path / foreign:
            return status
        return os.stat_result((*status[:4], owner, *status[5:]))

    monkeypatch.setattr(Path, "lstat", of_another)
    GatewayCredentials.from_directory(tmp_path / "top" / "link")
    said = (
        f"can be replaced: {str(tmp_path / foreign)!r} belongs to another user of this machine (uid {owner})"
    )
    assert [each.partition("key.pem' ")[2] for each in caplog.messages] == [said] * warned


def test_links_without_end_are_not_followed_for_ever(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert len(list(keys._steps_to(tmp_path / "loop"))) < 40  # it may be made after the key was read


def test_a_file_that_one_would_wait_for_is_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``/proc/kmsg`` is a regular file, and root alone may read it."""

    class Waiting(io.BytesIO):
        def fileno(self) -> int:
            return descriptor

        def read(self, size: int | None = -1, /) -> Any:
            return None

    path = tmp_path / "key.pem"
    path.touch()
    with path.open("rb") as file:
        descriptor = file.fileno()
        monkeypatch.setattr(keys, "open", lambda *_, **__: Waiting(), raising=False)
        said = refusal(GatewayCredentials.from_files, key_path=path)
    assert said == f"cannot read {str(path)!r}: {os.strerror(errno.EAGAIN)}"


@pytest.mark.parametrize("value", [b"/etc/birds", ["/etc/birds"], {"path": 1}, 7, None])
def test_what_is_no_path_is_refused(tmp_path: Path, directory: Path, value: Any) -> None:
    said = {bytes: "10 bytes", list: "type list", dict: "type dict", int: "type int"}
    kind = said.get(type(value), "type NoneType")
    good = [directory / name for name in ("ca.crt", "tls.crt", "tls.key")]
    texts = [refusal(each.from_directory, value) for each in (GatewayCredentials, SecureCredentials)]
    texts += [refusal(SecureCredentials.from_files, *good[:n], value, *good[n + 1 :]) for n in range(3)]
    arguments = ["path", "path", "ca_cert_path", "tls_cert_path", "tls_key_path"]
    for text, argument in zip(texts, arguments, strict=True):
        assert text.startswith(f"{argument}: holds ")
        assert text.endswith(f"{kind}; a path is wanted")
    assert "tls.key" not in refusal(GatewayCredentials.from_files, key_path=value)
