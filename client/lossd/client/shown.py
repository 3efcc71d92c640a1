"""How results look: one line in a console, a small table in a notebook.

Arrays are shown by type and shape, so that nothing is long, however large the batch.
"""

import dataclasses
import html
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from lossd.client.histogram import histogram

_ITEMS = 6  # of a longer list or mapping the first ones are shown
_LEFT_OUT = ("loss_sum", "weight_sum", "server_timing")  # from the line, for its length
_ALWAYS = ("loss", "value")

_ROW = '<tr><th style="text-align:left">{}</th><td style="text-align:left">{}</td></tr>'


class Shown:
    """A dataclass that shows itself in a line and, in notebooks, as a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        parts = (f"{name}={text(value)}" for name, value in _told(self) if name not in _LEFT_OUT)
        return f"{type(self).__name__}({', '.join(parts)})"

    def _repr_html_(self) -> str:
        """Returns a table of what is set, for notebooks, with a histogram of single losses."""
        rows = [_ROW.format(html.escape(name), _cell(value)) for name, value in _told(self)]
        values = getattr(self, "per_example", None)
        picture = "" if values is None else histogram(values)
        return f"<table><caption>{type(self).__name__}</caption>{''.join(rows)}</table>{picture}"


def text(value: Any) -> str:
    """Returns a short text for a value of a result."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}" if value.ndim else text(value.item())
    if hasattr(value, "__cuda_array_interface__"):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return f"{{{_listed((f'{key!r}: {text(one)}' for key, one in value.items()), len(value))}}}"
    if isinstance(value, list | tuple):
        return f"[{_listed(map(text, value), len(value))}]"
    return repr(value)


def _told(result: Any) -> Iterable[tuple[str, Any]]:
    """Yields the fields that say something: all but those that are empty or 0."""
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        if field.name in _ALWAYS or isinstance(value, np.ndarray) or value:
            yield field.name, value


def _listed(texts: Iterable[str], count: int) -> str:
    shown = [one for _, one in zip(range(_ITEMS), texts, strict=False)]
    left = count - len(shown)
    return ", ".join([*shown, f"... {left} more"] if left else shown)


def _cell(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(one, Shown) for one in value):
        return "".join(one._repr_html_() for one in value[:_ITEMS])
    return html.escape(value if isinstance(value, str) else text(value))
