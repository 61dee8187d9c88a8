"""The gRPC services of the model nodes: how to set up, call and read each.

A service makes requests and reads answers, and does no I/O. It knows values and messages. It must not know
of models, of connections, or of what an answer means for a model.

Read in this order: `base` says what every service has. `dynamic_subclass` is the service of deployed nodes.
`infer` has what the older services have in common, in `train_infer` and `model_runner`. `messages` has
the fields of answers, and `uncopied` makes requests around large values without copying them.

To add a service: a file here, its names in this `__init__` and the package's, and `testing.node_services`.
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
