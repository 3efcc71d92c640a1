"""Reads the parameters of losses and metrics from messages."""

import enum
import functools
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from lossd.errors import InvalidParameter
from lossd.losses import Parameter
from lossd.serving.rpc.messages import check_count

MAX_CHOICES = 64  # members of an enum in a list: no enum has so many
MAX_NAMES = 256  # texts in a list: more layers than any network has
MAX_VECTOR = 1 << 20  # numbers of one parameter: more classes than any vocabulary has

E = TypeVar("E", bound=enum.Enum)


class Declared(Protocol):
    """A loss or a metric, seen as its parameters."""

    @property
    def all_parameters(self) -> tuple[Parameter, ...]:
        """All parameters that it takes."""


def read_parameters(declared: Declared, message: Message, path: str = "") -> dict[str, Any]:
    """Returns the parameters of a loss or a metric that were set; ``path`` is the message's own.

    Raises:
        InvalidParameter: for the number of a member that an enum lacks.
        TooLarge: for a list that is longer than any may be.
    """
    found: dict[str, Any] = {}
    were_set = message.ListFields()
    if not were_set:
        return found
    known = {parameter.name: parameter for parameter in declared.all_parameters}
    for descriptor, value in were_set:
        name, parameter = descriptor.name, known[descriptor.name]
        field = f"{path}.{name}" if path else name
        if parameter.is_vector:
            check_count(name, len(value), MAX_VECTOR, field)
            found[name] = tuple(value)
        elif parameter.choices is None and parameter.is_list:
            check_count(name, len(value), MAX_NAMES, field)
            found[name] = tuple(value)
        elif parameter.choices is None:
            found[name] = value
        elif parameter.is_list:
            check_count(name, len(value), MAX_CHOICES, field)
            found[name] = tuple(
                _choice(descriptor.enum_type, f"{field}[{position}]", number, parameter.choices)
                for position, number in enumerate(value)
            )
        else:
            found[name] = _choice(descriptor.enum_type, field, value, parameter.choices)
    return found


def _choice(kind: Any, field: str, number: int, members: type[E]) -> E:
    found: E | None = members_by_number(kind, members).get(number)
    if found is None:
        names = ", ".join(member.name for member in members)
        name = field.rpartition(".")[2]
        raise InvalidParameter(f"{name} must be one of {names}, got {number}", field=field)
    return found


@functools.cache
def members_by_number(descriptor: Any, members: type[E]) -> Mapping[int, E]:
    """Returns the members by number: MEAN by that of REDUCTION_MEAN, which ends in its name."""
    found = {}
    for number, value in descriptor.values_by_number.items():
        names = (name for name in members.__members__ if value.name.endswith(f"_{name}"))
        longest = max(names, key=len, default=None)  # BATCH_MEAN, not MEAN
        if longest is not None:
            found[number] = members[longest]
    return found
