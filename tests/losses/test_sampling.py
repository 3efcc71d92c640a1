"""The sampling itself: neither constant nor outside of what a loss takes, and enough of it."""

import numpy as np
import pytest

from lossd.losses import Loss
from tests.losses.case import Form
from tests.sampling import cases, draw, forms, interesting, variants


def test_inputs_are_not_constant(loss: Loss) -> None:
    for case in cases(loss):
        for name, array in case.inputs.items():
            assert len(np.unique(array)) > 1, (case, name)
            assert len(np.unique(array, axis=0)) > 1, "rows differ"


def test_inputs_are_inside_their_domain_and_touch_its_ends(loss: Loss) -> None:
    for declared in loss.inputs:
        if declared.domain is None:
            continue
        for interior in (False, True):
            drawn = draw(loss, {}, Form.FLOATS, 7, 5, interior=interior).inputs[declared.name]
            assert not declared.domain.outside(drawn).any()
            assert (drawn == declared.domain.low).any() == (
                not interior and not declared.domain.low_open
            )


def test_the_same_seed_draws_the_same_and_another_does_not(loss: Loss) -> None:
    for form in forms(loss):
        one, same, other = (draw(loss, {}, form, 7, 5, seed=s).inputs for s in (0, 0, 1))
        for name, array in one.items():
            assert (array == same[name]).all()
            assert (array != other[name]).any()


def test_every_parameter_is_varied(loss: Loss) -> None:
    found = variants(loss)
    assert {} in found
    assert len(found) == len({str(item) for item in found})
    for parameter in loss.parameters:
        used = [item[parameter.name] for item in found if parameter.name in item]
        assert used, f"{parameter.name} keeps its default everywhere"
        assert parameter.default not in used
        for value in interesting(parameter, 5):
            assert parameter.checked(value) == value
    together = max(len(item) for item in found)
    assert together >= min(2, len(loss.parameters))


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_shapes_are_those_asked_for(loss: Loss, rows: int) -> None:
    for form in forms(loss):
        case = draw(loss, {}, form, rows, 5)
        assert case.count == rows
        for array in case.inputs.values():
            assert array.shape in ((rows, 5), (rows,))
