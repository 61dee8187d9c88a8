"""`rpc.protocol`: what gRPC puts on HTTP/2."""

from __future__ import annotations

import contextlib
import math
from fractions import Fraction

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from hypothesis import example, given
from hypothesis import strategies as st

from trio_model_runner.rpc.headers import Fields
from trio_model_runner.rpc.messages import message_prefix
from trio_model_runner.rpc.protocol import encode_timeout, raise_for_status, request_fields

UNITS = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "S": Fraction(1),
    "M": Fraction(60),
    "H": Fraction(3600),
}
ROUNDING = Fraction(1, 2**50)  # of floats
HEADERS = ((":status", "200"), ("content-type", "application/grpc"))


@given(st.floats(allow_nan=False))
@example(0.0)
@example(-0.0)
@example(5e-324)
@example(-math.inf)
@example(math.inf)
@example(99_999_999 * 3600.0)
@example(math.nextafter(99_999_999 * 3600.0, math.inf))
@example(0.0999999991)
def test_a_timeout_has_at_most_8_digits_and_is_never_rounded_down(seconds: float) -> None:
    fields = encode_timeout(seconds)
    if seconds > 99_999_999 * 3600.0:
        assert fields == ()
        return
    [(name, value)] = fields
    digits, unit = value[:-1].decode(), value[-1:].decode()
    assert name == b"grpc-timeout"
    assert digits.isdecimal()
    assert digits[0] != "0"
    assert len(digits) <= 8
    told = int(digits) * UNITS[unit]
    given_ = Fraction(max(seconds, 0.0))
    assert told >= given_ * (1 - ROUNDING)
    assert told - given_ <= max(UNITS[unit], given_ * ROUNDING) * (1 + ROUNDING)


@pytest.mark.parametrize(
    ("seconds", "value"),
    [
        (-1.0, b"1n"),
        (0.0, b"1n"),
        (1e-12, b"1n"),
        (1e-9, b"1n"),
        (0.05, b"50000000n"),
        (0.5, b"500000u"),
        (1, b"1000000u"),
        (10.0, b"10000000u"),
        (60.0, b"60000000u"),
        (120.0, b"120000m"),
        (1e6, b"1000000S"),
        (1e9, b"16666667M"),
    ],
)
def test_a_timeout_is_told_in_the_finest_unit_that_fits(seconds: float, value: bytes) -> None:
    assert encode_timeout(seconds) == ((b"grpc-timeout", value),)


def test_no_timeout_is_told_for_infinity() -> None:
    assert encode_timeout(math.inf) == ()


def test_a_timeout_must_be_a_number() -> None:
    with pytest.raises(ValueError, match="not a number"):
        encode_timeout(math.nan)


def refusal(headers: Fields, trailers: Fields | None) -> tuple[Status, str | None]:
    with pytest.raises(GRPCError) as raised:
        raise_for_status(headers, trailers)
    return raised.value.status, raised.value.message


def test_status_0_is_fine_in_trailers_and_without() -> None:
    raise_for_status(HEADERS, (("grpc-status", "0"),))
    raise_for_status(HEADERS, (("x", "y"), ("grpc-status", "0"), ("grpc-message", "ignored")))
    raise_for_status((*HEADERS, ("grpc-status", "0")), None)
    raise_for_status(
        ((":status", "200"), ("content-type", "application/grpc+proto"), ("grpc-status", "0")), None
    )


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_every_other_status_is_raised(status: Status) -> None:
    fields = (("grpc-status", str(status.value)), ("grpc-message", "why"))
    assert refusal(HEADERS, fields) == (status, "why")
    assert refusal((*HEADERS, *fields), None) == (status, "why")
    assert refusal(HEADERS, fields[:1]) == (status, None)


@pytest.mark.parametrize("code", ["", "17", "-1", "00", "+0", " 0", "1_0", "\xb2", "OK", "9" * 5000])
def test_a_status_that_grpc_does_not_have_is_unknown_and_never_ok(code: str) -> None:
    status, message = refusal(HEADERS, (("grpc-status", code),))
    assert status is Status.UNKNOWN
    assert message is not None
    assert repr(code)[:20] in message


@pytest.mark.parametrize(
    ("http_status", "status"),
    [
        ("400", Status.INTERNAL),
        ("401", Status.UNAUTHENTICATED),
        ("403", Status.PERMISSION_DENIED),
        ("404", Status.UNIMPLEMENTED),
        ("429", Status.UNAVAILABLE),
        ("502", Status.UNAVAILABLE),
        ("503", Status.UNAVAILABLE),
        ("504", Status.UNAVAILABLE),
        ("500", Status.UNKNOWN),
        ("204", Status.UNKNOWN),
        ("xyz", Status.UNKNOWN),
    ],
)
def test_an_answer_that_is_not_grpcs_has_the_status_that_http_gives_it(
    http_status: str, status: Status
) -> None:
    headers = ((":status", http_status), ("content-type", "text/html"))
    for trailers in (None, (("x", "y"),)):
        found, message = refusal(headers, trailers)
        assert (found, repr(http_status) in (message or "")) == (status, True)


def test_a_status_of_grpcs_counts_more_than_https() -> None:
    headers = ((":status", "503"), ("content-type", "application/grpc"))
    assert refusal((*headers, ("grpc-status", "5")), None) == (Status.NOT_FOUND, None)
    page = (Status.UNAVAILABLE, "the server answered with HTTP status '503'")
    assert refusal(headers, (("grpc-status", "5"),)) == page  # what is between the two is a page


def test_an_answer_without_status_or_of_another_type_is_unknown() -> None:
    assert refusal(HEADERS, None) == (Status.UNKNOWN, "the answer has no grpc-status")
    assert refusal(HEADERS, ()) == (Status.UNKNOWN, "the answer has no grpc-status")
    assert refusal(((":status", "200"), ("content-type", "text/html")), (("grpc-status", "0"),)) == (
        Status.UNKNOWN,
        "the answer's content-type is 'text/html', not gRPC's",
    )
    assert refusal(((":status", "200"),), (("grpc-status", "0"),))[0] is Status.UNKNOWN


def test_a_status_alone_needs_no_content_type() -> None:
    assert refusal(((":status", "200"), ("grpc-status", "12")), None) == (Status.UNIMPLEMENTED, None)
    assert refusal(((":status", "200"), ("content-type", "text/html"), ("grpc-status", "12")), None) == (
        Status.UNKNOWN,
        "the answer's content-type is 'text/html', not gRPC's",
    )


@pytest.mark.parametrize(
    ("escaped", "text"),
    [("a%20b", "a b"), ("caf%C3%A9 100%25", "café 100%"), ("%FF%zz%", "\ufffd%zz%"), ("", None)],
)
def test_a_message_is_percent_decoded_as_far_as_it_can_be(escaped: str, text: str | None) -> None:
    fields = (("grpc-status", "13"), ("grpc-message", escaped))
    assert refusal(HEADERS, fields) == (Status.INTERNAL, text)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["grpc-status", "grpc-message", "x"]),
            st.text(st.characters(max_codepoint=255), max_size=5) | st.just("0"),
        )
    )
)
def test_only_a_status_0_is_fine_and_all_else_is_a_grpc_error(fields: list[tuple[str, str]]) -> None:
    for trailers in (None, tuple(fields)):
        with contextlib.suppress(GRPCError):
            raise_for_status((*HEADERS, *fields), trailers)
            assert ("grpc-status", "0") in fields


def test_request_headers_are_pseudo_headers_first_then_metadata() -> None:
    fields = request_fields("/a.B/C", scheme="http", authority="host:1", metadata=[("x-token", "t")])
    assert fields[:4] == (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/a.B/C"),
        (b":authority", b"host:1"),
    )
    assert (b"te", b"trailers") in fields
    assert (b"content-type", b"application/grpc") in fields
    assert fields[-1] == (b"x-token", b"t")


def test_a_prefix_says_not_compressed_and_how_long() -> None:
    assert message_prefix(0x01020304) == b"\x00\x01\x02\x03\x04"
