"""Refusals of parameters, normalizers and axes."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from lossd.engine import Engine
from lossd.errors import InvalidParameter, InvalidRequest, InvalidTensor
from lossd.losses import DistributionKind, Interval, Loss, Parameter, Shape
from lossd.losses._inputs import BATCH_DIMS, CLASS_AXIS, IGNORE_INDEX, OPTIONAL_CLASS_AXIS
from lossd.reduction import Reduction
from tests.losses.case import Case, Form
from tests.losses.test_refusals import refused
from tests.sampling import accepted, draw, forms, interesting, plain, variants


def _out_of(bounds: Interval, kind: type) -> list[Any]:
    """Numbers just outside, far outside, and none."""
    found: list[Any] = [] if kind is int else [math.nan]
    for end, is_open, way in (
        (bounds.low, bounds.low_open, -1),
        (bounds.high, bounds.high_open, 1),
    ):
        if is_open:
            found.append(end)
        elif math.isfinite(end):
            found.append(int(end) + way if kind is int else math.nextafter(end, way * math.inf))
        if kind is not int:
            found.append(way * math.inf if not math.isinf(end) or is_open else end)
    return [value for value in found if value not in bounds]


def test_numbers_out_of_bounds(engine: Engine, loss: Loss) -> None:
    case = plain(loss)
    for parameter in loss.all_parameters:
        if parameter.bounds is None:
            continue
        kind = float if parameter.is_vector else parameter.type
        for value in _out_of(parameter.bounds, kind):
            given = (1.0, value, 1.0, 1.0, 1.0) if parameter.is_vector else value
            thing = f"{parameter.name}[1]" if parameter.is_vector else parameter.name
            bad = Case(loss, {parameter.name: given}, case.form, case.inputs)
            error = refused(
                engine, bad, InvalidParameter, f"{thing} must be in {parameter.bounds}, got "
            )
            assert error.field == f"loss.{loss.name}.{parameter.name}"


def test_unknown_parameters(engine: Engine, loss: Loss) -> None:
    case = plain(loss)
    bad = Case(loss, {"detla": 2.0}, case.form, case.inputs)
    refused(engine, bad, InvalidParameter, "detla", loss.message, "2.0")


def _vectors(loss: Loss) -> list[Parameter]:
    return [parameter for parameter in loss.parameters if parameter.is_vector]


def test_vectors_of_the_wrong_length(engine: Engine, loss: Loss) -> None:
    for parameter in _vectors(loss):
        for form in forms(loss):
            for length in (4, 6, 35):
                bad = draw(loss, {parameter.name: (1.0,) * length}, form, 7, 5)
                refused(
                    engine,
                    bad,
                    InvalidParameter,
                    f"{parameter.name} must have 5 numbers, got {length}",
                )


def test_numbers_too_large_for_the_compute_type_are_no_surprise(engine: Engine, loss: Loss) -> None:
    """A legal number beyond float32 is infinite there; it is data, not a failure of ours."""
    for parameter in loss.parameters:
        if parameter.bounds is None or not math.isinf(parameter.bounds.high):
            continue
        for number in (1e300, max(1e-300, parameter.bounds.low)):
            given: dict[str, Any] = {}
            value = (number,) * 5 if parameter.is_vector else number
            if not accepted(loss, {parameter.name: value}):
                given = max(variants(loss), key=len)  # it goes with others
            given[parameter.name] = value
            case = draw(loss, given, forms(loss)[0], 7, 5).astype(np.float32)
            assert engine.run(case.job()).example_count == 7


def test_a_rule_between_parameters_holds_for_an_empty_batch_too(engine: Engine, loss: Loss) -> None:
    refusals = 0
    for given in _pairs(loss):
        case = draw(loss, given, forms(loss)[0], 7, 5)
        message = _refusal(engine, case)
        assert _refusal(engine, case.rows(slice(0))) == message
        refusals += message is not None
    if not refusals:
        pytest.skip("it has no such rule")


def _refusal(engine: Engine, case: Case) -> str | None:
    try:
        engine.run(case.job())
    except InvalidParameter as error:
        return str(error)
    return None


def _pairs(loss: Loss) -> list[dict[str, Any]]:
    """Each choice of an enum with each number."""
    enums = [p for p in loss.parameters if p.type is DistributionKind]
    return [
        {chosen.name: member, number.name: value}
        for chosen in enums
        for member in DistributionKind
        for number in loss.parameters
        for value in interesting(number, 5)
    ]


LOGITS_ONLY = {"temperature": "1", "class_priors": "empty", "z_loss": "0", "outputs": "empty"}


def test_what_belongs_to_logits_goes_with_logits(engine: Engine, loss: Loss) -> None:
    parameters = {p.name: p for p in loss.parameters}
    names = LOGITS_ONLY.keys() & parameters.keys()
    if not names or "prediction_kind" not in parameters:
        pytest.skip("it has nothing that belongs to logits, or one kind of predictions")
    kinds = (DistributionKind.PROBABILITIES, DistributionKind.LOG_PROBABILITIES)
    for name, kind in itertools.product(sorted(names), kinds):
        value = interesting(parameters[name], 5)[0]
        bad = draw(loss, {"prediction_kind": kind, name: value}, Form.CLASSES, 7, 5)
        words = f"{name} must be {LOGITS_ONLY[name]} unless predictions are logits, got "
        assert refused(engine, bad, InvalidParameter, words).field == f"loss.{loss.name}.{name}"


def test_a_strength_goes_with_priors(engine: Engine, loss: Loss) -> None:
    if "prior_strength" not in {p.name for p in loss.parameters}:
        pytest.skip("it takes no priors")
    bad = draw(loss, {"prior_strength": 0.5}, Form.CLASSES, 7, 5)
    words = "prior_strength must be 1 unless class_priors are given, got 0.5"
    refused(engine, bad, InvalidParameter, words)


def test_an_ignore_index_goes_with_class_indices(engine: Engine, loss: Loss) -> None:
    if IGNORE_INDEX not in loss.layout_parameters:
        pytest.skip("it ignores no label")
    for form in (Form.FLOATS, Form.INTEGERS):
        bad = draw(loss, {"ignore_index": 1}, form, 7, 5)
        refused(engine, bad, InvalidParameter, "ignore_index must go with class indices", "got 1")


@pytest.mark.parametrize("reduction", [Reduction.SUM, Reduction.NONE])
def test_a_normalizer_goes_with_a_mean(engine: Engine, loss: Loss, reduction: Reduction) -> None:
    refused(
        engine,
        plain(loss),
        InvalidRequest,
        "normalizer",
        reduction.value,
        normalizer=2.0,
        reduction=reduction,
    )


@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, math.nan, math.inf])
def test_a_normalizer_is_positive_and_finite(engine: Engine, loss: Loss, value: float) -> None:
    for reduction in (Reduction.MEAN, Reduction.BATCH_MEAN):
        refused(
            engine,
            plain(loss),
            InvalidRequest,
            f"normalizer must be in (0, inf), got {value:g}",
            normalizer=value,
            reduction=reduction,
        )


def test_axes_that_are_not_there(engine: Engine, loss: Loss) -> None:
    case = plain(loss, form=forms(loss)[-1])
    if loss.shape is Shape.ROWWISE and CLASS_AXIS in loss.layout_parameters:
        for axis in (2, 7, -3, -8):
            bad = Case(loss, {"class_axis": axis}, case.form, case.inputs)
            refused(engine, bad, InvalidTensor, f"an axis {axis} of classes", "[7, 5]")
    if {CLASS_AXIS, OPTIONAL_CLASS_AXIS} & set(loss.layout_parameters) and (
        loss.shape is Shape.REGIONWISE
    ):
        shape = list(case.inputs[loss.inputs[0].name].shape)
        for axis in (0, -len(shape), len(shape), -8):
            bad = Case(loss, {"class_axis": axis}, case.form, case.inputs)
            refused(engine, bad, InvalidTensor, f"an axis {axis} of classes behind", f"{shape}")
    if BATCH_DIMS in loss.layout_parameters:
        for count in (3, 8):
            bad = Case(loss, {"batch_dims": count}, case.form, case.inputs)
            refused(engine, bad, InvalidTensor, f"batch_dims = {count}", "[7, 5]")
