"""Compares messages as numbers, not as bytes."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from lossd import tensors, v1
from lossd.forms import is_repeated


@dataclass(frozen=True, slots=True)
class Within:
    """How far numbers may be off, and the names of fields that nobody compares."""

    relative: float
    absolute: float
    ignored: AbstractSet[str]

    def difference(self, wanted: Message, found: Message, path: str = "") -> str:
        """Returns the first difference between two messages; an empty text where there is none.

        A field that is set in one of them only is a difference too.
        """
        fields = {
            field.name: field
            for field, _ in (*wanted.ListFields(), *found.ListFields())
            if field.name not in self.ignored
        }
        for name, field in fields.items():
            if said := self._of_field(wanted, found, field, f"{path}{name}"):
                return said
        return ""

    def _of_field(self, wanted: Message, found: Message, field: FieldDescriptor, path: str) -> str:
        one, other = getattr(wanted, field.name), getattr(found, field.name)
        if is_repeated(field):
            if len(one) != len(other):
                return f"{path} must have {len(one)} entries, got {len(other)}"
            pairs = zip(one, other, strict=True)
            each = (self._of_value(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(pairs))
            return next(filter(None, each), "")
        if field.has_presence and not (wanted.HasField(field.name) and found.HasField(field.name)):
            return f"{path} must be {_set(wanted, field)}, got one that is {_set(found, field)}"
        return self._of_value(one, other, path)

    def _of_value(self, wanted: Any, found: Any, path: str) -> str:
        if isinstance(wanted, v1.Tensor):
            return self._of_tensor(wanted, found, path)
        if isinstance(wanted, Message):
            return self.difference(wanted, found, f"{path}.")
        is_right = self._is_near(wanted, found) if isinstance(wanted, float) else wanted == found
        return "" if is_right else f"{path} must be {wanted}, got {found}"

    def _of_tensor(self, wanted: v1.Tensor, found: v1.Tensor, path: str) -> str:
        one, other = tensors.read(wanted), tensors.read(found)
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return (
                f"{path} must be {one.dtype} of {list(one.shape)}, "
                f"got {other.dtype} of {list(other.shape)}"
            )
        if one.dtype.kind in "iub":
            is_right = np.array_equal(one, other)
        else:
            is_right = self._is_near(one.astype(np.float64), other.astype(np.float64))
        return "" if is_right else f"{path} must be {one.tolist()}, got {other.tolist()}"

    def _is_near(self, wanted: Any, found: Any) -> bool:
        return np.allclose(found, wanted, self.relative, self.absolute, equal_nan=True)


def _set(message: Message, field: FieldDescriptor) -> str:
    return "set" if message.HasField(field.name) else "unset"
