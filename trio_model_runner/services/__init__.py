"""The gRPC services of the model nodes, one a file: how each is set up, called and read.

A service makes requests and reads answers, and does no I/O. It knows values and messages. It must not know
of models, of connections, or of what an answer means for a model.

Read in this order: `base` says what every service has. `dynamic_subclass` is the service of deployed nodes.
`infer` has what the two older services have in common, `train_infer` and `model_runner`. `uncopied` makes
protobuf messages around large values without copying them.
"""

from .base import AnswerCode, NodeService, Request, ServiceAnswer, SetupAnswer
from .dynamic_subclass import DynamicSubclassService
from .model_runner import ModelRunnerService
from .train_infer import TrainInferService, TrainInferStreamService

__all__ = [
    "AnswerCode",
    "DynamicSubclassService",
    "ModelRunnerService",
    "NodeService",
    "Request",
    "ServiceAnswer",
    "SetupAnswer",
    "TrainInferService",
    "TrainInferStreamService",
]
