"""`rpc.metadata`: what may be sent, and what came. h2's own checks of headers are the oracle."""

from __future__ import annotations

import base64
import re
import traceback
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import MultiDict

from trio_model_runner.rpc.metadata import binary_values, encode_metadata, read_metadata
from trio_model_runner.rpc.protocol import request_fields

HIDDEN = "hunter2"
HEAD = request_fields("/a.B/C", scheme="http", authority="node")
PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
NAMES = [
    *("te", "content-type", "user-agent", "host", "content-length"),
    *("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"),
    *("grpc-timeout", "grpc-encoding", "grpc-", ":path", ":authority", ""),
]
KEYS = st.sampled_from(NAMES) | st.text("abAZ09-_.: \u00e9\0\n", max_size=5) | st.text(max_size=5)


def received(fields: tuple[tuple[bytes, bytes], ...]) -> list[tuple[bytes, bytes]]:
    """What h2's server has of a request with these fields, which h2's client sends; both check them."""
    strict = {"normalize_outbound_headers": False, "normalize_inbound_headers": False}
    client = H2Connection(H2Configuration(client_side=True, header_encoding=None, **strict))
    server = H2Connection(H2Configuration(client_side=False, header_encoding=None, **strict))
    client.initiate_connection()
    client.send_headers(1, [*HEAD, *fields])
    events = server.receive_data(client.data_to_send())
    (request,) = (event for event in events if isinstance(event, RequestReceived))
    return list(request.headers)[len(HEAD) :]


@given(st.lists(st.tuples(KEYS, PRINTABLE | st.text(max_size=5)) | st.tuples(KEYS, st.binary(max_size=5))))
@example([("x-sp", " a")])
@example([("x-tab", "a\t")])
@example([("x-nul", "a\0b")])
@example([("X-Upper", "v")])
def test_what_may_be_sent_is_what_h2_takes(pairs: list[tuple[str, str | bytes]]) -> None:
    try:
        fields = encode_metadata(pairs)
    except (ValueError, TypeError):
        return
    assert received(fields) == list(fields)
    as_text = tuple((key.decode(), value.decode()) for key, value in fields)
    assert list(read_metadata(as_text).items()) == pairs


@pytest.mark.parametrize("key", NAMES)
def test_a_name_that_is_taken_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(repr(key))} can't be a key") as caught:
        encode_metadata({key: HIDDEN})
    assert HIDDEN not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("x", f" {HIDDEN}", ValueError),
        ("x", f"{HIDDEN} ", ValueError),
        ("x", f"{HIDDEN}\t", ValueError),
        ("x", f"{HIDDEN}\n", ValueError),
        ("x", f"{HIDDEN}\r\nb: c", ValueError),
        ("x", f"{HIDDEN}\0", ValueError),
        ("x", f"{HIDDEN}\x7f", ValueError),
        ("x", f"{HIDDEN}\u00fc", ValueError),
        ("x", "", ValueError),
        ("x", HIDDEN.encode(), TypeError),
        ("x", [HIDDEN], TypeError),
        ("x", 5, TypeError),
        ("x", None, TypeError),
        ("x-bin", HIDDEN, TypeError),
        ("x-bin", bytearray(HIDDEN.encode()), TypeError),
        ("Upper", HIDDEN, ValueError),
        ("x y", HIDDEN, ValueError),
        ("x\n", HIDDEN, ValueError),
        ("\u017f", HIDDEN, ValueError),
    ],
)
def test_an_error_names_the_key_and_never_shows_the_value(
    key: str, value: Any, error: type[Exception]
) -> None:
    for metadata in ({key: value}, MultiDict({key: value}), [("fine", "too"), (key, value)]):
        with pytest.raises(error, match=re.escape(repr(key))) as caught:
            encode_metadata(metadata)
        shown = "".join(traceback.format_exception(caught.value, chain=True, limit=0))
        assert HIDDEN not in shown
        assert shown.isascii() == key.isascii()


@pytest.mark.parametrize("key", [5, None, b"x", ("x",)])
def test_a_key_is_text(key: Any) -> None:
    with pytest.raises(TypeError, match="a key must be a str"):
        encode_metadata([(key, HIDDEN)])


def test_a_long_key_is_cut() -> None:
    with pytest.raises(ValueError, match=r"^.{,250}$"):
        encode_metadata({"X" * 10_000: HIDDEN})


@given(st.lists(st.binary(max_size=8), min_size=1), st.sampled_from([",", ", ", " ,\t"]), st.booleans())
@example([b""], ",", False)
@example([b"", b""], ",", True)
def test_binary_values_come_back_from_any_list_joined_by_commas(
    values: list[bytes], comma: str, padded: bool
) -> None:
    parts = [base64.b64encode(value).decode() for value in values]
    text = comma.join(parts if padded else [part.rstrip("=") for part in parts])
    assert binary_values(text) == values
    fields = ((":status", "200"), ("x-bin", text), ("x-text", text))
    assert list(read_metadata(fields).items()) == [*(("x-bin", value) for value in values), ("x-text", text)]


@given(st.text(max_size=8) | st.text("A=+/,- \n", max_size=8))
@example("A")
@example("AAAAA")
@example("AA=A")
@example("A===")
@example("AA\nA")
@example("\u0661")
def test_any_text_is_base64_or_none(text: str) -> None:
    alphabet = "[A-Za-z0-9+/]"
    part = f"[ \t]*({alphabet}{{4}})*({alphabet}{{2,3}})?={{0,2}}[ \t]*"
    values = binary_values(text)
    assert (values is not None) == bool(re.fullmatch(f"{part}(,{part})*", text))


@pytest.mark.parametrize("key", ["x-bin", "token-bin", "-bin"])
def test_what_is_not_base64_is_an_error_with_the_key_alone(key: str) -> None:
    with pytest.raises(GRPCError) as caught:
        read_metadata(((":status", "200"), (key, f"{HIDDEN}!")))
    assert caught.value.status is Status.INTERNAL
    assert caught.value.message is not None
    assert caught.value.message.startswith("the answer's metadata can't be read: ")
    assert repr(key) in caught.value.message
    assert HIDDEN not in "".join(traceback.format_exception(caught.value, chain=True, limit=0))


def test_what_is_grpcs_or_https_is_no_metadata() -> None:
    names = [":status", "content-type", "te", "user-agent", "grpc-status", "grpc-status-details-bin"]
    assert not read_metadata(tuple((name, "!") for name in names))
    assert list(read_metadata((("x-a", "1"), ("date", "today"), ("x-a", "2"))).items()) == [
        ("x-a", "1"),
        ("date", "today"),
        ("x-a", "2"),
    ]


def test_binary_values_are_sent_without_padding() -> None:
    """As "gRPC over HTTP2" wants it; peers take both."""
    assert encode_metadata({"a-bin": b"x", "b-bin": b"xy", "c-bin": b"xyz"}) == (
        (b"a-bin", b"eA"),
        (b"b-bin", b"eHk"),
        (b"c-bin", b"eHl6"),
    )
