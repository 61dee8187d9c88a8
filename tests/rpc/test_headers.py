"""The memories in `rpc.headers` against plain hpack on the other side."""

from __future__ import annotations

from typing import TypeAlias

import pytest
from hpack import Decoder, Encoder, HPACKError, OversizedHeaderListError
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_model_runner.rpc.headers import HeaderBlock, HeaderDecoder, HeaderEncoder, RawFields

NAMES = st.sampled_from([b"a", b"b", b"grpc-status", b":status", b"content-type", b"x" * 50])
VALUES = st.sampled_from([b"", b"0", b"1", b"200", b"application/grpc", b"v" * 40, b"w" * 300]) | st.binary(
    max_size=20
)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=6).map(tuple)
SIZES = st.sampled_from([0, 33, 60, 100, 200, 4096, 4096, 65_536])

Step: TypeAlias = "tuple[int, RawFields, list[int]]"


@st.composite
def sequences(draw: st.DrawFn) -> tuple[list[RawFields], list[Step]]:
    """A few lists of fields, and a long sequence that mostly repeats them, with table sizes between."""
    pool = draw(st.lists(FIELDS, min_size=1, max_size=4))
    index = st.integers(0, len(pool) - 1)
    resizes = st.just([]) | st.just([]) | st.lists(SIZES, max_size=4)
    fresh = st.just(()) | st.just(()) | st.just(()) | FIELDS
    return pool, draw(st.lists(st.tuples(index, fresh, resizes), min_size=5, max_size=60))


@settings(deadline=None, max_examples=300)
@given(sequences())
def test_what_the_encoder_writes_means_the_same_to_any_decoder(
    sequence: tuple[list[RawFields], list[Step]],
) -> None:
    pool, steps = sequence
    encoder, decoder = HeaderEncoder(), Decoder()
    for index, volatile, sizes in steps:
        for size in sizes:
            encoder.limit_table(size)
            decoder.max_allowed_table_size = size
        block = encoder.encode(pool[index], volatile)
        assert tuple(decoder.decode(block, raw=True)) == (*pool[index], *volatile)
        assert decoder.header_table_size <= decoder.max_allowed_table_size


@settings(deadline=None, max_examples=300)
@given(sequences())
def test_the_decoder_reads_what_any_encoder_writes(sequence: tuple[list[RawFields], list[Step]]) -> None:
    pool, steps = sequence
    encoder, decoder, plain = Encoder(), HeaderDecoder(1 << 20), Decoder()
    for index, sensitive, sizes in steps:
        for size in [min(size, 4096) for size in sizes]:
            if size != encoder.header_table_size:  # hpack forgets a change that is made twice
                encoder.header_table_size = size
        block = encoder.encode([*pool[index], *((name, value, True) for name, value in sensitive)])
        expected = tuple((n.decode("latin-1"), v.decode("latin-1")) for n, v in plain.decode(block, raw=True))
        assert decoder.decode(block) == expected
        assert decoder._decoder.header_table.dynamic_entries == plain.header_table.dynamic_entries


BLOCK = st.lists(
    st.one_of(
        st.sampled_from([b"\x20", b"\x3f\x45", b"\x3f\xe1\x1f"]),  # table sizes 0, 100, 4096
        st.integers(0x81, 0xC4).map(lambda byte: bytes((byte,))),  # indexed fields
        st.builds(lambda name, value: b"\x40\x01" + name + b"\x01" + value, st.binary(min_size=1, max_size=1),
                  st.binary(min_size=1, max_size=1)),
        st.just(b"\x40\x01a\x7f\xa1\x1f" + bytes(4128)),  # too large for the table, which it empties
        st.just(b"\x00\x01a\x01b"),
    ),
    max_size=4,
).map(b"".join)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(
    st.lists(BLOCK, min_size=1, max_size=4).flatmap(lambda pool: st.lists(st.sampled_from(pool), max_size=40))
)
def test_blocks_that_only_a_strange_encoder_writes_mean_the_same_with_a_memory(blocks: list[bytes]) -> None:
    decoder, plain = HeaderDecoder(1 << 20), Decoder(max_header_list_size=1 << 20)
    for block in blocks:
        try:
            fields = tuple(
                (n.decode("latin-1"), v.decode("latin-1")) for n, v in plain.decode(block, raw=True)
            )
        except HPACKError as error:
            with pytest.raises(type(error)):
                decoder.decode(block)
            return
        assert decoder.decode(block) == fields


@settings(max_examples=500)
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_any_bytes_give_fields_or_an_error_of_hpacks(blocks: list[bytes]) -> None:
    decoder = HeaderDecoder(1000)
    try:
        for block in blocks:
            assert sum(len(name) + len(value) + 32 for name, value in decoder.decode(block)) <= 1000
    except HPACKError:
        pass


def test_equal_fields_are_worked_out_once_the_table_has_settled() -> None:
    encoder, fields = HeaderEncoder(), ((b":method", b"POST"), (b"user-agent", b"test"))
    first, second, third = (encoder.encode(fields) for _ in range(3))
    assert len(first) > len(second)
    assert third is second
    decoder = HeaderDecoder(1 << 14)
    decoder.decode(first)
    assert decoder.decode(second) is decoder.decode(bytes(bytearray(second)))


def test_a_block_is_read_anew_when_the_tables_size_has_changed() -> None:
    encoder, decoder, fields = Encoder(), HeaderDecoder(1 << 14), ((b"a", b""),)
    encoder.header_table_size = 0
    decoder.decode(encoder.encode(()))
    assert decoder.decode(encoder.encode(fields)) == (("a", ""),)  # and nothing fits into the table
    encoder.header_table_size = 33
    decoder.decode(encoder.encode(()))
    assert decoder.decode(encoder.encode(fields)) == (("a", ""),)  # the very same bytes, and now it fits
    assert decoder.decode(encoder.encode(fields)) == (("a", ""),)  # as an index


def test_volatile_fields_stay_out_of_the_table() -> None:
    encoder, decoder = HeaderEncoder(), Decoder()
    for number in range(3):
        fields = decoder.decode(encoder.encode((), ((b"grpc-timeout", b"%dn" % number),)), raw=True)
        assert [field.indexable for field in fields] == [False]
    assert not decoder.header_table.dynamic_entries


def test_memories_are_bounded() -> None:
    encoder, decoder = HeaderEncoder(), HeaderDecoder(1 << 14)
    for number in range(300):
        decoder.decode(b"\x00\x01a\x03%03d" % number)
    encoder.limit_table(0)
    for number in range(300):
        encoder.encode(((b"a", b"%d" % number),))
    assert 0 < len(decoder._known) <= 32
    assert 0 < len(encoder._blocks) <= 32


def test_a_list_of_headers_over_the_limit_is_refused() -> None:
    decoder = HeaderDecoder(100)
    assert decoder.decode(b"\x00\x01a\x01b" * 2) == (("a", "b"),) * 2
    with pytest.raises(OversizedHeaderListError):
        decoder.decode(b"\x00\x01a\x01b" * 3)


def test_a_block_gathers_its_frames() -> None:
    block = HeaderBlock(3, end_stream=True)
    for part in (b"a", b"", b"bc"):
        block.add(part)
    assert (bytes(block.data), block.frames, block.stream_id, block.end_stream) == (b"abc", 3, 3, True)
