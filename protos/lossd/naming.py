"""Names that people write: members of enums by their short names, and what a wrong one may mean."""

import difflib
from collections.abc import Iterable
from typing import Any

_BEGINNING = 3  # letters; with fewer, too many names begin
_ALIKE = 0.7  # of 1: what "weight" and "weights" are, and not "logits" and "lint"


def members_of(kind: Any) -> dict[str, str]:
    """Returns the full names of an enum's members by the short ones: ``LOGITS`` and so on.

    The member 0 means unset, and is left out.
    """
    prefix = kind.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {value.name.removeprefix(prefix): value.name for value in kind.values if value.number}


def name_of(kind: Any, number: int) -> str:
    """Returns the short name of an enum's member; the full one of 0, or a number that is none."""
    if number not in kind.values_by_number:
        return str(number)
    full: str = kind.values_by_number[number].name
    return {name: short for short, name in members_of(kind).items()}.get(full, full)


def guess(text: str, names: Iterable[str], others: Iterable[str] = ()) -> str:
    """Returns ``: did you mean this?``, or nothing where no name is like the text.

    A text of three letters or more that a name begins with is taken for its beginning.
    Others, such as arguments beside inputs, are meant only where they are much like the text.
    """
    typed = letters(text)
    alike = [other for other in others if _are_alike(letters(other), typed)]
    by_letters = {letters(name): name for name in (*names, *alike)}
    begun = [name for name in by_letters if name.startswith(typed) and len(typed) >= _BEGINNING]
    close = difflib.get_close_matches(typed, begun or by_letters, n=1, cutoff=0 if begun else 0.5)
    return f": did you mean {by_letters[close[0]]}?" if close else ""


def _are_alike(name: str, typed: str) -> bool:
    begins = len(typed) >= _BEGINNING and name.startswith(typed)
    return begins or difflib.SequenceMatcher(None, name, typed).ratio() >= _ALIKE


def letters(text: str) -> str:
    """Returns a name without case, underscores and dashes."""
    return text.lower().replace("_", "").replace("-", "")
