"""Cases for every kernel text of the catalogue: inputs, what the NumPy body says, and a launch."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from lossd.backends import nonfinite_rows
from lossd.kernels import (
    SHARED_BYTES,
    Kernel,
    Launch,
    checks_domains,
    has_plain_logits,
    kernel_source,
    typed_arguments,
)
from lossd.losses import COMPUTED, LOSSES, Choices, DistributionKind, Loss, Shape
from lossd.losses._declare import CudaText
from lossd.schema import UNIT

Array = npt.NDArray[Any]
F = TypeVar("F", bound=Callable[..., Any])
Execute = Callable[[Kernel, Launch, tuple[Any, ...]], None]

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
FLOAT16, BFLOAT16 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
# What is computed in, and what may be stored.
DTYPES = (FLOAT32, FLOAT64)
STORED = (FLOAT16, BFLOAT16, *DTYPES)
TOLERANCE = {FLOAT32: 2e-6, FLOAT64: 1e-12, FLOAT16: 1e-3, BFLOAT16: 8e-3}

# One element; rows that share a warp, rows of one, and of several, which start at addresses unfit
# for vector loads.
LENGTHS = (1, 31, 33, 257, 2051)
# Shared memory for all rows of a block.
ENOUGH_BYTES = 512 << 10
ROWS = 9
EXCLUDED, NAN_ROW, INFINITE_ROW, CONFIDENT_ROW = 1, 3, 5, 7
# What rows of classes take with logits alone.
OF_LOGITS = ("temperature", "class_priors", "prior_strength", "z_loss")
FAR_CLASS = 1 << 40  # as an index it ends the process


@dataclass(frozen=True)
class Variant:
    """One text of one loss with parameters that it is for."""

    loss: Loss
    text: CudaText
    plain: bool

    def __str__(self) -> str:
        number = self.loss.cuda.index(self.text)
        return f"{self.loss.name}-{number}-{'plain' if self.plain else 'parameters'}"

    def parameters(self, length: int, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Defaults, or something else for each parameter that the text does not fix."""
        found: dict[str, Any] = {p.name: p.default for p in self.loss.parameters}
        found |= {name: value for name, value in self.text.when.items() if name in found}
        kind = self.text.when.get("prediction_kind", DistributionKind.LOGITS)
        fixed = {*self.text.when, *(OF_LOGITS if kind is not DistributionKind.LOGITS else ())}
        for parameter in self.loss.parameters:
            is_default = self.plain or parameter.name in fixed
            if parameter.is_vector:
                vector = np.linspace(0.5, 2, length).astype(dtype)
                found[parameter.name] = vector[:0] if is_default else vector
            elif is_default:
                continue
            elif parameter.type is bool:
                found[parameter.name] = not parameter.default
            elif parameter.type is float:
                is_share = parameter.bounds is not None and parameter.bounds.high == 1
                found[parameter.name] = 0.25 if is_share else 1.75
        return found


def every(**lists: Iterable[Any]) -> Callable[[F], F]:
    """Gives a test each value of each list, as parameters of their own."""

    def give(test: F) -> F:
        for name, values in lists.items():
            test = pytest.mark.parametrize(name, list(values), ids=str)(test)
        return test

    return give


def texts() -> Iterator[tuple[Loss, CudaText]]:
    """Every kernel text of the catalogue."""
    for loss in COMPUTED.values():
        for text in loss.cuda:
            yield loss, text


# The shapes that the cases here are of.
SHAPES = (Shape.POINTWISE, Shape.ROWWISE, Shape.REGIONWISE)
VARIANTS = [
    Variant(loss, text, plain)
    for (loss, text), plain in itertools.product(texts(), (True, False))
    if loss.shape in SHAPES
    and not text.has_class_axis  # those are in classes.py
    # What losses of two sides are of has one parameter more in any case; other losses of one input
    # are in vectors.py.
    and (len(loss.inputs) > 1 if loss.name in LOSSES else not plain)
]


def kernel_of(
    loss: Loss, text: CudaText, stored: np.dtype[Any], *, has_plain_logits: bool = False
) -> Kernel:
    """The kernel of a text whose inputs are stored in one type, and looked at if they can be."""
    dtype = stored if stored in DTYPES else FLOAT32
    types = {declared.name: stored for declared in loss.inputs}
    domains = dict.fromkeys(types, UNIT) if checks_domains(loss) else {}
    return kernel_source(loss, text, dtype, types, domains, has_plain_logits=has_plain_logits)


@dataclass(frozen=True)
class Case:
    """Inputs of a batch whose rows hold everything that is difficult, stored in any types."""

    variant: Variant
    dtype: np.dtype[Any]
    length: int
    predictions: Array
    targets: Array
    scales: Array
    excluded: Array
    others: Mapping[str, Array] = field(default_factory=dict)  # the inputs beyond two
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def expected(self) -> tuple[Array, Array]:
        """Values and scaled gradients, as the NumPy body computes them."""
        loss = self.variant.loss
        targets = np.where(_along(self.excluded, self.targets), 0, self.targets)
        given = (self.predictions, targets, *self.others.values())[: len(loss.inputs)]
        inputs = [x if x.dtype == np.int64 else x.astype(self.dtype) for x in given]
        with np.errstate(all="ignore"):
            found = loss.body(np, *inputs, **self.parameters)
            values = found.value
            gradient = found.gradient(loss.inputs[0].name) * self.scales[:, None]
            if values.ndim == 2:
                values = values.mean(axis=-1)
            values[self.excluded], gradient[self.excluded] = 0, 0
            return values, gradient.astype(self.predictions.dtype)

    def rows(self, rows: slice) -> "Case":
        """Some of the rows, in memory of their own."""
        return Case(
            self.variant, self.dtype, self.length, self.predictions[rows].copy(),
            self.targets[rows].copy(), self.scales[rows].copy(), self.excluded[rows].copy(),
            {name: array[rows].copy() for name, array in self.others.items()}, self.parameters,
        )  # fmt: skip

    def kernel(self) -> Kernel:
        """The kernel for the types that the inputs are stored in."""
        names = (declared.name for declared in self.variant.loss.inputs[:2])
        given = zip(names, (self.predictions, self.targets), strict=False)
        arrays = {**dict(given), **self.others}
        stored = {n: array.dtype for n, array in arrays.items() if array.dtype != np.int64}
        text = self.variant.text
        is_plain = has_plain_logits(text, self.parameters)
        return kernel_source(self.variant.loss, text, self.dtype, stored, has_plain_logits=is_plain)

    def run(
        self,
        execute: Execute,
        *,
        by_row: bool = True,
        with_gradient: bool = True,
        most_bytes: int = SHARED_BYTES,
    ) -> tuple[Array, Array | None]:
        """Values and scaled gradients of the kernel.  Not ``by_row``: no scales, none silent.

        That the kernel flags the rows which are not finite is checked on the way.
        """
        values, gradient, flags = self.results(
            execute,
            self.kernel(),
            by_row=by_row,
            with_gradient=with_gradient,
            most_bytes=most_bytes,
        )
        wrong = ~np.isfinite(values)
        if gradient is not None:
            wrong |= nonfinite_rows(gradient)
        np.testing.assert_array_equal(flags, wrong)
        return values, gradient

    def results(
        self,
        execute: Execute,
        kernel: Kernel,
        *,
        by_row: bool = True,
        with_gradient: bool = True,
        most_bytes: int = SHARED_BYTES,
    ) -> tuple[Array, Array | None, Array]:
        """Values, scaled gradients and flags of a kernel, unchecked."""
        count = len(self.predictions)
        launch = kernel.launch(count, self.length, most_bytes)
        values = np.full(count, np.nan, self.dtype)
        gradient = np.full_like(self.predictions, np.nan) if with_gradient else None
        nonfinite = np.full(count, 7, np.uint8)
        vectors = {n: v for n, v in self.parameters.items() if isinstance(v, np.ndarray)}
        taken = {a.name for a in kernel.signature}
        given = {
            "rows": count,
            "columns": self.length,
            "predictions": self.predictions,
            "targets": self.targets,
            **self.others,
            "scales": self.scales if by_row else None,
            "scale": self.scales[0],
            "silent": self.excluded.astype(np.uint8) if by_row else None,
            "values": values,
            "gradient": gradient,
            "nonfinite": nonfinite,
            "kept": launch.kept,
            "segment": launch.segment,
            "workspace": np.full(launch.workspace_bytes // 8, np.nan),
            **self.parameters,
            **{n: v if len(v) else None for n, v in vectors.items()},
        }
        given = {name: value for name, value in given.items() if name in taken}
        arguments = typed_arguments(kernel.signature, given, self.dtype)
        for step in launch.steps:
            execute(kernel, step, arguments)
        return values, gradient, nonfinite


def check(case: Case, execute: Execute) -> None:
    """A kernel equals the body, and leaves exact zeros in rows that are excluded."""
    values, gradient = case.run(execute)
    expected_values, expected_gradient = case.expected()
    assert gradient is not None
    tolerance = TOLERANCE[case.dtype]
    np.testing.assert_allclose(values, expected_values, tolerance, tolerance)
    tolerance = max(tolerance, TOLERANCE[case.predictions.dtype])
    given, wanted = (x.astype(np.float64) for x in (gradient, expected_gradient))
    np.testing.assert_allclose(given, wanted, tolerance, tolerance)
    assert values[case.excluded].tobytes() == bytes(case.dtype.itemsize * case.excluded.sum())
    assert not gradient[case.excluded].view(np.uint8).any()


def _along(flags: Array, like: Array) -> Array:
    return flags.reshape(-1, *[1] * (like.ndim - 1))


def make_case(
    variant: Variant,
    dtype: np.dtype[Any],
    length: int,
    *,
    misaligned: bool = False,
    stored: np.dtype[Any] | None = None,
    targets_stored: np.dtype[Any] | None = None,
) -> Case:
    """A batch with an excluded row full of NaN, a NaN row, an infinite one and a confident one.

    Inputs are ``stored`` in the type that is computed in or another; targets may be in a third.
    """
    stored = stored or dtype
    rng = np.random.default_rng(length)
    parameters = variant.parameters(length, dtype)
    drawn = rng.normal(0, 3, (ROWS, length))
    if parameters.get("log_input") is False:
        np.abs(drawn, out=drawn)
    targets = _placed(_targets(rng, variant, length), None, misaligned=misaligned)
    if targets.dtype != np.int64:
        targets = _placed(targets, targets_stored or stored, misaligned=misaligned)
    drawn[[EXCLUDED, NAN_ROW], length // 2] = np.nan
    _make_infinite(variant.loss, drawn, targets)
    kind = parameters.get("prediction_kind", DistributionKind.LOGITS)
    given = _as_given(drawn, kind, are_classes=variant.loss.shape is Shape.ROWWISE)
    predictions = _placed(given, stored, misaligned=misaligned)
    excluded = np.arange(ROWS) == EXCLUDED
    if targets.ndim == 1:
        targets[EXCLUDED] = FAR_CLASS
    else:
        targets[EXCLUDED] = np.nan
    scales = rng.uniform(-2, 2, ROWS).astype(dtype)
    others = {}
    for declared in variant.loss.inputs[2:]:
        drawn = rng.uniform(0, 3, (ROWS, length))
        drawn[EXCLUDED] = np.nan
        others[declared.name] = _placed(drawn, stored, misaligned=misaligned)
    return Case(variant, dtype, length, predictions, targets, scales, excluded, others, parameters)


def _as_given(logits: Array, kind: DistributionKind, *, are_classes: bool) -> Array:
    """The shares that logits of answers or of a row of classes stand for, as numbers of a kind."""
    if kind is DistributionKind.LOGITS:
        return logits
    with np.errstate(all="ignore"):
        shares: Array = 1 / (1 + np.exp(-logits))
        if are_classes:
            shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
            shares /= shares.sum(axis=-1, keepdims=True)
        return shares if kind is DistributionKind.PROBABILITIES else np.log(shares)


def _placed(values: Array, dtype: np.dtype[Any] | None, *, misaligned: bool) -> Array:
    """A copy that starts at a multiple of 16 bytes, or one element after it."""
    dtype = dtype or values.dtype
    memory = np.empty(values.size + 1 + 16 // dtype.itemsize, dtype)
    start = (-memory.ctypes.data % 16) // dtype.itemsize + misaligned
    place = memory[start : start + values.size].reshape(values.shape)
    place[...] = values
    return place


def _targets(rng: np.random.Generator, variant: Variant, length: int) -> Array:
    if variant.text.targets_are_classes:
        return rng.integers(0, length, ROWS)
    if variant.loss.shape is Shape.ROWWISE:
        shares = rng.uniform(0, 1, (ROWS, length)) * (rng.uniform(0, 1, (ROWS, length)) < 0.5)
        shares /= np.maximum(shares.sum(axis=-1, keepdims=True), 1)
        return shares
    domain = next((declared.domain for declared in variant.loss.inputs[1:2]), None)
    if isinstance(domain, Choices):
        return rng.choice(np.array(domain.numbers, float), (ROWS, length))
    drawn = rng.normal(0, 3, (ROWS, length))
    if domain is not None:
        np.clip(drawn, domain.low, domain.high, out=drawn)
    return drawn


def _make_infinite(loss: Loss, predictions: Array, targets: Array) -> None:
    """Impossible classes that are not the target, and a logit of 20 that is."""
    length = predictions.shape[1]
    if loss.shape is Shape.REGIONWISE:
        return  # no share is infinite
    if loss.shape is Shape.POINTWISE:
        predictions[INFINITE_ROW, 0] = np.inf
        targets[INFINITE_ROW, 0] = 1
        return
    predictions[CONFIDENT_ROW] = 0
    predictions[CONFIDENT_ROW, length // 3] = 20
    if targets.ndim == 1:
        targets[CONFIDENT_ROW] = length // 3
        predictions[INFINITE_ROW, np.arange(length) % 2 != targets[INFINITE_ROW] % 2] = -np.inf
        return
    targets[CONFIDENT_ROW] = 0
    targets[CONFIDENT_ROW, length // 3] = 1
    impossible = targets[INFINITE_ROW] == 0
    if not impossible.all():
        predictions[INFINITE_ROW, impossible] = -np.inf
