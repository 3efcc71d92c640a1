"""Draws a histogram as SVG, for notebooks, without any library for plots."""

from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

_BARS = 24
_WIDTH, _HEIGHT, _MARGIN = 360, 90, 16


def histogram(values: npt.NDArray[Any]) -> str:
    """Returns an inline SVG of how numbers are spread; empty where none is finite."""
    numbers = np.asarray(values, np.float64).ravel()
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return ""
    counts, edges = _counted(finite)
    wide, tall = _WIDTH / _BARS, _HEIGHT / counts.max()
    bars = "".join(
        f'<rect x="{number * wide:.1f}" y="{_HEIGHT - count * tall:.1f}" width="{wide - 1:.1f}" '
        f'height="{count * tall:.1f}"><title>{low:.4g} to {high:.4g}: {count}</title></rect>'
        for number, (count, low, high) in enumerate(zip(counts, edges, edges[1:], strict=False))
    )
    left_out = numbers.size - finite.size
    caption = f"{finite.size} losses" + (f", {left_out} not finite" if left_out else "")
    ends = "".join(
        f'<text x="{x}" y="{_HEIGHT + _MARGIN - 4}" text-anchor="{anchor}">{words}</text>'
        for x, anchor, words in (
            (0, "start", f"{edges[0]:.4g}"),
            (_WIDTH / 2, "middle", caption),
            (_WIDTH, "end", f"{edges[-1]:.4g}"),
        )
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT + _MARGIN}" '
        f'role="img" aria-label="histogram of the losses of the examples">'
        f'<g fill="#4c78a8">{bars}</g>'
        f'<g fill="currentColor" font-size="11" font-family="sans-serif">{ends}</g></svg>'
    )


def _counted(finite: Numbers) -> tuple[npt.NDArray[np.intp], Numbers]:
    """Returns how many numbers each bar has, and the edges of the bars.

    ``numpy.histogram`` refuses ranges that are as wide as float64, or narrower than its steps.
    """
    low, high = finite.min(), finite.max()
    half_width = high / 2 - low / 2
    shares = (finite / 2 - low / 2) / half_width if half_width else np.zeros_like(finite)
    bins = np.minimum((shares * _BARS).astype(np.intp), _BARS - 1)
    steps = np.linspace(0, 1, _BARS + 1)
    return np.bincount(bins, minlength=_BARS), low * (1 - steps) + high * steps
