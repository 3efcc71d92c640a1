"""Words that choose a variant of a preset."""

from collections.abc import Mapping
from typing import TypeVar

Variant = TypeVar("Variant")


def chosen(name: str, value: object, known: Mapping[str, Variant]) -> Variant:
    """Returns what a word stands for.

    Raises:
        ValueError: if it is none that is known.
    """
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
    return known[value]
