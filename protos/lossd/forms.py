"""Keeps the form of what the messages of losses and metrics are given.

protobuf iterates over whatever stands for a list: of a mapping it takes the keys, of a matrix the
rows that pass for numbers, of a text the letters.  The constructors that ``check`` has been told of
use a form or refuse it.  It imports protobuf and the standard library only.
"""

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from types import ModuleType
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

Read = Callable[[str, Any], Any]  # of a name and a value, what goes into the message


class FormError(ValueError):
    """What a parameter is given has a form that it cannot have; the message says which."""


def check(module: ModuleType) -> None:
    """Has the constructors of a module's messages check the forms of their arguments."""
    for kind in vars(module).values():
        if isinstance(kind, type) and issubclass(kind, Message):
            _check(kind)


def _check(kind: Any) -> None:
    construct: Callable[..., None] = kind.__init__

    @functools.wraps(construct)
    def checked(self: Message, /, *arguments: Any, **given: Any) -> None:
        if given:
            readers = _readers(kind)
            for name, value in given.items():
                if value is not None and name in readers:
                    given[name] = readers[name](name, value)
        construct(self, *arguments, **given)

    # In place: protobuf lets nobody derive from its messages, and a function in place of the class
    # would be no class to ask with isinstance or to pickle by.
    kind.__init__ = checked


@functools.cache
def _readers(kind: Any) -> Mapping[str, Read]:
    """What reads the argument of each field, by name; maps are protobuf's business."""
    return {
        field.name: _reader(field)
        for field in kind.DESCRIPTOR.fields
        if not (field.message_type and field.message_type.GetOptions().map_entry)
    }


def _reader(field: Any) -> Read:
    read: Read = _single
    if field.message_type:
        read = functools.partial(_message, GetMessageClass(field.message_type))
    elif field.enum_type:
        read = functools.partial(_member, field.enum_type)
    elif field.type == FieldDescriptor.TYPE_DOUBLE:
        read = number
    if not _is_repeated(field):
        return read
    is_ordered = not field.enum_type
    return functools.partial(_each, read, is_ordered=is_ordered)


def _is_repeated(field: Any) -> bool:
    # One of the two is there, by the version of protobuf.
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)


def _each(read: Read, name: str, value: Any, *, is_ordered: bool) -> list[Any]:
    found = items(name, value, is_ordered=is_ordered)
    if read is number and all(
        type(item) is float for item in found
    ):  # a vocabulary's weights, without ado
        return found
    return [read(f"{name}[{position}]", item) for position, item in enumerate(found)]


def items(name: str, value: Any, *, is_ordered: bool = True) -> list[Any]:
    """Returns the items of what stands for a list.

    Of a mapping, and of what has keys as a Series of pandas has, these are the values of the keys
    0 to n - 1 in their order.

    Raises:
        FormError: for a text, a single thing, more than one axis, a mapping with other keys, or a
            set where order matters.
    """
    shape = getattr(value, "shape", None)
    if shape is not None and len(shape) != 1:
        raise FormError(f"{name} must have one axis, got the shape {list(shape)}")
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Iterable):
        raise FormError(f"{name} must be a list, got {value!r:.64}")
    if isinstance(value, Mapping) or hasattr(value, "keys"):
        return _of_keys(name, value)
    if is_ordered and isinstance(value, AbstractSet):
        raise FormError(f"{name} must be in an order, got {type(value).__name__}")
    listed: list[Any] = value.tolist() if hasattr(value, "tolist") else list(value)
    return listed


def _of_keys(name: str, value: Any) -> list[Any]:
    found = dict(value.items())
    if len(found) == len(value) and found.keys() == set(range(len(found))):
        return [found[key] for key in range(len(found))]
    keys = ", ".join(map(repr, value.keys()))
    raise FormError(
        f"{name} must have the keys 0 to n - 1 where it is a mapping, each once, got {keys:.64}"
    )


def _message(kind: type[Message], _name: str, value: Any) -> Any:
    """A mapping stands for a message with these fields."""
    is_mapping = not isinstance(value, Message) and isinstance(value, Mapping)
    return kind(**value) if is_mapping else value


def number(name: str, value: Any) -> float:
    """Returns what is given for a number, which may be an array without axes.

    Raises:
        FormError: for anything else.
    """
    value = _single(name, value, "a number")
    try:
        if not isinstance(value, str | bytes):
            # A tensor that records its gradient says less of item() than of float().
            return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise FormError(f"{name} must be a number, got {value!r:.64}")


def _member(kind: Any, name: str, value: Any) -> Any:
    value = _single(name, value)
    if isinstance(value, str) and value not in kind.values_by_name:
        names = ", ".join(kind.values_by_name)
        raise FormError(f"{name} must be one of {names}, got {value!r:.64}")
    return value


def _single(name: str, value: Any, rule: str = "a single value") -> Any:
    """What stands for one thing; neither a collection nor an array with an axis does."""
    shape = getattr(value, "shape", ())
    is_several = isinstance(value, Collection) and not isinstance(value, str | bytes)
    if is_several and not hasattr(value, "shape"):
        raise FormError(f"{name} must be {rule}, got {value!r:.64}")
    if shape is not None and len(shape):
        raise FormError(f"{name} must be {rule}, got the shape {list(shape)}")
    return value
