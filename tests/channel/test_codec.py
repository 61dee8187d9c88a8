"""`channel.codec`: betterproto's messages come back as they were, and damage is a ValueError."""

from __future__ import annotations

import pytest
from helpers.channel_messages import (
    NODE_MESSAGES,
    Everything,
    Recursive,
    WithMap,
    WithOneof,
    any_message,
    as_tuple,
    same,
)
from hypothesis import example, given
from hypothesis import strategies as st

from trio_model_runner.channel.codec import BetterprotoCodec
from trio_model_runner.proto.commons import Status
from trio_model_runner.proto.dynamic_subclass import CallRequest
from trio_model_runner.rpc.message_reader import message_reader


@given(any_message())
def test_the_codec_gives_back_what_it_was_given(message):
    codec = BetterprotoCodec()
    data = codec.encode(message, type(message))
    assert data == bytes(message)
    assert same(as_tuple(codec.decode(data, type(message))), as_tuple(type(message)().parse(data)))


def test_the_codec_refuses_another_type_of_message():
    with pytest.raises(TypeError, match="must be a CallRequest"):
        BetterprotoCodec().encode(Status(), CallRequest)


@given(st.sampled_from([*NODE_MESSAGES, Everything, WithMap, WithOneof, Recursive]), st.binary())
@example(Status, b"\x0a\x05abc")
@example(Recursive, b"\x0a\x01\x10")
def test_the_codec_raises_value_errors_alone_for_garbage(message_type, data):
    codec = BetterprotoCodec()
    try:
        message = codec.decode(data, message_type)
    except ValueError:
        return
    assert isinstance(message, message_type)


def test_the_codec_refuses_text_that_was_cut_off():
    with pytest.raises(ValueError, match="not a Status"):
        BetterprotoCodec().decode(b"\x0a\x05abc", Status)


@pytest.mark.parametrize("message_type", [WithMap, WithOneof, Recursive])
def test_a_message_that_no_reader_is_made_for_is_read_by_betterproto(message_type):
    with pytest.raises(TypeError):
        message_reader(message_type)
    assert BetterprotoCodec().decode(b"", message_type) == message_type()
