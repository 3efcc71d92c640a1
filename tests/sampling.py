"""Inputs and parameters for any loss, drawn from what its declaration says.

``cases(loss)`` are the variants worth a look: every member of an enum, vectors present and absent,
numbers away from their defaults, and class indices, distributions and integers as targets.
"""

import enum
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.batch import Batch, Job
from lossd.errors import InvalidParameter
from lossd.losses import (
    Axes,
    Choices,
    Content,
    DistributionKind,
    Input,
    Interval,
    Loss,
    Parameter,
    Shape,
    Sides,
)
from lossd.losses._inputs import OPTIONAL_CLASS_AXIS
from lossd.networks import Networks
from lossd.schema import REQUIRED
from lossd.shapes import NO_NETWORKS, lay_out
from tests.drawn_networks import NETWORKS
from tests.losses.case import Case, Form

Array = npt.NDArray[Any]

ROWS, LENGTH = 7, 5  # small, odd, and no power of two
CLASSES = 3  # of a region, on its last axis


def has_classes(loss: Loss, parameters: Mapping[str, Any]) -> bool:
    """Whether the last axis of its predictions counts classes."""
    if loss.shape is Shape.REGIONWISE:
        defaults = {p.name: p.default for p in loss.layout_parameters}
        return {**defaults, **parameters}.get("class_axis") is not None
    return loss.shape is Shape.ROWWISE


def forms(loss: Loss, parameters: Mapping[str, Any] = MappingProxyType({})) -> list[Form]:
    """The forms its targets may have."""
    held = {i.content for i in loss.inputs}
    if Content.INDICES in held:
        return [Form.CLASSES]
    if Content.CLASSES in held and not has_classes(loss, parameters):
        return [Form.FLOATS, Form.INTEGERS]
    if Content.CLASSES in held:
        return [Form.CLASSES, Form.FLOATS, Form.INTEGERS]
    return [Form.FLOATS, Form.INTEGERS] if Content.NUMBERS in held else [Form.FLOATS]


def cases(
    loss: Loss, *, rows: int = ROWS, length: int = LENGTH, seed: int = 0, interior: bool = False
) -> Iterator[Case]:
    """Every variant with inputs; ``interior`` keeps clear of the ends of domains."""
    if loss.shape is Shape.TOKENS:
        yield from token_cases(loss, rows=rows, length=length, seed=seed)
        return
    for parameters in variants(loss, length):
        for form in forms(loss, parameters):
            yield draw(loss, parameters, form, rows, length, seed=seed, interior=interior)


def token_cases(
    loss: Loss, *, rows: int = ROWS, length: int = LENGTH, seed: int = 0
) -> Iterator[Case]:
    """Padded tokens, for the parameters of each worked example, which show every choice."""
    for example in loss.examples:
        rng = np.random.default_rng([seed, rows, length])
        names = list(example.inputs)
        # In the order of the declaration, with what says which tokens there are.
        inputs = {
            i.name: _of_tokens(rng, loss, i, rows, length)
            for i in loss.inputs
            if i.name in names or (i.content in (Content.FLAGS, Content.LENGTHS) and _has(names, i))
        }
        inputs.pop("offsets", None)
        yield Case(loss, example.parameters, Form.FLOATS, inputs)


def knows_others(case: Case) -> bool:
    """Whether a sequence is worth what others make of it, in a group or by a common baseline."""
    common = {"baseline", "shift"} & {p.name for p in case.loss.parameters}
    return "groups" in case.inputs or any(case.parameters.get(n) is None for n in common)


def _has(names: Sequence[str], declared: Input) -> bool:
    """Whether any input of its side is given."""
    return any(name.startswith(declared.side) for name in names)


def _of_tokens(  # noqa: PLR0911 - a line a kind
    rng: np.random.Generator, loss: Loss, declared: Input, rows: int, length: int
) -> Array:
    size = (rows, length) if f"{declared.side}lengths" in {i.name for i in loss.inputs} else (rows,)
    if declared.content is Content.FLAGS:
        return rng.random(size) < 0.8
    if declared.content is Content.LENGTHS:
        return rng.integers(0, length + 1, rows)
    if declared.content is Content.LABELS:
        return rng.integers(0, 3, rows)
    if declared.axes is Axes.EXAMPLES:
        size = (rows,)
    if isinstance(declared.domain, Choices):
        return _choose(rng, declared.domain, size)
    if declared.domain is not None:
        return _in_domain(rng, declared.domain, size, False)  # noqa: FBT003
    if declared.axes is Axes.CLASSES:  # log-probabilities of all classes but some
        numbers: Array = rng.normal(0, 1.5, (*size, CLASSES + 1))
        numbers -= np.log(np.exp(numbers).sum(axis=-1, keepdims=True))
        return numbers[..., :CLASSES]
    if declared.name.endswith("log_probabilities"):
        return -0.05 - rng.exponential(0.6, size)
    return rng.normal(0, 1, size)


SPECIAL = (0.0, -0.0, 1e-25, 1e-8, 1e-4, 0.1, 0.5, 1.0, 2.0, 1e3, 1e15)


def extreme(loss: Loss) -> Iterator[Case]:
    """Numbers of every size, equal and opposite, in every input that takes any number.

    Inputs with a domain, and predictions that are probabilities, keep what was drawn; so does what
    is summed over a row, where large numbers of either sign would leave nothing of small ones.
    """
    rng = np.random.default_rng(9)
    either_sign = np.array([sign * x for x in SPECIAL for sign in (1, -1)])
    if loss.shape in (Shape.COUPLED, Shape.TOKENS):
        return
    for case in cases(loss, rows=12):
        if any(isinstance(value, DistributionKind) for value in case.parameters.values()):
            continue
        if case.form is Form.INTEGERS:
            continue  # what is free is the same as with floats
        taken = loss.inputs if loss.shape is Shape.POINTWISE else loss.inputs[:1]
        free = [i.name for i in taken if i.domain is None and i.content is not Content.INDICES]
        if loss.shape is Shape.VECTORS:
            # The sizes of vectors; equal ones are at a kink.
            sizes = rng.choice(either_sign[abs(either_sign) >= 1e-8], (12, 1))
            vectors = [i.name for i in loss.inputs if i.content is Content.FLOATS]
            yield case.with_inputs(**{n: sizes * rng.normal(0, 1, (12, LENGTH)) for n in vectors})
            continue
        drawn = {name: rng.choice(either_sign, case.inputs[name].shape) for name in free}
        if _takes_rates(case):
            drawn[free[0]] = abs(drawn[free[0]]) + 1e-25
        equal = {name: array.copy() for name, array in drawn.items()}
        for array in equal.values():
            array[:4] = drawn[free[0]][:4]
        yield case.with_inputs(**equal)


def plain(
    loss: Loss, *, rows: int = ROWS, length: int = LENGTH, seed: int = 0, form: Form | None = None
) -> Case:
    """The loss with its defaults."""
    return draw(loss, {}, form or forms(loss)[0], rows, length, seed=seed)


def coupled_cases(
    loss: Loss, *, rows: int = ROWS, length: int = LENGTH, seed: int = 0
) -> Iterator[Case]:
    """Every number, choice and flag of a loss that compares examples, with all it may leave out."""
    rng = np.random.default_rng([seed, rows, length])
    drawn = draw(loss, {}, Form.FLOATS, rows, length, seed=seed).inputs
    singles = [
        {parameter.name: value}
        for parameter in loss.parameters
        for value in interesting(parameter, length) or members(parameter)
        if value != parameter.default
    ]
    for beyond in _optional(loss, rng, rows, length):
        everything = Case(loss, {}, Form.FLOATS, {**drawn, **beyond})
        if _is_accepted(everything):
            yield everything
        for single in singles:
            case = replace(everything, parameters=single)
            if _is_accepted(case):
                yield case
            together = replace(everything, parameters={**single, **everything.parameters})
            everything = together if _is_accepted(together) else everything
        if len(everything.parameters) > 1:
            yield everything


def _optional(
    loss: Loss, rng: np.random.Generator, rows: int, length: int
) -> Iterator[dict[str, Array]]:
    """Nothing, each optional input in each of its shapes, and all of them."""
    yield {}
    found = {}
    for declared in loss.inputs:
        if not declared.is_optional:
            continue
        forms_of: list[Array]
        if declared.axes is Axes.EXAMPLES:
            forms_of = [rng.integers(0, 4, rows)]
        else:
            forms_of = [rng.normal(0, 2, size) for size in ((rows, 2, length), (3, length))]
        for form in forms_of:
            yield {declared.name: form}
            found[declared.name] = form
    if len(found) > 1:
        yield found


def laid_out(job: Job, networks: Networks = NO_NETWORKS) -> Batch:
    """A job checked and laid out, with its data."""
    laid = lay_out(job, networks)
    return laid.batch(job, laid.arrays(job))


def _is_accepted(case: Case) -> bool:
    """Whether no rule between parameters and inputs refuses it."""
    try:
        laid_out(case.rows(slice(0)).job())
    except InvalidParameter:
        return False
    return True


def variants(loss: Loss, length: int = LENGTH) -> list[dict[str, Any]]:
    """Parameters: defaults, each choice of an enum or of classes, and with each of these every
    number and vector alone, and all at once.
    """
    found: list[dict[str, Any]] = []
    for chosen in _choices(loss):
        singles = [
            {**chosen, parameter.name: value}
            for parameter in ([] if "class_axis" in chosen else loss.parameters)
            for value in interesting(parameter, length)[: 1 if chosen else None]
        ]
        everything = dict(chosen)
        for parameter in loss.parameters:
            for value in interesting(parameter, length)[:1]:
                if accepted(loss, trial := {**everything, parameter.name: value}, length):
                    everything = trial
        found += [
            chosen,
            *(single for single in singles if accepted(loss, single, length)),
            everything,
        ]
    return [item for i, item in enumerate(found) if item not in found[:i]]


def _choices(loss: Loss) -> list[dict[str, Any]]:
    """The defaults, and every other member of every enum."""
    enums = [p for p in loss.parameters if _is_enum(p)]
    found = [{}, *({p.name: v} for p in enums for v in members(p) if v is not p.default)]
    return [*found, {"class_axis": -1}] if OPTIONAL_CLASS_AXIS in loss.layout_parameters else found


def _is_enum(parameter: Parameter) -> bool:
    return isinstance(parameter.default, enum.Enum)


def members(parameter: Parameter) -> list[Any]:
    """Those of its enum, the default first as a rule."""
    kind: Any = parameter.type
    return list(kind)


# What a loss of images needs: a network of the tests, and pixels that are negative too.
OF_IMAGES: dict[str, Any] = {
    "network": "smooth", "layers": ("second",), "value_range": (-3.0, 5.0),
}  # fmt: skip


def required(loss: Loss) -> dict[str, Any]:
    """Values of the parameters that have no default."""
    if loss.shape is Shape.TOKENS:
        given = loss.examples[0].parameters
        return {p.name: given[p.name] for p in loss.all_parameters if p.default is REQUIRED}
    return {p.name: OF_IMAGES[p.name] for p in loss.all_parameters if p.default is REQUIRED}


# Of as many classes and layers as there are.
OF_WHAT_IS_DRAWN: dict[str, list[Any]] = {"blank": [CLASSES - 1, 1], "layer_weights": [(0.5,)]}


def interesting(parameter: Parameter, length: int) -> list[Any]:
    """Values of a number or a vector that are legal, and not the default."""
    if _is_enum(parameter):
        return []
    if parameter.name in OF_WHAT_IS_DRAWN:
        return OF_WHAT_IS_DRAWN[parameter.name]
    if parameter.is_list and parameter.choices is not None:
        return [tuple(parameter.choices)]
    if parameter.is_vector:
        inside = _inside(parameter.bounds)
        return [tuple(inside * (1 + i) / length for i in range(length))]
    if parameter.type is bool:
        return [not parameter.default]
    numbers = (_inside(parameter.bounds), _inside(parameter.bounds, 0.25))
    return [number for number in numbers if number != parameter.default]


def _inside(bounds: Interval | None, share: float = 1) -> float:
    """A number well inside an interval, or some share of the way there."""
    low, high = (bounds.low, bounds.high) if bounds else (-math.inf, math.inf)
    if math.isinf(low):
        return 2.5 * share if math.isinf(high) else high - 2.5 * share
    return low + (2.5 if math.isinf(high) else 0.4 * (high - low)) * share


def accepted(loss: Loss, parameters: Mapping[str, Any], length: int = LENGTH) -> bool:
    """Whether no rule between parameters, which only the body knows, refuses them."""
    case = draw(loss, parameters, forms(loss, parameters)[0], 0, length)
    try:
        laid_out(case.job(), NETWORKS)
    except InvalidParameter:
        return False
    return True


def draw(
    loss: Loss,
    parameters: Mapping[str, Any],
    form: Form,
    rows: int,
    length: int,
    *,
    seed: int = 0,
    interior: bool = False,
) -> Case:
    """Inputs of float64, the same for the same seed."""
    if loss.shape is Shape.TOKENS:
        found = token_cases(loss, rows=rows, length=length, seed=seed)
        return next(c for c in found if not parameters or c.parameters == parameters)
    rng = np.random.default_rng([seed, rows, length])
    parameters = {**required(loss), **parameters}
    if loss.shape is Shape.SEQUENCE:
        return Case(loss, parameters, form, _sequences(rng, parameters, rows, length))
    if loss.shape is Shape.OPPOSED:
        return Case(loss, parameters, form, _opposed(rng, loss, parameters, rows, length))
    if loss.shape is Shape.IMAGES:
        names, images = [i.name for i in loss.inputs], (rows, 1, 1, length)
        return Case(loss, parameters, form, {n: rng.normal(0, 2, images) for n in names})
    if loss.shape is Shape.FEATURES:
        names = [f"{declared.name}[0]" for declared in loss.inputs]
        return Case(loss, parameters, form, {n: rng.normal(0, 2, (rows, length)) for n in names})
    complete = {p.name: p.default for p in loss.all_parameters} | dict(parameters)
    exclusive = has_classes(loss, parameters)
    size: tuple[int, ...] = (rows, length)
    if loss.shape is Shape.REGIONWISE and exclusive:
        size = (rows, length, CLASSES)
    inputs = {}
    for declared in (i.under(complete) for i in loss.inputs if not i.is_optional):
        kind = complete.get(f"{declared.name.removesuffix('s')}_kind", DistributionKind.LOGITS)
        if kind is not DistributionKind.LOGITS and (declared.kind or declared.domain is None):
            inputs[declared.name] = _distribution(rng, kind, size, exclusive=exclusive)
        elif declared.content is Content.LABELS:
            inputs[declared.name] = rng.integers(-1, 2, rows)
        else:
            inputs[declared.name] = _elements(rng, declared, form, size, interior)
    case = Case(loss, parameters, form, inputs)
    if _takes_rates(case):
        case = case.with_inputs(**{case.first: abs(inputs[case.first]) + 0.1})
    return case


def _takes_rates(case: Case) -> bool:
    """Whether predictions have to be positive, although any number is data."""
    return case.parameters.get("log_input") is False


def _sequences(
    rng: np.random.Generator, parameters: Mapping[str, Any], rows: int, length: int
) -> dict[str, Array]:
    """Frames, and up to half as many labels, as far as there are frames enough for them."""
    kind = parameters.get("prediction_kind", DistributionKind.LOGITS)
    size = (rows, length, CLASSES)
    predictions = rng.normal(0, 2, size)
    if kind is not DistributionKind.LOGITS:
        predictions = _distribution(rng, kind, size, exclusive=True)
    count = (length + 1) // 2
    labels = rng.integers(0, CLASSES - 1, (rows, count))
    frames = rng.integers(max(length - 2, 0), length + 1, rows)
    repeats = np.cumsum(labels[:, 1:] == labels[:, :-1], axis=1)
    needed = np.arange(1, count + 1) + np.pad(repeats, ((0, 0), (1, 0)))
    enough = (needed <= frames[:, None]).sum(axis=1)
    return {
        "predictions": predictions,
        "targets": labels + (labels >= parameters.get("blank", 0)),
        "prediction_lengths": frames,
        "target_lengths": np.minimum(enough, rng.integers(0, count + 1, rows)),
    }


def _opposed(
    rng: np.random.Generator, loss: Loss, parameters: Mapping[str, Any], rows: int, length: int
) -> dict[str, Array]:
    """Scores of either side that the objective knows, two more of the first one unless in pairs."""
    assert loss.sides is not None
    sides = loss.sides(**loss.complete(parameters))
    counts = {"fake": rows, "real": rows if sides is Sides.PAIRS else rows + 2 * (rows > 0)}
    if sides is Sides.FAKE:
        del counts["real"]
    present = [i.name for i in loss.inputs if i.name in counts]
    return {name: rng.normal(0, 2, (counts[name], length)) for name in present}


def _distribution(
    rng: np.random.Generator, kind: DistributionKind, size: Sequence[int], *, exclusive: bool
) -> Array:
    probabilities: Array = rng.uniform(0.05, 0.95, size)
    if exclusive:
        probabilities /= probabilities.sum(axis=-1, keepdims=True)
    if kind is DistributionKind.LOG_PROBABILITIES:
        np.log(probabilities, out=probabilities)
    return probabilities


def _elements(
    rng: np.random.Generator,
    declared: Input,
    form: Form,
    size: tuple[int, ...],
    interior: bool,  # noqa: FBT001
) -> Array:
    if declared.axes is Axes.EXAMPLES:
        size = size[:-1]
    if declared.content in (Content.CLASSES, Content.INDICES) and form is Form.CLASSES:
        return rng.integers(0, size[-1], size[:-1])
    if declared.content is not Content.FLOATS and form is Form.INTEGERS:
        return _integers(rng, declared, size)
    if declared.domain is None:
        return rng.normal(0, 2, size)
    if isinstance(declared.domain, Choices):
        return _choose(rng, declared.domain, size)
    return _in_domain(rng, declared.domain, size, interior)


def _integers(rng: np.random.Generator, declared: Input, size: tuple[int, ...]) -> Array:
    if declared.content is Content.CLASSES:
        one_hot: Array = np.arange(size[-1]) == rng.integers(0, size[-1], (*size[:-1], 1))
        return one_hot.astype(np.int64)
    if isinstance(declared.domain, Choices):
        return _choose(rng, declared.domain, size).astype(np.int64)
    return rng.integers(0, 2, size)


def _choose(rng: np.random.Generator, domain: Choices, size: tuple[int, ...]) -> Array:
    """Each of the numbers about as often as the others."""
    numbers: Array = np.resize(np.array(domain.numbers, np.float64), math.prod(size))
    return rng.permutation(numbers).reshape(size)


def _in_domain(
    rng: np.random.Generator,
    domain: Interval,
    size: tuple[int, ...],
    interior: bool,  # noqa: FBT001
) -> Array:
    """Numbers inside, and unless only the interior is wanted the closed ends too."""
    if math.isinf(domain.low):
        drawn = domain.high - 0.1 - rng.exponential(0.5, size)
    elif math.isinf(domain.high):
        drawn = domain.low + 0.1 + rng.exponential(0.5, size)
    else:
        drawn = domain.low + (domain.high - domain.low) * rng.uniform(0.1, 0.9, size)
    if interior:
        return drawn
    bounds = ((domain.low, domain.low_open), (domain.high, domain.high_open))
    ends = [end for end, is_open in bounds if not is_open and math.isfinite(end)]
    for index, end in enumerate(ends):
        drawn.reshape(-1)[index :: len(ends) + 3] = end
    return drawn
