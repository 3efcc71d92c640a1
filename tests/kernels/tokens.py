"""Batches of tokens for the kernel texts of their losses, and what the NumPy body says."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.kernels import kernel_source, typed_arguments
from lossd.kernels._source import number_of
from lossd.kernels.host import SAID, HostText, Library, TokenInput, TokenKernel, TokenRows
from lossd.losses import LOSSES, Content, Loss
from lossd.losses._maths.divergences import DistillationDivergence, DistillationSupport
from lossd.losses._maths.policy import TAKES, PolicyObjective
from lossd.losses._maths.policy_divergence import KlEstimator
from lossd.losses._maths.policy_tokens import PolicyRatio
from lossd.losses._maths.rollout_correction import RolloutCorrection
from lossd.losses._maths.tokens import Tokens
from tests.kernels.cases import FLOAT32, FLOAT64, Execute

Array = npt.NDArray[Any]

# No token, one, less and more than a group of lanes and than a block, and several blocks.
SIZES = (0, 1, 15, 17, 128, 129, 700, 3)
EXCLUDED, NAN_ROW, ALL_MASKED = 5, 3, 7
PADDING = 3  # places of each sequence without a token
NUMBERS = {
    "clip_low": 0.8,
    "clip_high": 1.25,
    "dual_clip": 2.0,
    "positive_temperature": 1.0,
    "negative_temperature": 1.5,
    "quadratic_coefficient": 0.1,
    "divergence_threshold": 0.02,
}
WITHOUT_RATIO = (PolicyObjective.REINFORCE, PolicyObjective.DRO)
BY_TOKEN = (PolicyObjective.DPPO_TV, PolicyObjective.DPPO_KL)
OUTPUTS = next(p for p in LOSSES["policy_gradient"].parameters if p.name == "outputs").choices


@dataclass(frozen=True)
class Found:
    """The results of a kernel or a body; ``said`` is empty where nothing is told of sequences."""

    values: Array
    gradient: Array
    nonfinite: Array
    said: Array

    def bits(self, row: int, cells: slice) -> bytes:
        """Returns those of a sequence; all NaN are one."""
        parts = (self.values[row], self.gradient[cells])
        return b"".join(np.where(np.isnan(part), np.nan, part).tobytes() for part in parts)


@dataclass(frozen=True)
class TokenBatch:
    """Sequences of every length, some masked in part, one not looked at and one not a number."""

    loss: Loss
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Array]
    used: Array
    mask: Array
    excluded: Array
    scales: Array
    shares: Array

    @property
    def sizes(self) -> Array:
        """The places of each sequence."""
        return self.used + PADDING

    @property
    def starts(self) -> Array:
        """The first place of each sequence."""
        return np.cumsum(self.sizes) - self.sizes

    def cells(self, row: int) -> slice:
        """Returns the places of a sequence."""
        return slice(int(self.starts[row]), int(self.starts[row] + self.sizes[row]))

    def row(self, row: int) -> "TokenBatch":
        """Returns a batch of one of the sequences."""
        cells, one = self.cells(row), slice(row, row + 1)
        cut = {
            n: a[one if len(a) == len(self.used) else cells].copy() for n, a in self.inputs.items()
        }
        return replace(
            self, inputs=cut, used=self.used[one], mask=self.mask[cells],
            excluded=self.excluded[one], scales=self.scales[one], shares=self.shares[one],
        )  # fmt: skip

    def by_loss(self) -> list[Array | None]:
        """Returns the inputs in the order of the loss."""
        return [
            self.inputs.get(i.name) for i in self.loss.inputs if i.content is Content.FLOATS
        ]  # fmt: skip

    def expected(self) -> Found:
        """Returns what the body says of the tokens that count."""
        row_of = np.repeat(np.arange(len(self.used)), self.sizes)
        within = np.arange(len(row_of)) - self.starts[row_of] < self.used[row_of]
        counts = within & self.mask & ~self.excluded[row_of]
        rows = row_of[counts]
        number = len(self.used)
        tokens = Tokens(rows, np.bincount(rows, minlength=number).astype(float), number)
        given = [
            None if a is None else (a[rows] if len(a) == number else a[counts]).astype(FLOAT64)
            for a in self.by_loss()
        ]
        found = self.loss.body(np, *given, {"": tokens}, **self.parameters)
        first = self.by_loss()[0]
        assert first is not None
        gradient = np.zeros(first.shape)
        derivatives = found.gradient(self.loss.inputs[0].name)
        gradient[counts] = (derivatives.T * self.scales[rows]).T
        gradient = gradient.astype(first.dtype)
        is_finite = np.isfinite(gradient.reshape(len(row_of), -1)).all(axis=1)
        nonfinite = np.bincount(row_of, ~is_finite, number) > 0
        said = np.zeros((number, len(SAID)))
        for position, name in enumerate(SAID):
            if name in found.outputs:
                said[:, position] = found.outputs[name]
        return Found(tokens.sums(found.value) * self.shares, gradient, nonfinite, said)

    def on_host(self, library: Library) -> Found:
        """Runs the kernel that was compiled for the CPU."""
        kernel = TokenKernel(*library.token_entry(HostText(self.loss, 0)))
        number, first = len(self.used), self.by_loss()[0]
        assert first is not None
        found = Found(
            np.zeros(number), np.full_like(first, np.nan), np.zeros(number, np.bool_),
            np.zeros((number, len(SAID))),
        )  # fmt: skip
        rows = TokenRows(
            self.starts, self.sizes, self.used, self.mask, self.excluded, self.scales, self.shares,
            found.values, found.nonfinite, found.said,
        )  # fmt: skip
        inputs = [
            None
            if a is None
            else TokenInput.of(a, None, is_by_sequence=len(a) == number and number != len(first))
            for a in self.by_loss()
        ]
        assert kernel.over(inputs, self.parameters, rows)(slice(0, number), found.gradient)
        return found

    def on_device(self, execute: Execute) -> Found:
        """Executes the CUDA kernel."""
        first, second, *others = (
            i.name for i in self.loss.inputs if i.content is Content.FLOATS
        )  # fmt: skip
        given = self.inputs[first]
        stored = {name: array.dtype for name, array in self.inputs.items()}
        dtype = given.dtype if given.dtype in (FLOAT32, FLOAT64) else FLOAT32
        kernel = kernel_source(self.loss, self.loss.cuda[0], dtype, stored)
        number = len(self.used)
        values, gradient = np.full(number, np.nan, dtype), np.full_like(given, np.nan)
        nonfinite = np.full(number, 7, np.uint8)
        advantages = self.inputs.get("advantages", given)
        arguments = {
            "rows": number, "columns": math.prod(given.shape[1:]), "predictions": given,
            "targets": self.inputs.get(second), **{name: self.inputs.get(name) for name in others},
            "scales": self.scales.astype(dtype), "scale": 1.0,
            "silent": self.excluded.astype(np.uint8), "values": values, "gradient": gradient,
            "nonfinite": nonfinite, "starts": self.starts, "sizes": self.sizes,
            "lengths": self.used, "mask": self.mask.astype(np.uint8), "shares": self.shares,
            "by_sequence": len(advantages) != len(given),
            **{n: number_of(v) for n, v in self.parameters.items() if n != "outputs"},
        }  # fmt: skip
        launch = kernel.launch(number, int(self.sizes.max()))
        execute(kernel, launch, typed_arguments(kernel.signature, arguments, dtype))
        return Found(values, gradient, nonfinite != 0, np.zeros(0))


def draw(parameters: Mapping[str, Any], dtype: np.dtype[Any], *, by_sequence: bool) -> TokenBatch:
    """Draws a batch for a policy gradient."""
    rng = np.random.default_rng(7)
    used = np.array(SIZES)
    number, cells = len(used), int(used.sum()) + PADDING * len(used)
    now = -rng.exponential(1, cells)
    sampling, rollout, reference = (now + rng.normal(0, 0.4, cells) for _ in range(3))
    inputs = {"log_probabilities": now}
    has_ratio = parameters["ratio"] is not PolicyRatio.NONE
    if has_ratio or parameters["objective"] is PolicyObjective.DRO:
        inputs["sampling_log_probabilities"] = sampling
        inputs["rollout_log_probabilities"] = rollout
    inputs["advantages"] = rng.normal(0, 1, number if by_sequence else cells)
    if parameters["kl_estimator"] is not KlEstimator.NONE:
        inputs["reference_log_probabilities"] = reference
        inputs["token_weights"] = rng.integers(0, 3, cells) / 2.0
    inputs["entropies"] = rng.exponential(1, cells)
    found = TokenBatch(
        LOSSES["policy_gradient"], parameters, {}, used, rng.random(cells) < 0.8,
        np.arange(number) == EXCLUDED, rng.uniform(-2, 2, number), rng.uniform(0.5, 1, number),
    )  # fmt: skip
    found.mask[found.cells(ALL_MASKED)] = False
    for name, array in inputs.items():
        if len(array) == cells:
            array[~found.mask] = np.nan
            array[found.cells(EXCLUDED)] = np.nan
        if name == "log_probabilities":
            array[found.starts[NAN_ROW] + np.flatnonzero(found.mask[found.cells(NAN_ROW)])[0]] = (
                np.nan
            )
    return replace(found, inputs={name: array.astype(dtype) for name, array in inputs.items()})


def policies() -> Iterator[dict[str, Any]]:
    """Yields parameters: every objective with every ratio, and all else in turn."""
    estimators, corrections = (itertools.cycle(e) for e in (KlEstimator, RolloutCorrection))
    for objective in PolicyObjective:
        ratios = list(PolicyRatio)[1:]
        if objective in (*WITHOUT_RATIO, *BY_TOKEN):
            ratios = [PolicyRatio.NONE if objective in WITHOUT_RATIO else PolicyRatio.TOKEN]
        for ratio in ratios:
            estimator, correction = next(estimators), next(corrections)
            if objective is PolicyObjective.REINFORCE:
                correction = RolloutCorrection.NONE
            masks = correction.name.endswith("MASK")
            yield {
                "objective": objective,
                "ratio": ratio,
                **{name: NUMBERS[name] if name in TAKES[objective] else None for name in NUMBERS},
                "kl_estimator": estimator,
                "kl_coefficient": 0.0 if estimator is KlEstimator.NONE else 0.3,
                "rollout_correction": correction,
                "rollout_low": 0.7 if masks else None,
                "rollout_high": None if correction is RolloutCorrection.NONE else 1.4,
                "outputs": tuple(o for o in OUTPUTS or () if o.value.name in SAID),
            }


def draw_values(dtype: np.dtype[Any]) -> TokenBatch:
    """Draws a batch for the loss of a value function."""
    drawn = draw(next(policies()), dtype, by_sequence=False)
    rng = np.random.default_rng(8)
    values = drawn.inputs["log_probabilities"]
    inputs = {
        "values": values,
        "old_values": values + rng.normal(0, 0.4, values.shape).astype(dtype),
        "returns": rng.normal(-1, 1, values.shape).astype(dtype),
    }
    loss = LOSSES["clipped_value"]
    outputs = next(p for p in loss.parameters if p.name == "outputs").choices or ()
    parameters = {"clip_range": 0.3, "outputs": tuple(outputs)}
    return replace(drawn, loss=loss, parameters=parameters, inputs=inputs)


# One class, less and more than a group of lanes, and more than a block.
CLASSES = (1, 5, 17, 600)


def distillations() -> Iterator[dict[str, Any]]:
    """Yields parameters: every divergence of every support, at the ends of beta and between."""
    for divergence, support in itertools.product(DistillationDivergence, DistillationSupport):
        needs_beta = "JENSEN_SHANNON" in divergence.name
        is_whole = support is DistillationSupport.WHOLE
        for beta in (0.0, 0.3, 1.0) if needs_beta else (None,):
            yield {
                "divergence": divergence,
                "support": support,
                "beta": beta,
                "temperature": 2.0 if is_whole else 1.0,
                "outputs": (),
            }


def draw_distributions(
    parameters: Mapping[str, Any], dtype: np.dtype[Any], classes: int
) -> TokenBatch:
    """Draws a batch for distillation, of short sequences, with a class that nobody gives."""
    rng = np.random.default_rng(9)
    used = np.array([0, 1, 3, 4, 2, 3, 1, 2])
    number, cells = len(used), int(used.sum()) + PADDING * len(used)
    student, teacher = rng.normal(0, 3, (2, cells, classes))
    if parameters["support"] is not DistillationSupport.WHOLE:
        student, teacher = (
            given - np.log(np.exp(given).sum(axis=1, keepdims=True)) - 0.3
            for given in (student, teacher)
        )
    teacher[:, classes // 2] = -np.inf if classes > 1 else teacher[:, 0]
    found = TokenBatch(
        LOSSES["distillation"], parameters, {}, used, rng.random(cells) < 0.8,
        np.arange(number) == EXCLUDED, rng.uniform(-2, 2, number), rng.uniform(0.5, 1, number),
    )  # fmt: skip
    found.mask[found.starts[NAN_ROW]] = True
    student[found.starts[NAN_ROW], 0] = np.nan
    for given in (student, teacher):
        given[~found.mask] = np.nan
        given[found.cells(EXCLUDED)] = np.nan
    inputs = {"predictions": student.astype(dtype), "targets": teacher.astype(dtype)}
    return replace(found, inputs=inputs)
