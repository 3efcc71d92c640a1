"""The numbers of a loss that are trained, as the temperature of a softmax."""

from collections.abc import Mapping
from typing import Any

import torch
from google.protobuf.message import Message

from lossd.client import kinds
from lossd.client.errors import InvalidRequestError
from lossd.client.torch.translations import copied


def number_of(loss: Message, name: str) -> float:
    """Returns a parameter of a loss that can be trained, and is given.

    Raises:
        InvalidRequestError: if there is no such number.
    """
    kind = loss.DESCRIPTOR.name
    known = kinds.differentiable_parameters.get(kinds.loss_name(kinds.spec_of(loss)))
    if known is None:
        raise _not_learnable(f"be empty for {kind}, none of whose parameters is trained", name)
    if name not in known:
        raise _not_learnable(f"be among {', '.join(known)} for {kind}", name)
    if not loss.HasField(name):
        raise _not_learnable(f"name numbers that are given, as in {kind}({name}=0.1)", name)
    return float(getattr(loss, name))


def _not_learnable(rule: str, name: str) -> InvalidRequestError:
    return InvalidRequestError(f"learnable must {rule}, got {name!r:.64}", field="learnable")


def with_numbers(loss: Message, parameters: Mapping[str, torch.Tensor]) -> Any:
    """Returns a loss with the values that its trained numbers have now."""
    if not parameters:
        return loss
    found = copied(loss)
    for name, parameter in parameters.items():
        setattr(found, name, float(parameter))
    return found
