"""The contract: the messages and services of ``lossd.v1``.

Everything here is generated from the ``.proto`` files beside it; ``from lossd.v1 import Huber``.
``lossd.v1.losses`` and ``lossd.v1.metrics`` hold the losses and the metrics alone.
The constructors of losses and metrics check the form of their arguments, see ``lossd.forms``.
``help`` of a message shows the comments of the ``.proto`` files.
"""

from lossd import forms, looks
from lossd.v1 import (
    device_memory_service_pb2,
    docstrings,
    evaluation_pb2,
    evaluation_service_pb2,
    evaluation_state_pb2,
    loss_service_pb2,
    losses_pb2,
    shared_memory_service_pb2,
    tensor_pb2,
)
from lossd.v1.device_memory_service_pb2 import *  # noqa: F403
from lossd.v1.evaluation_pb2 import *  # noqa: F403
from lossd.v1.evaluation_service_pb2 import *  # noqa: F403
from lossd.v1.evaluation_state_pb2 import *  # noqa: F403
from lossd.v1.loss_service_pb2 import *  # noqa: F403
from lossd.v1.losses_pb2 import *  # noqa: F403
from lossd.v1.shared_memory_service_pb2 import *  # noqa: F403
from lossd.v1.tensor_pb2 import *  # noqa: F403

forms.check(losses_pb2)
forms.check(evaluation_pb2)
for _module in (
    device_memory_service_pb2,
    evaluation_pb2,
    evaluation_service_pb2,
    evaluation_state_pb2,
    loss_service_pb2,
    losses_pb2,
    shared_memory_service_pb2,
    tensor_pb2,
):
    looks.apply(_module, docstrings.DOCSTRINGS)
