import math
from typing import Any

import numpy as np
import pytest

from lossd import client, v1
from lossd.client import arguments, kinds
from lossd.losses import LOSSES, Differentiable

MEMBERS = tuple(v1.LossSpec.DESCRIPTOR.oneofs_by_name["kind"].fields)


def invalid(message: Any) -> Any:
    return pytest.raises(client.InvalidRequestError, match=message)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_every_loss_finds_its_member_even_when_it_has_no_parameters_set(member: Any) -> None:
    message = getattr(v1, member.message_type.name)()
    assert kinds.loss_name(kinds.spec_of(message)) == member.name


def test_the_parameters_of_a_loss_arrive() -> None:
    assert kinds.spec_of(v1.Huber(delta=2)).huber.delta == 2


def test_the_parameters_to_differentiate_in_are_those_of_the_catalogue() -> None:
    declared = {
        name: {p.name for p in loss.parameters if p.differentiable is not Differentiable.NO}
        for name, loss in LOSSES.items()
    }
    known = {name: set(names) for name, names in kinds.differentiable_parameters.items()}
    assert known == {name: names for name, names in declared.items() if names}


def test_a_spec_is_taken_as_it_is() -> None:
    spec = v1.LossSpec(huber=v1.Huber(delta=2))
    assert kinds.spec_of(spec) == spec


@pytest.mark.parametrize(
    ("loss", "got"),
    [
        (3, "got int"),
        (None, "got NoneType"),
        (v1.Huber, "got the class Huber"),
        (v1.Tensor(), "got Tensor"),
    ],
)
def test_what_is_no_loss_is_refused_by_its_type(loss: Any, got: Any) -> None:
    with invalid(f"^loss must be a message of LossSpec.*{got}$"):
        kinds.spec_of(loss)


def test_an_empty_spec_has_no_name() -> None:
    with invalid("^loss must be set"):
        kinds.loss_name(v1.LossSpec())


def test_positional_inputs_take_the_declared_names_in_order() -> None:
    bound = arguments.bind(("a", "b", "c"), (1, 2), {"c": 3})
    assert bound == {"a": 1, "b": 2, "c": 3}


def test_an_input_given_both_ways_is_refused() -> None:
    with invalid("^a must be given once") as caught:
        arguments.bind(("a", "b"), (1,), {"a": 2})
    assert caught.value.field == "a"


def test_more_inputs_than_names_are_refused() -> None:
    with invalid(r"^positional inputs must be at most 2 \(a, b\), got 3$"):
        arguments.bind(("a", "b"), (1, 2, 3), {})


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("Reduction", arguments.reductions),
        ("EmptyPolicy", arguments.empty_policies),
        ("NonfinitePolicy", arguments.nonfinite_policies),
    ],
)
def test_the_words_are_the_members_of_the_enum(name: Any, table: Any) -> None:
    members = dict(getattr(v1, name).items())
    prefix = next(iter(members)).removesuffix("UNSPECIFIED")
    words = {key.removeprefix(prefix).lower(): value for key, value in members.items() if value}
    assert dict(table) == words


@pytest.mark.parametrize("value", ["x", "MEAN", "", None, 1, ["mean"]])
def test_an_unknown_word_is_refused_with_the_known_ones(value: Any) -> None:
    with invalid("^reduction must be one of mean, batch_mean, sum, none, got ") as caught:
        arguments.member("reduction", arguments.reductions, value)
    assert f"got {value!r}" in str(caught.value)


@pytest.mark.parametrize(("value", "meant"), [("MEAN", "mean"), ("meen", "mean"), ("Sum", "sum")])
def test_a_misspelt_word_is_answered_with_the_right_one(value: str, meant: str) -> None:
    with invalid(f"got '{value}': did you mean {meant}"):
        arguments.member("reduction", arguments.reductions, value)


@pytest.mark.parametrize("value", ["x", "3", [1], np.ones(1), np.ones((1, 1)), {0: 1}, 10**400])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with invalid("^normalizer must be a number"):
        arguments.number("normalizer", value)


def test_a_selection_may_be_unset_empty_or_any_iterable() -> None:
    assert arguments.selection(None) is None
    assert arguments.selection(()) == v1.GradientSelection()
    assert arguments.selection(name for name in "ab") == v1.GradientSelection(inputs=["a", "b"])


@pytest.mark.parametrize("value", ["predictions", 3, [1], [None], ["\ud800"], {"a": True}])
def test_a_selection_of_anything_else_is_refused(value: Any) -> None:
    with invalid("^gradients must (be a list|hold names)"):
        arguments.selection(value)


def test_a_timeout_that_no_clock_can_hold_is_a_very_long_one() -> None:
    """gRPC takes a deadline after 2262 for one that has passed."""
    ends_of_clocks = (1e300, 10**18, 9.3e9)
    assert all(1e8 < arguments.checked_timeout(timeout) < 5e9 for timeout in ends_of_clocks)


@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan, None])
def test_a_timeout_out_of_bounds_is_refused(value: Any) -> None:
    with invalid(r"^timeout must be in \(0, inf\), got"):
        arguments.checked_timeout(value)


@pytest.mark.parametrize("value", ["", "a b", "a\nb", "\x1b[31m", "é", "x" * 129, b"x", 7, None])
def test_an_id_that_could_forge_a_line_of_a_log_is_refused(value: Any) -> None:
    with invalid("^request_id must be 1 to 128 visible ASCII characters, got ") as caught:
        arguments.checked_request_id(value)
    assert caught.value.field == "request_id"


def test_an_id_of_visible_characters_is_taken() -> None:
    for value in ("7", "run-3/step-7:rank=0", "~" * 128):
        assert arguments.checked_request_id(value) == value


@pytest.mark.parametrize("value", [True, 1, np.True_, np.ones((), np.bool_)])
def test_a_flag_may_be_of_numpy(value: Any) -> None:
    assert arguments.flag("lint", value) is True


@pytest.mark.parametrize(
    "value",
    [None, "False", "", 2, 1.0, [], [True], np.array([True]), np.zeros(2), np.ma.masked, object],
    ids=repr,
)
def test_what_is_no_flag_is_refused_by_name(value: Any) -> None:
    with invalid("^lint must be True or False, got ") as caught:
        arguments.flag("lint", value)
    assert caught.value.field == "lint"
