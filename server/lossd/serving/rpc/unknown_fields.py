"""Finds fields that a client set and this server does not know.

Protobuf keeps them aside and says nothing.  Whoever set one asked for something by it, so that an
answer without it would be a wrong one: a call that has any is refused.
"""

import functools
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from lossd import v1
from lossd.errors import UnknownField
from lossd.forms import is_repeated

# A spec of a kind that is not known here is refused as such.
_SPECS = (v1.LossSpec.DESCRIPTOR, v1.MetricSpec.DESCRIPTOR)
_KIND = "kind"
# Around what a message of a stream is about: paths of fields begin within it.
_AROUND = ("call.", "part.")
# Below this two copies of a message take less time than to look at all that is in it.
_FEW_BYTES = 1 << 12
# To look at more messages than these by themselves, a hundredth of a second, would take too long.
_MOST_MESSAGES = 1 << 13


def refuse_unknown_fields(message: Message, nbytes: int) -> None:
    """Refuses a message that has one, at any depth; ``nbytes`` are about those of the message.

    Texts and the data of tensors are not looked at.  Of a message that is small, or has very many
    within, unknown fields are dropped, if all that they are is the kind of a loss or of a metric,
    which is refused elsewhere.

    Raises:
        UnknownField: if there is any.
    """
    if nbytes < _FEW_BYTES:
        encoded = message.SerializeToString()
        message.DiscardUnknownFields()
        if message.ByteSize() == len(encoded):
            return
        message = type(message).FromString(encoded)
    search = _Search()
    path = search.path(message)
    if path:
        raise _refusal(path)
    if search.has_given_up and _loses_some(message):
        raise UnknownField("request must have fields that this server knows: ask a newer server")


def _refusal(path: str) -> UnknownField:
    for around in _AROUND:
        path = path.removeprefix(around)
    outer, _, number = path.rpartition("#")
    return UnknownField(
        f"{outer.rstrip('.') or 'request'} must have fields that this server knows, got number "
        f"{number}: ask a newer server",
        field=path,
    )


def _loses_some(message: Message) -> bool:
    """Drops unknown fields; returns whether there were any."""
    before = message.ByteSize()
    message.DiscardUnknownFields()
    return message.ByteSize() != before


@dataclass(frozen=True, slots=True)
class _Submessages:
    """The fields of a kind of message that have messages inside; no map of the contract has any."""

    single: tuple[str, ...]
    several: tuple[str, ...]
    choices: tuple[tuple[str, frozenset[str]], ...]  # of a oneof, which has one member at most


@functools.cache
def _submessages(kind: Descriptor) -> _Submessages:
    inner: list[Any] = [field for field in kind.fields if field.message_type is not None]
    single = [field for field in inner if not is_repeated(field)]
    several = [field for field in inner if is_repeated(field)]
    chosen: dict[str, set[str]] = {}
    for field in single:
        if field.containing_oneof is not None:
            chosen.setdefault(field.containing_oneof.name, set()).add(field.name)
    return _Submessages(
        single=tuple(field.name for field in single if field.containing_oneof is None),
        several=tuple(f.name for f in several if not f.message_type.GetOptions().map_entry),
        choices=tuple((name, frozenset(members)) for name, members in chosen.items()),
    )


class _Search:
    """One search for an unknown field, which gives up where there are very many messages."""

    def __init__(self) -> None:
        self._messages = 0

    @property
    def has_given_up(self) -> bool:
        """Whether not all messages were looked at."""
        return self._messages > _MOST_MESSAGES

    def path(self, message: Any) -> str:
        """Returns the path of the first that is found; an empty one where there is none."""
        self._messages += 1
        if self.has_given_up:
            return ""
        kind = message.DESCRIPTOR
        unknown = UnknownFieldSet(message)
        if len(unknown) and not (kind in _SPECS and message.WhichOneof(_KIND) is None):
            return f"#{unknown[0].field_number}"
        known = _submessages(kind)
        for choice, members in known.choices:
            name = message.WhichOneof(choice)
            if name in members and (found := self.path(getattr(message, name))):
                return f"{name}.{found}"
        for name in known.single:
            if message.HasField(name) and (found := self.path(getattr(message, name))):
                return f"{name}.{found}"
        for name in known.several:
            for position, one in enumerate(getattr(message, name)):
                found = self.path(one)
                if found or self.has_given_up:
                    return found and f"{name}[{position}].{found}"
        return ""
