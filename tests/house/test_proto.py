"""The generated code is what the .proto files say, and these say what deployed nodes speak."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import trio_model_runner

PACKAGE = Path(trio_model_runner.__file__).parent
ROOT = Path(__file__).parents[2]


def _generated(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): path.read_text()
        for path in directory.rglob("*.py")
        if "__pycache__" not in path.parts
    }


def test_the_committed_code_is_what_the_proto_files_generate(tmp_path: Path) -> None:
    target = tmp_path / "proto"
    subprocess.run(
        [sys.executable, ROOT / "proto" / "generate.py", "--target", target], check=True, capture_output=True
    )
    assert _generated(target) == _generated(PACKAGE / "proto")


def test_every_service_of_the_nodes_is_there() -> None:
    from trio_model_runner import proto
    from trio_model_runner.proto import dynamic_subclass, train_infer
    from trio_model_runner.proto.grpc.health import v1

    stubs = [
        dynamic_subclass.DynamicSubclassServiceStub,
        train_infer.TrainInferServiceStub,
        train_infer.TrainInferStreamServiceStub,
        proto.ModelRunnerStub,
        v1.HealthStub,
    ]
    methods = {stub.__name__: {name for name in vars(stub) if not name.startswith("_")} for stub in stubs}
    assert methods == {
        "DynamicSubclassServiceStub": {"setup", "call", "rest"},
        "TrainInferServiceStub": {"setup", "infer", "reinitialize"},
        "TrainInferStreamServiceStub": {"setup", "infer", "reinitialize"},
        "ModelRunnerStub": {"setup", "infer", "reinitialize", "infer_stream"},
        "HealthStub": {"check", "watch"},
    }


def test_numbers_and_types_are_the_deployed_ones() -> None:
    from trio_model_runner.proto.commons import Argument, KwArgument, Status, Variant, VariantType
    from trio_model_runner.proto.dynamic_subclass import CallRequest

    request = CallRequest(
        method_name="m",
        method_arguments=[Argument(position=1, data=Variant(type=VariantType.INT, value=b"\x07"))],
        method_kw_arguments=[KwArgument(keyword="k", data=Variant(type=VariantType.JSON, value=b"[]"))],
    )
    variant_1 = b"\x10\x02" + b"\x1a\x01\x07"
    variant_2 = b"\x10\x06" + b"\x1a\x02[]"
    assert bytes(request) == (
        b"\x0a\x01m"
         b"\x12\x09" + b"\x08\x01" + b"\x12\x05" + variant_1
        + b"\x1a\x0b" + b"\x0a\x01k" + b"\x12\x06" + variant_2
    )  # fmt: skip
    assert bytes(Status(code="SUCCESS", message="x")) == b"\x0a\x07SUCCESS\x12\x01x"
