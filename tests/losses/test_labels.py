"""Labels: any integer type, never out of range, told from probabilities by type and shape."""

from typing import Any

import numpy as np
import pytest

from lossd.engine import Engine
from lossd.errors import InvalidTensor
from lossd.losses import Choices, Content, Loss
from lossd.losses._inputs import IGNORE_INDEX
from tests.losses.case import Case, Form, class_input, values
from tests.losses.compare import place
from tests.losses.test_refusals import refused
from tests.sampling import draw, forms


def _class_case(loss: Loss, **parameters: Any) -> tuple[Case, str]:
    if Form.CLASSES not in forms(loss):
        pytest.skip("it takes no class indices")
    return draw(loss, parameters, Form.CLASSES, 7, 5), class_input(loss)


@pytest.mark.parametrize(
    ("label", "dtype"),
    [
        (5, np.uint8),
        (-1, np.int8),
        (-128, np.int8),
        (255, np.uint8),
        (300, np.int16),
        (2**31, np.uint32),
        (2**63 - 1, np.int64),
        (-(2**63), np.int64),
        (2**63, np.uint64),
        (2**64 - 1, np.uint64),
    ],
)
def test_labels_out_of_range(engine: Engine, loss: Loss, label: int, dtype: type) -> None:
    case, name = _class_case(loss)
    legal = f"[0, {case.inputs[loss.inputs[0].name].shape[-1]})"
    for position in (0, 3, 6):
        labels = case.inputs[name].astype(np.dtype(dtype))
        labels.reshape(-1)[position:] = label
        error = refused(
            engine,
            case.with_inputs(**{name: labels}),
            InvalidTensor,
            f"{place(name, position, labels)} must be in {legal}, got {label}",
        )
        assert error.field == f"inputs.{name}"
        assert error.details == {"index": str(position), "value": str(label), "range": legal}


def test_a_boolean_label_beyond_one_class(engine: Engine, loss: Loss) -> None:
    case, name = _class_case(loss)
    one = Case(
        loss, {}, case.form, {"predictions": np.zeros((2, 1)), name: np.array([False, True])}
    )
    refused(engine, one, InvalidTensor, f"{name}[1] must be in [0, 1)")


def test_an_ignore_index_excuses_itself_alone(engine: Engine, loss: Loss) -> None:
    if IGNORE_INDEX not in loss.layout_parameters:
        pytest.skip("it ignores no label")
    case, name = _class_case(loss, ignore_index=-100)
    labels = case.inputs[name].copy()
    labels[:2] = -100
    labels[4] = -101
    refused(engine, case.with_inputs(**{name: labels}), InvalidTensor, f"{name}[4]", "-101")


def test_class_indices_are_integers(engine: Engine, loss: Loss) -> None:
    case, name = _class_case(loss)
    floats = case.inputs[name].astype(np.float32)
    refused(engine, case.with_inputs(**{name: floats}), InvalidTensor, "integers", "float32")


LABEL_TYPES = ("bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")


def test_labels_of_any_integer_type_are_the_same(engine: Engine, loss: Loss) -> None:
    for form in (f for f in forms(loss) if f is not Form.FLOATS):
        case = draw(loss, {}, form, 7, 2)
        targets = next(i for i in loss.inputs if i.content is not Content.FLOATS)
        if isinstance(targets.domain, Choices) and -1 in targets.domain.numbers:
            pytest.skip("not every integer type has its labels")
        name = targets.name
        case = case.with_inputs(**{name: np.minimum(case.inputs[name], 1)})
        expected = engine.run(case.job())
        for dtype in LABEL_TYPES:
            converted = case.inputs[name].astype(dtype)
            if (converted != case.inputs[name]).any():
                continue  # the type has not all the numbers that are meant
            result = engine.run(case.with_inputs(**{name: converted}).job())
            assert result.loss == expected.loss, dtype
            assert (values(result) == values(expected)).all(), dtype


def test_whole_numbers_for_each_element_are_probabilities(engine: Engine, loss: Loss) -> None:
    for case in (draw(loss, {}, Form.INTEGERS, 7, 5) for f in forms(loss) if f is Form.INTEGERS):
        name = loss.inputs[1].name
        floats = case.with_inputs(**{name: case.inputs[name].astype(np.float64)})
        one, two = engine.run(case.job()), engine.run(floats.job())
        assert one.loss == two.loss
        if Form.CLASSES in forms(loss):
            labels = case.with_inputs(**{name: case.inputs[name].argmax(axis=1)})
            three = engine.run(labels.job())
            np.testing.assert_allclose(values(one), values(three), rtol=1e-14)
