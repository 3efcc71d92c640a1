"""The sampling itself: neither constant nor outside of what a loss takes, and enough of it."""

import itertools

import numpy as np
import pytest

from lossd.losses import Choices, Loss, Parameter, Shape
from tests.conftest import OF_ROWS
from tests.losses.case import Form
from tests.sampling import (
    CLASSES,
    accepted,
    cases,
    coupled_cases,
    draw,
    forms,
    interesting,
    members,
    variants,
)


@pytest.fixture
def loss(any_loss: Loss) -> Loss:
    """Here it may be of a set too."""
    return any_loss


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
            assert not np.any(declared.domain.outside(drawn))
            if isinstance(declared.domain, Choices):
                assert set(np.unique(drawn)) == set(declared.domain.numbers)
                continue
            ends = (
                (declared.domain.low, declared.domain.low_open),
                (declared.domain.high, declared.domain.high_open),
            )
            for end, is_open in ends:
                touched = not interior and not is_open and np.isfinite(end)
                assert (drawn == end).any() == touched


def test_the_same_seed_draws_the_same_and_another_does_not(loss: Loss) -> None:
    for form in forms(loss):
        one, same, other = (draw(loss, {}, form, 7, 5, seed=s).inputs for s in (0, 0, 1))
        for name, array in one.items():
            assert (array == same[name]).all()
            assert (array != other[name]).any()


def test_every_parameter_is_varied(loss: Loss) -> None:
    found = variants(loss)
    if loss.shape is Shape.COUPLED:  # what goes with optional inputs is varied too
        every = [dict(case.parameters) for case in coupled_cases(loss)]
        found = [item for i, item in enumerate(every) if item not in every[:i]]
    assert {} in found
    assert len(found) == len({str(item) for item in found})
    for parameter in loss.parameters:
        used = [item[parameter.name] for item in found if parameter.name in item]
        assert used, f"{parameter.name} keeps its default everywhere"
        assert parameter.default not in used
        for value in interesting(parameter, 5):
            assert parameter.checked(value) == value
    if any(_go_together(loss, *pair) for pair in itertools.combinations(loss.parameters, 2)):
        assert max(len(item) for item in found) >= 2


def _go_together(loss: Loss, one: Parameter, other: Parameter) -> bool:
    """Whether a value of each is accepted beside one of the other."""
    values = [interesting(each, 5) or members(each)[1:] for each in (one, other)]
    return any(
        accepted(loss, {one.name: left, other.name: right})
        for left, right in itertools.product(*values)
    )


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_shapes_are_those_asked_for(loss: Loss, rows: int) -> None:
    if loss.shape not in (*OF_ROWS, Shape.SETWISE):
        pytest.skip("its inputs differ in length, or in number")
    for form in forms(loss):
        case = draw(loss, {}, form, rows, 5)
        assert case.count == rows
        for array in case.inputs.values():
            assert array.shape in ((rows, 5), (rows,), (rows, 5, CLASSES))
