"""Inputs for any loss, of any size, drawn from what its declaration says."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import click
import numpy as np

from lossd.batch import Array
from lossd.cli.input_shapes import CLASSES, patterns_of_first, shape_of, shape_text, sizes_of
from lossd.losses import Axes, Choices, Content, Input, Interval, Loss
from lossd.serving.loss_service.catalogue import shapes


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
        raise click.UsageError(f"--shape must have the axis {axis}, got {shape_text(shape)}")
    sizes = sizes_of(loss, parameters, shape, axis)
    if most is not None:
        sizes = sizes_of(loss, parameters, (min(shape[0], most), *shape[1:]), axis)
    random = np.random.default_rng(0)
    drawn: dict[str, Array] = {}
    for declared in (one.under(parameters) for one in loss.inputs if one.name in names):
        is_first = declared.name == loss.inputs[0].name
        patterns = patterns_of_first(loss, parameters) if is_first else shapes(loss, declared)
        letters, size = shape_of(declared, patterns, sizes)
        has_classes = CLASSES in letters
        if declared.content is Content.LENGTHS:
            array: Array = np.full(size, _length(declared.name, drawn))
        elif _holds_indices(declared, is_of_classes=CLASSES in sizes and not has_classes):
            array = _indices(random, parameters, sizes[CLASSES][0], size)
        else:
            array = _numbers(random, declared, size, dtype)
        if axis is not None and has_classes:
            array = np.moveaxis(array, -1, axis)
        drawn[declared.name] = np.ascontiguousarray(array)
    return drawn


def _holds_indices(declared: Input, *, is_of_classes: bool) -> bool:
    is_choice = declared.content is Content.CLASSES and is_of_classes
    return is_choice or declared.content is Content.INDICES


def _length(name: str, drawn: Mapping[str, Array]) -> int:
    """Returns how many elements each row of the input has that a length is about."""
    stem = name.removesuffix("lengths").rstrip("_")
    about = [array for one, array in drawn.items() if one.startswith(stem)]
    found: Array = next(iter(about or drawn.values()))
    return int(found.shape[1])


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
