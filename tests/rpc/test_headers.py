"""The memories in `rpc.headers` against plain hpack on the other side."""

from __future__ import annotations

from typing import TypeAlias

import pytest
from hpack import Decoder, Encoder, HPACKError
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_model_runner.rpc.frames import ProtocolViolation
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
        assert decoder.decode(block).fields == expected
        assert decoder._reader.table.dynamic_entries == plain.header_table.dynamic_entries


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
        assert decoder.decode(block).fields == fields


@settings(max_examples=500)
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_any_bytes_give_fields_or_an_error_of_hpacks(blocks: list[bytes]) -> None:
    decoder = HeaderDecoder(1000)
    try:
        for block in blocks:
            assert sum(len(name) + len(value) + 32 for name, value in decoder.decode(block).fields) <= 1000
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
    assert decoder.decode(encoder.encode(fields)).fields == (("a", ""),)  # and nothing fits into the table
    encoder.header_table_size = 33
    decoder.decode(encoder.encode(()))
    assert decoder.decode(encoder.encode(fields)).fields == (
        ("a", ""),
    )  # the very same bytes, and now it fits
    assert decoder.decode(encoder.encode(fields)).fields == (("a", ""),)  # as an index


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


def test_of_a_list_over_the_limit_what_fits_is_kept_and_all_of_it_is_read() -> None:
    decoder, plain = HeaderDecoder(150), Decoder()
    status = (("a", "b"), ("grpc-message", "m" * 90), ("c", "d"), ("x", "y" * 99), ("grpc-status", "13"))
    block = Encoder().encode(status)
    headers = decoder.decode(block)
    assert headers.over_limit
    assert headers.fields == (("a", "b"), ("grpc-message", "m" * (150 - 34 - 44)), ("grpc-status", "13"))
    plain.decode(block)
    assert decoder._reader.table.dynamic_entries == plain.header_table.dynamic_entries
    assert not HeaderDecoder(68).decode(b"\x00\x01a\x01b" * 2).over_limit
    assert HeaderDecoder(67).decode(b"\x00\x01a\x01b" * 2).over_limit


def test_a_block_gathers_its_frames() -> None:
    block = HeaderBlock(3, end_stream=True)
    for part in (b"a", b"", b"bc"):
        block.add(part)
    assert (bytes(block.data), block.frames, block.stream_id, block.end_stream) == (b"abc", 3, 3, True)


def test_what_says_how_a_call_went_is_kept_over_the_limit_if_it_is_short() -> None:
    for name, size, kept in ((b"grpc-status", 64, True), (b"grpc-status", 65, False), (b"x", 1, False)):
        block = b"\x00" + bytes([len(name)]) + name + bytes([size]) + b"1" * size
        headers = HeaderDecoder(33).decode(block)
        assert (len(headers.fields), headers.over_limit) == ((1, False) if kept else (0, True))


def test_an_encoders_table_never_takes_more_than_its_default() -> None:
    """A peer may allow more, and would have us hold it."""
    encoder, decoder = HeaderEncoder(), Decoder()
    encoder.limit_table(1 << 20)
    decoder.max_allowed_table_size = 1 << 20
    for number in range(100):
        decoder.decode(encoder.encode(((b"name-%03d" % number, b"x" * 100),)))
    assert decoder.header_table_size == 4096


@pytest.mark.parametrize(
    ("block", "cost"),
    [
        (b"", 0),
        (b"\x88", 32),
        (b"\x00\x01a\x01b\x10\x01a\x01b", 2 * 32),
        (b"\x40\x01a\x01b", 32 + 64),
        (b"\x40\x01a\x01b\xbe\x41\x01c", 3 * 32 + 2 * 64),
        (b"\x20\x3f\xe1\x1f\x88", 3 * 32),
        (b"\x00\x01a\x81\x07", 32 + 4 * (1 + 8)),  # "0" by Huffman's code
        (b"\x00\x81\x1f\x81\x07", 32 + 4 * 2 * (1 + 8)),
    ],
)
def test_what_a_block_costs_who_sends_it_for_nothing(block: bytes, cost: int) -> None:
    headers = HeaderDecoder(1 << 14).decode(block)
    assert (headers.cost, headers.cost_in_call) == (cost, 0)


def test_what_goes_far_over_the_limit_costs_in_a_call_too() -> None:
    headers = HeaderDecoder(34).decode(b"\x00\x01a\x01b" * 1000)
    assert (len(headers.fields), headers.cost, headers.cost_in_call) == (1, 1000 * 32, 0)
    headers = HeaderDecoder(34).decode(b"\x40\x01a\x01b" * 2000)
    assert (len(headers.fields), headers.cost) == (1, 2000 * 96)
    assert headers.cost_in_call == 1999 * 96 - (128 << 10)


def test_a_field_that_was_decoded_in_part_is_not_kept() -> None:
    """Only so many bytes in Huffman's code are decoded in a block; what is behind may not be whole."""
    large = b"\x00\x01a\xff\xdf\x06" + bytes(990)  # 1,584 times "0"
    small = b"\x00\x01b\xe4" + bytes(100)  # 160 times
    assert HeaderDecoder(1000).decode(small).fields == (("b", "0" * 160),)
    both = HeaderDecoder(1000).decode(large + small)
    assert (both.fields, both.over_limit) == ((), True)


def test_a_large_text_by_huffmans_code_is_decoded_as_far_as_it_is_kept() -> None:
    size = 100_000
    length = b"\xff" + bytes(
        [(size - 127) & 0x7F | 0x80, (size - 127) >> 7 & 0x7F | 0x80, (size - 127) >> 14]
    )
    block = b"\x00\x0cgrpc-message" + length + b"\x07" + b"\x07" * (size - 1)
    headers = HeaderDecoder(1000).decode(block)
    [(name, value)] = headers.fields
    assert (name, len(value), value[:1], headers.over_limit) == ("grpc-message", 1000 - 44, "0", True)
    assert headers.cost < 10_000  # all of it would cost 400,000


@pytest.mark.parametrize(
    "block",
    [
        b"\x3f\xe2\x1f",  # a table of 4097 bytes
        b"\x88\x20",  # a change in the middle
        b"\x20" * 17 + b"\x88",
        b"\x00\x01a\x02b",
        b"\x00\x02a",
        b"\x00",
        b"\x00\x01a",
        b"\xff",
        b"\x80",  # the index 0
        b"\xbe",  # an index into an empty table
        b"\x00\x01a\x82\x07\x00",  # a text that ends in the middle of a code
        b"\xff\x80\x80\x80\x80\x80\x01",
    ],
)
def test_a_malformed_block_is_an_error_of_hpacks(block: bytes) -> None:
    with pytest.raises(HPACKError):
        HeaderDecoder(1 << 14).decode(block)


@pytest.mark.parametrize("block", [b"\x20" * 16 + b"\x88", b"\x3f\xe1\x1f\x88", b"\x3f\xe1\x1f"])
def test_a_block_at_the_edge_of_what_is_allowed_is_read(block: bytes) -> None:
    assert HeaderDecoder(1 << 14).decode(block).fields == ((":status", "200"),) * block.endswith(b"\x88")


def test_a_block_has_at_most_2048_fields() -> None:
    assert len(HeaderDecoder(1 << 20).decode(b"\x88" * 2048).fields) == 2048
    with pytest.raises(ProtocolViolation):
        HeaderDecoder(1 << 20).decode(b"\x88" * 2049)


def test_a_long_block_is_not_remembered() -> None:
    decoder = HeaderDecoder(1 << 14)
    for size, remembered in ((4096 - 6, True), (4097 - 6, False)):
        length = b"\x7f" + bytes([(size - 127) & 0x7F | 0x80, (size - 127) >> 7])
        block = b"\x00\x01a" + length + bytes(size)
        assert (decoder.decode(block) is decoder.decode(block)) is remembered


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 254, 255, 256, 16_510, 16_511, 16_512, 40_000])
def test_a_volatile_field_may_have_any_length(length: int) -> None:
    fields = ((b"a" * (length or 1), b"b" * length),)
    assert tuple(Decoder(1 << 20).decode(HeaderEncoder().encode((), fields), raw=True)) == fields


def test_a_block_may_come_in_128_frames_and_have_a_mib() -> None:
    for parts in ([b"x"] * 128, [bytes(1 << 19)] * 2):
        block = HeaderBlock(1, end_stream=True)
        for part in parts:
            block.add(part)
        with pytest.raises(ProtocolViolation):
            block.add(b"x")


def test_a_text_of_rare_letters_may_fit_into_the_table_though_its_code_does_not() -> None:
    """A letter's code has up to 30 bits, so 4,200 bytes can be 1,120 letters."""
    value = b"\n" * 1120
    block = bytes(Encoder().encode([(b"a", value)], huffman=True))
    assert len(block) > 4200
    decoder = HeaderDecoder(2000)
    assert decoder.decode(block).fields == (("a", "\n" * 1120),)
    assert decoder.decode(b"\xbe").fields == (("a", "\n" * 1120),)


def test_a_block_is_made_anew_when_its_fields_have_left_a_full_table() -> None:
    """One comes in, one goes out: the table is as long as before."""
    encoder, decoder = HeaderEncoder(), Decoder()
    fields = ((b"aaaa", b"x" * 28),)  # 64 bytes: 64 of them fill the table
    for number in range(200):
        for each in (fields, ((b"%04d" % number, b"x" * 28),)):
            assert tuple(decoder.decode(encoder.encode(each), raw=True)) == each


def test_a_change_of_the_tables_size_is_announced_once() -> None:
    encoder = HeaderEncoder()
    encoder.limit_table(100)
    assert [encoder.encode(()) for _ in range(3)] == [b"\x3f\x45", b"", b""]
