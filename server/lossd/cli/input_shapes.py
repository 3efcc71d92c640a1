"""Shapes of the inputs of a loss, from their patterns such as (N, ..., C)."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from lossd.losses import Input, Loss
from lossd.serving.loss_service.catalogue import shapes

# For each letter of a pattern such as (N, ..., C) the sizes that it stands for.
Sizes = dict[str, tuple[int, ...]]

CLASSES = "C"  # the letter of their axis
_REST = "..."
# Shapes to measure where none is given, by the number of axes: a small batch, and a large one.
_USUAL: Mapping[int, Sequence[tuple[int, ...]]] = {
    1: ((32,), (4096,)),
    2: ((32, 10), (4096, 1000)),
    3: ((8, 50, 30), (64, 200, 80)),
    4: ((2, 3, 32, 32), (8, 3, 128, 128)),
}


def usual_shapes(loss: Loss, parameters: Mapping[str, Any]) -> Sequence[tuple[int, ...]]:
    """Returns shapes of the first input that are worth measuring."""
    letters = _letters(patterns_of_first(loss, parameters)[0])
    count = max(sum(letter != _REST for letter in letters), 2 if _REST in letters else 1)
    axis = parameters.get("class_axis") or 0
    count = max(count, axis + 1, -axis)
    return _USUAL.get(count, ((2,) * count,))


def patterns_of_first(loss: Loss, parameters: Mapping[str, Any]) -> list[str]:
    """Returns the patterns that the first input may have with these parameters."""
    found = [one for one in shapes(loss, loss.inputs[0]) if "tokens" not in one]
    if "class_axis" not in parameters:
        return found
    has_classes = parameters["class_axis"] is not None
    return [one for one in found if (CLASSES in _letters(one)) == has_classes]


def sizes_of(
    loss: Loss, parameters: Mapping[str, Any], shape: tuple[int, ...], axis: int | None
) -> Sizes:
    """Returns the sizes of the letters where the first input has a shape.

    Raises:
        click.UsageError: if it cannot have that.
    """
    patterns = patterns_of_first(loss, parameters)
    bound = (_bound(_letters(pattern), _to_end(shape, axis)) for pattern in patterns)
    sizes = next(filter(None, bound), None)
    if sizes is None:
        wanted = " or ".join(patterns)
        raise click.UsageError(
            f"--shape must be like {wanted}, which {loss.inputs[0].name} of {loss.name} may be, "
            f"got {shape_text(shape)}"
        )
    frames = sizes.get("T", (4,))[0]
    return {"S": (max(frames // 4, 1),), "M": sizes["N"], **sizes}


def shape_of(
    declared: Input, patterns: Sequence[str], sizes: Sizes
) -> tuple[list[str], tuple[int, ...]]:
    """Returns the letters of the first pattern whose sizes are all known, and the shape.

    Raises:
        click.UsageError: if there is none.
    """
    for pattern in patterns:
        letters = _letters(pattern)
        if all(letter in sizes for letter in letters):
            return letters, tuple(n for letter in letters for n in sizes[letter])
    raise click.UsageError(
        f"--input must be one that has a shape with every token, got {declared.name}"
    )


def _bound(letters: Sequence[str], shape: tuple[int, ...]) -> Sizes | None:
    """Returns the sizes of the letters of a pattern, or None for a shape that is not like it."""
    if _REST not in letters:
        fits = len(letters) == len(shape)
        return {letter: (n,) for letter, n in zip(letters, shape, strict=True)} if fits else None
    before = letters.index(_REST)
    after = len(letters) - before - 1
    if len(shape) < before + after:
        return None
    end = len(shape) - after
    named = [*zip(letters, shape[:before], strict=False)]
    named += zip(letters[before + 1 :], shape[end:], strict=True)
    return {_REST: shape[before:end], **{letter: (n,) for letter, n in named}}


def _letters(pattern: str) -> list[str]:
    """Returns N, ... and C for ``(N, ..., C)``."""
    inside = pattern.removesuffix(" each").strip("()")
    return [letter for letter in inside.replace(" ", "").split(",") if letter]


def _to_end(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    if axis is None:
        return shape
    position = axis % len(shape)
    return (*shape[:position], *shape[position + 1 :], shape[position])


def shape_text(shape: Sequence[int]) -> str:
    """Returns a shape as it is typed."""
    return "x".join(map(str, shape))
