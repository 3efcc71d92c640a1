"""Checks the form of arguments of the messages of losses and metrics.

protobuf iterates over anything that is given for a list: it takes the keys of a mapping, the rows
of a matrix that pass for numbers, the letters of a text.  Constructors after ``check`` either use a
form correctly or refuse it.  Members of enums go by their short names too.
"""

import contextlib
import functools
import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from types import MappingProxyType, ModuleType
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from lossd.naming import guess, members_of

Read = Callable[[str, Any], Any]  # from a name and a value to what goes into the message


# What ``compute`` takes beside a loss, and loss functions of other libraries take themselves.
ARGUMENTS = frozenset(
    {
        "cotangent", "empty", "gradients", "lint", "mask", "metrics", "nonfinite", "normalizer",
        "per_example", "reduction", "request_id", "timeout", "weights",
    }
)  # fmt: skip


class FormError(ValueError):
    """The value of a parameter has an invalid form; the message says which."""


def check(module: ModuleType) -> None:
    """Makes the constructors of a module's messages check the forms of their arguments."""
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
                if name in readers:
                    if value is not None:
                        given[name] = readers[name](name, value)
                elif name not in kind.DESCRIPTOR.fields_by_name:
                    raise _unknown(kind, name)
        construct(self, *arguments, **given)

    # Changed in place: protobuf forbids subclasses of its messages, and a function instead of the
    # class would not work with isinstance or pickle.
    kind.__init__ = checked


def _unknown(kind: type[Message], name: str) -> FormError:
    known = kind.DESCRIPTOR.fields_by_name
    names = ", ".join(known) or "none"
    is_argument = name in ARGUMENTS and not any(other.endswith(f"_{name}") for other in known)
    hint = f": give it to the call, as in compute(..., {name}=...)" if is_argument else ""
    return FormError(
        f"parameters of {kind.DESCRIPTOR.name} must be among {names}, got {name!r:.64}"
        + (hint or guess(name, known))
    )


@functools.cache
def _readers(kind: Any) -> Mapping[str, Read]:
    """Returns the function that reads each field's argument, by name."""
    return {field.name: _reader(field) for field in kind.DESCRIPTOR.fields}


def _reader(field: Any) -> Read:
    read: Read
    if field.message_type and field.message_type.GetOptions().map_entry:
        return _texts_by_name
    if field.message_type:
        read = functools.partial(_message, GetMessageClass(field.message_type))
    elif field.enum_type:
        read = functools.partial(_member, field.enum_type)
    else:
        read = _OF_KINDS.get(field.cpp_type, _single)
    if not is_repeated(field):
        return read
    is_ordered = not field.enum_type
    return functools.partial(_each, read, is_ordered=is_ordered)


def is_repeated(field: Any) -> bool:
    """Returns whether a field is a list or a map; how it says so depends on protobuf's version."""
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED)


def _each(read: Read, name: str, value: Any, *, is_ordered: bool) -> list[Any]:
    found = items(name, value, is_ordered=is_ordered)
    if read is number and all(
        type(item) is float for item in found
    ):  # fast for the weights of a vocabulary
        return found
    return [read(f"{name}[{position}]", item) for position, item in enumerate(found)]


def items(name: str, value: Any, *, is_ordered: bool = True) -> list[Any]:
    """Returns the items of a value that is given for a list.

    For a mapping, or something with keys such as a Series of pandas, these are the values of the
    keys 0 to n - 1 in order.

    Raises:
        FormError: for a text, a single thing, more than one axis, a mapping with other keys, or a
            set where order matters.
    """
    shape = _shape(value)
    if shape is not None and len(shape) != 1:
        raise FormError(f"{name} must have one axis, got the shape {list(shape)}")
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Iterable):
        raise FormError(f"{name} must be a list, got {value!r:.64}")
    if isinstance(value, Mapping) or hasattr(value, "keys"):
        return _of_keys(name, value)
    if is_ordered and isinstance(value, AbstractSet):
        raise FormError(f"{name} must be in an order, got {type(value).__name__}")
    if not hasattr(value, "tolist") or _is_time(value):
        return list(value)
    try:
        listed: list[Any] = value.tolist()
    except Exception as error:  # each library has its own
        raise FormError(
            f"{name} must have numbers that can be read, got {type(value).__name__}: {error}"
        ) from error
    return listed


def _of_keys(name: str, value: Any) -> list[Any]:
    found = dict(value.items())
    if len(found) == len(value) and found.keys() == set(range(len(found))):
        return [found[key] for key in range(len(found))]
    keys = ", ".join(map(repr, value.keys()))
    raise FormError(
        f"{name} must have the keys 0 to n - 1 where it is a mapping, each once, got {keys:.64}"
    )


def _message(kind: type[Message], name: str, value: Any) -> Any:
    """Returns the value; a mapping becomes a message with these fields."""
    if isinstance(value, kind):
        return value
    if isinstance(value, Message) or not isinstance(value, Mapping):
        raise FormError(f"{name} must be a {kind.DESCRIPTOR.name}, got {_shown(value)}")
    return kind(**value)


def _shown(value: Any) -> str:
    """Returns what a message says of a value: of another message its kind alone."""
    return type(value).__name__ if isinstance(value, Message) else f"{value!r:.64}"


def number(name: str, value: Any) -> float:
    """Returns a value that is given for a number, which may be an array without axes.

    Raises:
        FormError: for anything else.
    """
    value = _single(name, value, "a number")
    try:
        if not isinstance(value, str | bytes):
            # A tensor that records its gradient warns at float(), not at item().
            return float(_item(value))
    except (TypeError, ValueError, OverflowError):
        pass
    raise FormError(f"{name} must be a number, got {value!r:.64}")


def whole_number(bits: int, name: str, value: Any) -> int:
    """Returns a value that is given for a whole number; neither a truth nor a float is one.

    Raises:
        FormError: for anything else, and for a number of more bits.
    """
    item = _item(_single(name, value, "a whole number"))
    if isinstance(item, bool) or not hasattr(item, "__index__"):
        raise FormError(f"{name} must be a whole number, got {value!r:.64}")
    found = operator.index(item)
    if not -(1 << bits - 1) <= found < 1 << bits - 1:
        raise FormError(f"{name} must be a whole number of {bits} bits, got {value!r:.64}")
    return found


def truth(name: str, value: Any) -> bool:
    """Returns a value that is given for True or False, which 1 and 0 are too.

    Raises:
        FormError: for anything else.
    """
    item = _item(_single(name, value, "True or False"))
    if not hasattr(item, "__index__") or item not in {0, 1}:
        raise FormError(f"{name} must be True or False, got {value!r:.64}")
    return bool(item)


def _text(name: str, value: Any) -> str:
    """Returns a value that is given for a text, which protobuf sends as UTF-8."""
    _single(name, value, "a text")
    with contextlib.suppress(UnicodeError):
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, str):
            value.encode()
            return value
    raise FormError(f"{name} must be a text, got {value!r:.64}")


def _texts_by_name(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise FormError(f"{name} must be a mapping of texts, got {value!r:.64}")
    return {_text(f"a name in {name}", key): _text(f"{name}[{key!r}]", value[key]) for key in value}


def _item(value: Any) -> Any:
    """Returns the number of an array without axes, and anything else unchanged.

    It is None where there is no number to be read: of a masked number of NumPy, where ``item`` has
    what the mask hides; of a time, which NumPy gives in its own unit; of a traced array of JAX and
    a tensor of PyTorch without memory.
    """
    read = getattr(value, "tolist", None) or getattr(value, "item", None)
    if read is None:
        return value
    if _is_time(value):
        return None
    try:
        return read()
    except Exception:  # noqa: BLE001 - each library has its own
        return None


def _is_time(value: Any) -> bool:
    """Returns whether it is a date or a duration of NumPy, or an array of them."""
    return getattr(getattr(value, "dtype", None), "kind", None) in {"m", "M"}


def _shape(value: Any) -> Any:
    """Returns the shape of an array; None of anything else, and of tensors that have none."""
    try:
        return getattr(value, "shape", None)
    except RuntimeError:  # as nested tensors of PyTorch raise it
        return None


def _member(kind: Any, name: str, value: Any) -> Any:
    """Returns a member by its number or full name; its exact short name becomes the full one."""
    members = members_of(kind)
    value = _single(name, value)
    if isinstance(value, str) and value in kind.values_by_name:
        return value
    number = _item(value)
    if (
        hasattr(number, "__index__")
        and not isinstance(number, bool)
        and -1 << 31 <= number < 1 << 31
    ):
        return number  # a server may know members that this client does not
    if not isinstance(value, str) or value not in members:
        hint = guess(value, members) if isinstance(value, str) else ""
        names = ", ".join(members)
        raise FormError(f"{name} must be one of {names}, got {value!r:.64}" + hint)
    return members[value]


# What reads a single value, by the type of its field.
_OF_KINDS: Mapping[int, Read] = MappingProxyType(
    {
        FieldDescriptor.CPPTYPE_DOUBLE: number,
        FieldDescriptor.CPPTYPE_INT32: functools.partial(whole_number, 32),
        FieldDescriptor.CPPTYPE_INT64: functools.partial(whole_number, 64),
        FieldDescriptor.CPPTYPE_BOOL: truth,
        FieldDescriptor.CPPTYPE_STRING: _text,
    }
)


def _single(name: str, value: Any, rule: str = "a single value") -> Any:
    """Returns a single value; refuses collections and arrays with an axis."""
    shape = _shape(value)
    is_several = isinstance(value, Collection) and not isinstance(value, str | bytes)
    if is_several and shape is None:
        raise FormError(f"{name} must be {rule}, got {value!r:.64}")
    if shape:
        raise FormError(f"{name} must be {rule}, got the shape {list(shape)}")
    return value
