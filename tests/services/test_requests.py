"""Requests are what protobuf's own encoding of their messages is, without a copy of what is large.

Answers are read by the fields that the generated messages have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import betterproto
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_model_runner import (
    Arguments,
    DataType,
    DynamicSubclassService,
    Encoded,
    ModelRunnerService,
    TrainInferService,
)
from trio_model_runner import proto as first_release
from trio_model_runner.proto.commons import Argument, KwArgument, Variant, VariantType
from trio_model_runner.proto.dynamic_subclass import (
    CallRequest,
    CallResponse,
    RestResponse,
    SetupRequest,
    SetupResponse,
)
from trio_model_runner.proto.train_infer import InferRequest, InferResponse
from trio_model_runner.rpc.message_reader import Field, fields_of
from trio_model_runner.services import NodeService, Request, messages

TYPES = [each for each in DataType if each is not DataType.NONE]
LENGTHS = st.sampled_from([0, 1, 127, 128, 16_383, 16_384, 65_535, 65_536, 2_097_152])
VALUES = st.builds(
    lambda data_type, length: Encoded(data_type, b"x" * length), st.sampled_from(TYPES), LENGTHS
)
KEYWORDS = st.text(st.characters(codec="utf-8"), max_size=140)


def bytes_of(request: Request) -> bytes:
    return b"".join(request.message)


def variant(value: Encoded) -> Variant:
    return Variant(type=VariantType(int(value.data_type)), value=value.data)


@given(st.lists(VALUES, max_size=3), st.dictionaries(KEYWORDS, VALUES, max_size=2))
def test_calls_and_setups_by_name(positional: Sequence[Encoded], keyword: Mapping[str, Encoded]) -> None:
    arguments = Arguments(*positional, **keyword)
    plain = [Argument(position=index, data=variant(value)) for index, value in enumerate(positional, 1)]
    named = [KwArgument(keyword=name, data=variant(value)) for name, value in keyword.items()]
    call = DynamicSubclassService("module.Name").call_request("tick", arguments)
    wanted = CallRequest(method_name="tick", method_arguments=plain, method_kw_arguments=named)
    assert CallRequest().parse(bytes_of(call)) == wanted
    setup = DynamicSubclassService("module.Name", arguments).setup_request()
    assert SetupRequest().parse(bytes_of(setup)) == SetupRequest(
        class_name="module.Name", instance_arguments=plain, instance_kw_arguments=named
    )


@given(VALUES)
def test_inferences(value: Encoded) -> None:
    request = TrainInferService().call_request("Infer", Arguments(value))
    assert InferRequest().parse(bytes_of(request)) == InferRequest(argument=variant(value))
    request = ModelRunnerService().call_request("Infer", Arguments(value))
    wanted = first_release.InferRequest(type=value.data_type - 1, argument=value.data)  # type: ignore[arg-type]
    assert first_release.InferRequest().parse(bytes_of(request)) == wanted


def test_the_bytes_of_a_call() -> None:
    request = DynamicSubclassService("module.Name").call_request(
        "tick", Arguments(7, k=Encoded(DataType.NONE, b""))
    )
    assert bytes_of(request) == (
        b"\x0a\x04tick"
        b"\x12\x10\x08\x01\x12\x0c\x10\x02\x1a\x08\x07\0\0\0\0\0\0\0"
        b"\x1a\x07\x0a\x01k\x12\x02\x1a\0"
    )


@pytest.mark.parametrize(
    "service", [DynamicSubclassService("a.B"), TrainInferService(), ModelRunnerService()]
)
def test_what_is_large_is_not_copied(service: NodeService) -> None:
    arguments = Arguments("x" * 100_000)
    request = service.call_request(service.predict_method(), arguments)
    assert any(buffer is arguments.positional[0].data for buffer in request.message)
    assert len(request.message) <= 3


@pytest.mark.parametrize(
    ("fields", "message_type"),
    [
        (messages.SETUP_RESPONSE, SetupResponse),
        (messages.CALL_RESPONSE, CallResponse),
        (messages.RESET_RESPONSE, RestResponse),
        (messages.INFER_RESPONSE, InferResponse),
        (messages.FIRST_INFER_RESPONSE, first_release.InferResponse),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_answers_have_the_fields_of_the_generated_messages(
    fields: tuple[Field, ...], message_type: type[betterproto.Message]
) -> None:
    assert fields == fields_of(message_type)
