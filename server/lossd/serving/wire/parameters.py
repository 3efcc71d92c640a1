"""Reads the parameters of losses and metrics from messages."""

import enum
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from lossd.errors import InvalidParameter, InvalidRequest, ServiceError
from lossd.losses import Parameter
from lossd.naming import members_of
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
    """Returns the parameters of a loss or a metric that were set; ``path`` is its field.

    Raises:
        InvalidParameter: if a member of an enum is none.
        TooLarge: if a list has too many entries.
    """
    try:
        return _read(declared, message)
    except ServiceError as error:
        error.below(path)
        raise


def _read(declared: Declared, message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {}
    were_set = message.ListFields()
    if not were_set:
        return found
    known = {parameter.name: parameter for parameter in declared.all_parameters}
    for descriptor, value in were_set:
        name, parameter = descriptor.name, known[descriptor.name]
        if parameter.is_vector:
            check_count(name, len(value), MAX_VECTOR)
            found[name] = tuple(value)
        elif parameter.choices is None and parameter.is_list:
            check_count(name, len(value), MAX_NAMES)
            found[name] = tuple(value)
        elif parameter.choices is None:
            found[name] = value
        elif parameter.is_list:
            found[name] = _choices(descriptor.enum_type, name, value, parameter.choices)
        else:
            found[name] = read_member(descriptor.enum_type, name, value, parameter.choices)
    return found


def read_member(
    kind: Any,
    name: str,
    number: int,
    members: type[E],
    refusal: type[InvalidRequest] = InvalidParameter,
) -> E:
    """Returns the member of a number in a field.

    Raises:
        InvalidRequest: if there is none, as the kind of it that ``refusal`` says.
    """
    found: E | None = _by_number(kind, members).get(number)
    if found is None:
        names = ", ".join(member.name for member in members)
        raise refusal(f"{name} must be one of {names}, got {number}", field=name)
    return found


def _choices(kind: Any, name: str, numbers: Sequence[int], members: type[E]) -> tuple[E, ...]:
    check_count(name, len(numbers), MAX_CHOICES)
    return tuple(
        read_member(kind, f"{name}[{position}]", number, members)
        for position, number in enumerate(numbers)
    )


@functools.cache
def _by_number(kind: Any, members: type[E]) -> Mapping[int, E]:
    """Returns the members by number: MEAN by that of REDUCTION_MEAN."""
    return {
        kind.values_by_name[full].number: members[short]
        for short, full in members_of(kind).items()
        if short in members.__members__
    }
