"""The gRPC services of the model nodes, one a file: how each is set up, called and read."""

from .base import AnswerCode, Request, Service, ServiceAnswer, SetupAnswer
from .dynamic_subclass import DynamicSubclassService
from .model_runner import ModelRunnerService
from .train_infer import TrainInferService, TrainInferStreamService

__all__ = [
    "AnswerCode",
    "DynamicSubclassService",
    "ModelRunnerService",
    "Request",
    "Service",
    "ServiceAnswer",
    "SetupAnswer",
    "TrainInferService",
    "TrainInferStreamService",
]
