"""Inputs for any loss, of any size, drawn from what its declaration says."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import click
import numpy as np

from lossd.batch import Array
from lossd.losses import Axes, Choices, Content, Input, Interval, Loss
from lossd.serving.loss_service.catalogue import shapes

# For each letter of a pattern such as (N, ..., C) the sizes that it stands for.
Sizes = dict[str, tuple[int, ...]]

_REST, _CLASSES = "...", "C"
# Shapes to measure where none is given, by the number of axes: a small batch, and a large one.
_USUAL: Mapping[int, Sequence[tuple[int, ...]]] = {
    1: ((32,), (4096,)),
    2: ((32, 10), (4096, 1000)),
    3: ((8, 50, 30), (64, 200, 80)),
    4: ((2, 3, 32, 32), (8, 3, 128, 128)),
}


def usual_shapes(loss: Loss, parameters: Mapping[str, Any]) -> Sequence[tuple[int, ...]]:
    """Returns shapes of the first input that are worth measuring."""
    letters = _letters(_patterns_of_first(loss, parameters)[0])
    count = max(sum(letter != _REST for letter in letters), 2 if _REST in letters else 1)
    axis = parameters.get("class_axis") or 0
    count = max(count, axis + 1, -axis)
    return _USUAL.get(count, ((2,) * count,))


def random_inputs(
    loss: Loss,
    parameters: Mapping[str, Any],
    names: Collection[str],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    most: int | None = None,
) -> dict[str, Array]:
    """Draws some inputs of a loss, always the same ones; ``shape`` is that of the first.

    ``parameters`` are all of them, ``dtype`` is the type of what may have a fraction, and ``most``
    bounds the first axis of the shape that is drawn.

    Raises:
        click.UsageError: if the first input cannot have the shape, or another has none with it.
    """
    axis = parameters.get("class_axis")
    if axis is not None and not -len(shape) <= axis < len(shape):
        raise click.UsageError(f"--shape must have the axis {axis}, got {_text(shape)}")
    sizes = _sizes(loss, parameters, shape, axis)
    if most is not None:
        sizes = _sizes(loss, parameters, (min(shape[0], most), *shape[1:]), axis)
    random = np.random.default_rng(0)
    drawn: dict[str, Array] = {}
    for declared in (one.under(parameters) for one in loss.inputs if one.name in names):
        is_first = declared.name == loss.inputs[0].name
        patterns = _patterns_of_first(loss, parameters) if is_first else shapes(loss, declared)
        letters, size = _size(declared, patterns, sizes)
        has_classes = _CLASSES in letters
        if declared.content is Content.LENGTHS:
            array: Array = np.full(size, _length(declared.name, drawn))
        elif _holds_indices(declared, is_of_classes=_CLASSES in sizes and not has_classes):
            array = _indices(random, parameters, sizes[_CLASSES][0], size)
        else:
            array = _numbers(random, declared, size, dtype)
        if axis is not None and has_classes:
            array = np.moveaxis(array, -1, axis)
        drawn[declared.name] = np.ascontiguousarray(array)
    return drawn


def _holds_indices(declared: Input, *, is_of_classes: bool) -> bool:
    is_choice = declared.content is Content.CLASSES and is_of_classes
    return is_choice or declared.content is Content.INDICES


# ------------------------------------------------------------------ shapes


def _patterns_of_first(loss: Loss, parameters: Mapping[str, Any]) -> list[str]:
    """Returns the patterns that the first input may have with these parameters."""
    found = [one for one in shapes(loss, loss.inputs[0]) if "tokens" not in one]
    if "class_axis" not in parameters:
        return found
    has_classes = parameters["class_axis"] is not None
    return [one for one in found if (_CLASSES in _letters(one)) == has_classes]


def _letters(pattern: str) -> list[str]:
    """Returns N, ... and C for ``(N, ..., C)``."""
    inside = pattern.removesuffix(" each").strip("()")
    return [letter for letter in inside.replace(" ", "").split(",") if letter]


def _sizes(
    loss: Loss, parameters: Mapping[str, Any], shape: tuple[int, ...], axis: int | None
) -> Sizes:
    patterns = _patterns_of_first(loss, parameters)
    bound = (_bound(_letters(pattern), _to_end(shape, axis)) for pattern in patterns)
    sizes = next(filter(None, bound), None)
    if sizes is None:
        wanted = " or ".join(patterns)
        raise click.UsageError(
            f"--shape must be like {wanted}, which {loss.inputs[0].name} of {loss.name} may be, "
            f"got {_text(shape)}"
        )
    frames = sizes.get("T", (4,))[0]
    return {"S": (max(frames // 4, 1),), "M": sizes["N"], **sizes}


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


def _size(
    declared: Input, patterns: Sequence[str], sizes: Sizes
) -> tuple[list[str], tuple[int, ...]]:
    """Returns the letters of the first pattern whose sizes are all known, and the shape."""
    for pattern in patterns:
        letters = _letters(pattern)
        if all(letter in sizes for letter in letters):
            return letters, tuple(n for letter in letters for n in sizes[letter])
    raise click.UsageError(
        f"--input must be one that has a shape with every token, got {declared.name}"
    )


def _to_end(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    if axis is None:
        return shape
    position = axis % len(shape)
    return (*shape[:position], *shape[position + 1 :], shape[position])


def _length(name: str, drawn: Mapping[str, Array]) -> int:
    """Returns how many elements each row of the input has that a length is about."""
    stem = name.removesuffix("lengths").rstrip("_")
    about = [array for one, array in drawn.items() if one.startswith(stem)]
    found: Array = next(iter(about or drawn.values()))
    return int(found.shape[1])


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


# ------------------------------------------------------------------ numbers


def _indices(
    random: np.random.Generator, parameters: Mapping[str, Any], classes: int, size: tuple[int, ...]
) -> Array:
    """Draws class indices, none of which is the blank, where there is one."""
    blank = parameters.get("blank")
    if blank is None:
        return random.integers(0, classes, size)
    if classes < 2:
        raise click.UsageError(f"--shape must have a class beside the blank, got {classes}")
    found: Array = random.integers(0, classes - 1, size)
    found += found >= blank
    return found


def _numbers(
    random: np.random.Generator, declared: Input, size: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    if declared.content is Content.FLAGS:
        return np.ones(size, np.bool_)
    if declared.content is Content.LABELS:
        return random.permutation(np.arange(math.prod(size)) // 2).reshape(size)  # two of each
    return _floats(random, declared, size).astype(dtype, copy=False)


def _floats(random: np.random.Generator, declared: Input, size: tuple[int, ...]) -> Array:
    """Draws numbers of the domain of an input, as usual ones as can be known from it."""
    domain = declared.domain
    if isinstance(domain, Choices):
        return random.choice(np.array(domain.numbers, np.float32), size)
    free = random.standard_normal(size, np.float32)
    if declared.kind or declared.axes is Axes.CLASSES:
        return _described(free, domain, is_log=declared.axes is Axes.CLASSES)
    if declared.axes is Axes.TOKENS:
        return -np.abs(free)  # a log-probability, if anything
    if domain is None:
        return free
    return _inside(free, domain)


def _described(logits: Array, domain: Interval | None, *, is_log: bool) -> Array:
    """Returns what describes a distribution: logits, log-probabilities or probabilities."""
    if domain is None and not is_log:
        return logits
    shares = np.exp(logits)
    shares /= shares.sum(axis=-1, keepdims=True)
    is_probability = domain is not None and domain.high == 1
    return shares if is_probability else np.log(shares)


def _inside(free: Array, domain: Interval) -> Array:
    """Returns numbers of an interval; where it has two ends they are these, as for targets."""
    if math.isinf(domain.low):
        return np.float32(domain.high) - np.abs(free)
    if math.isinf(domain.high):
        return np.float32(domain.low) + np.float32(0.1) + np.abs(free)
    return np.where(free > 0, np.float32(domain.high), np.float32(domain.low))
