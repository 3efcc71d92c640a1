"""Refusals: every mistake has its class, names the thing and the number, and harms nobody else."""

from typing import Any

import numpy as np
import pytest

from lossd.engine import Engine
from lossd.errors import InvalidRequest, InvalidTensor
from lossd.losses import DOMAINS, Choices, Content, Differentiable, DistributionKind, Input, Loss
from lossd.losses._inputs import CLASS_AXIS
from tests.losses.case import Case, Form, class_input, values
from tests.losses.compare import BFLOAT16, Array, assert_same_bits, place
from tests.sampling import draw, forms, plain


def refused(
    engine: Engine, case: Case, kind: type[InvalidRequest], *words: str, **options: Any
) -> InvalidRequest:
    """The error that the job raises; the next job is served as if nothing had happened."""
    good = plain(case.loss)
    before = engine.run(good.job())
    with pytest.raises(InvalidRequest) as caught:
        engine.run(case.job(**options))
    assert type(caught.value) is kind, caught.value
    message = str(caught.value)
    assert " must " in message
    assert ", got " in message
    for word in words:
        assert word in message, (word, message)
    assert caught.value.field, "the path of the field at fault"
    after = engine.run(good.job())
    assert after.loss == before.loss
    assert_same_bits(values(after), values(before))
    return caught.value


def _outside(declared: Input) -> list[float]:
    """Numbers that break the domain."""
    assert declared.domain is not None
    domain = declared.domain
    if isinstance(domain, Choices):
        return [np.nan, min(domain.numbers) - 1, max(domain.numbers) - 0.5, np.inf]
    found = [] if domain.has_nan else [np.nan]
    for end, is_open, way in (
        (domain.low, domain.low_open, -1),
        (domain.high, domain.high_open, 1),
    ):
        if np.isfinite(end) or is_open:
            found.append(end if is_open else end + way * 0.5)
    return found


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float32, np.float64], ids=str)
def test_numbers_outside_their_domain(engine: Engine, loss: Loss, dtype: Any) -> None:
    for declared in (i for i in loss.inputs if i.domain is not None):
        case = draw(loss, {}, Form.FLOATS, 7, 5).astype(dtype)
        for value in _outside(declared):
            values = case.inputs[declared.name].copy()
            index = values.size * 2 // 5
            values.reshape(-1)[[index, -1]] = value
            error = refused(
                engine,
                case.with_inputs(**{declared.name: values}),
                InvalidTensor,
                f"{place(declared.name, index, values)} must be in {declared.domain}, got {value}",
            )
            assert error.details["index"] == str(index)


WRONG = {
    DistributionKind.LOG_PROBABILITIES: (1e-3, 2.0, np.inf),
    DistributionKind.PROBABILITIES: (-1e-3, 1.01, np.inf, -np.inf),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_probability_in_its_form(
    engine: Engine, loss: Loss, kind: DistributionKind
) -> None:
    """Of predictions as of targets; what is NaN is a mistake in a target only."""
    described = [declared for declared in loss.inputs if declared.kind]
    for declared in described:
        case = draw(loss, {declared.kind: kind}, forms(loss)[0], 7, 5)
        is_target = declared.differentiable is not Differentiable.BY_DEFAULT
        for value in (*WRONG[kind], *([np.nan] if is_target else [])):
            values = case.inputs[declared.name].copy()
            values[[2, -1], 3] = value
            rule = DOMAINS[kind]
            refused(
                engine,
                case.with_inputs(**{declared.name: values}),
                InvalidTensor,
                f"{declared.name}[2, 3] must be in {rule}, got {value}",
            )
            excluded = np.isin(np.arange(7), (2, 6))
            hidden = case.with_inputs(**{declared.name: values})
            assert engine.run(hidden.job(mask=~excluded)).ignored_count == 2
        if not is_target:
            values = case.inputs[declared.name].copy()
            values[2] = np.nan
            missing = case.with_inputs(**{declared.name: values})
            assert engine.run(missing.job()).nonfinite_examples.tolist() == [2]
    if not described:
        pytest.skip("it takes no distribution")


def test_integers_outside_their_domain(engine: Engine, loss: Loss) -> None:
    for declared in (
        i for i in loss.inputs if i.domain is not None and i.content is not Content.FLOATS
    ):
        case = draw(loss, {}, Form.INTEGERS, 7, 5)
        values = case.inputs[declared.name].copy()
        values.reshape(-1)[13 % values.size] = -2
        refused(
            engine,
            case.with_inputs(**{declared.name: values}),
            InvalidTensor,
            f"{place(declared.name, 13 % values.size, values)} must be in {declared.domain}, "
            "got -2",
        )


def test_the_index_is_the_callers_wherever_the_class_axis_is(engine: Engine, loss: Loss) -> None:
    if CLASS_AXIS not in loss.layout_parameters or Form.FLOATS not in forms(loss):
        pytest.skip("it has no targets with a class axis")
    name = class_input(loss)
    targets = np.full((2, 5, 3), 0.2)
    targets[1, 4, 0] = -0.5
    case = Case(
        loss,
        {"class_axis": 1},
        Form.FLOATS,
        {"predictions": np.zeros((2, 5, 3)), name: targets},
    )
    refused(engine, case, InvalidTensor, f"{name}[1, 4, 0] must be in")


@pytest.mark.parametrize("value", [-1.0, -1e-300, np.nan, np.inf, -np.inf])
def test_weights_that_are_no_weights(engine: Engine, loss: Loss, value: float) -> None:
    case = plain(loss)
    weights = np.ones(7)
    weights[[4, 5]] = value
    error = refused(
        engine,
        case,
        InvalidTensor,
        f"weights[4] must be in [0, inf), got {value}",
        weights=weights,
    )
    assert error.field == "weights"


@pytest.mark.parametrize("name", ["weights", "mask", "cotangent"])
@pytest.mark.parametrize("shape", [(6,), (8,), (7, 1), (1, 7), (1,), (0,), (7, 5)])
def test_what_goes_with_examples_has_their_shape(
    engine: Engine, loss: Loss, name: str, shape: tuple[int, ...]
) -> None:
    array: Array = np.ones(shape, bool if name == "mask" else float)
    error = refused(
        engine,
        plain(loss),
        InvalidTensor,
        f"{name} must have the shape [7] of the examples, got {list(shape)}",
        **{name: array},
    )
    assert error.field == f"{name}.shape"


@pytest.mark.parametrize("name", ["weights", "mask"])
def test_a_single_weight_or_mask_is_not_spread(engine: Engine, loss: Loss, name: str) -> None:
    array: Array = np.array(1, bool) if name == "mask" else np.array(1.0)
    refused(engine, plain(loss), InvalidTensor, name, "[7]", **{name: array})


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_a_mask_is_boolean(engine: Engine, loss: Loss, dtype: type) -> None:
    refused(
        engine,
        plain(loss),
        InvalidTensor,
        f"mask must be boolean, got {np.dtype(dtype).name}",
        mask=np.ones(7, dtype),
    )


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint64, np.bool_])
def test_predictions_are_floating_point(engine: Engine, loss: Loss, dtype: type) -> None:
    for declared in (i for i in loss.inputs if i.content is Content.FLOATS):
        case = plain(loss)
        whole: Array = np.ones((7, 5), dtype)
        refused(
            engine,
            case.with_inputs(**{declared.name: whole}),
            InvalidTensor,
            f"{declared.name} must be floating point, got {whole.dtype.name}",
        )


def test_shapes_are_never_broadcast(engine: Engine, loss: Loss) -> None:
    first, *others = (i.name for i in loss.inputs)
    for form in forms(loss):
        case = draw(loss, {}, form, 7, 5)
        for other in others:
            array = case.inputs[other]
            wrong = [array[:, None], array[None], array[:1], array[:6], np.zeros(array.ndim)]
            if array.ndim == 2:
                wrong += [array[:, :1], array[:, 0].astype(float), array.T, np.array(1.0)]
            for bad in wrong:
                error = refused(engine, case.with_inputs(**{other: bad}), InvalidTensor, other)
                assert error.field.startswith(f"inputs.{other}")
    column = np.ones((7, 1))
    if not others:
        return
    for one, two in ((column, column[:, 0]), (column[:, 0], column)):
        inputs = {first: one, **dict.fromkeys(others, two)}
        with pytest.raises(InvalidTensor):
            engine.run(Case(loss, {}, Form.FLOATS, inputs).job())


def test_an_example_without_elements(engine: Engine, loss: Loss) -> None:
    for form in (f for f in forms(loss) if f is not Form.CLASSES):
        for rows in (0, 3):
            empty = draw(loss, {}, form, 4, 5)
            nothing = {n: a[:rows, :0] if a.ndim > 1 else a[:rows] for n, a in empty.inputs.items()}
            refused(engine, empty.with_inputs(**nothing), InvalidTensor, "at least one")


def test_inputs_are_the_declared_ones(engine: Engine, loss: Loss) -> None:
    case = plain(loss)
    more = case.with_inputs(prediction=np.zeros(7))
    error = refused(engine, more, InvalidTensor, "'prediction'")
    assert error.field == f"inputs[{len(case.inputs)}].name"
    refused(engine, case.with_inputs(**{"x" * 999: np.zeros(7)}), InvalidTensor, "'" + "x" * 64)
    for name in case.inputs:
        missing = {n: a for n, a in case.inputs.items() if n != name}
        lacking = Case(loss, {}, case.form, missing)
        said = f"{name} must be given for {loss.message}, got nothing"
        refused(engine, lacking, InvalidTensor, said)
        job = case.job()
        inputs = {**job.inputs, name: [case.inputs[name]] * 2}
        with pytest.raises(InvalidTensor, match=f"{name} must be given as one tensor, got 2"):
            engine.run(type(job)(loss=loss, parameters={}, inputs=inputs))


def test_gradients_are_of_differentiable_inputs(engine: Engine, loss: Loss) -> None:
    for form in forms(loss):
        case = draw(loss, {}, form, 7, 5)
        wrong = ["prediction", "", "weights", *(set(case.inputs) - set(case.differentiable))]
        for name in wrong:
            error = refused(
                engine,
                case,
                InvalidRequest,
                f"got '{name}'",
                gradients=[*case.differentiable, name],
            )
            assert error.field == f"gradients.inputs[{len(case.differentiable)}]"
    assert any(i.differentiable is not Differentiable.NO for i in loss.inputs)
