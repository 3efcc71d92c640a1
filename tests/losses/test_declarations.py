"""Declarations: documented, legal, and the same as the messages on the wire."""

import enum
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor

from lossd import v1
from lossd.forms import is_repeated
from lossd.losses import LOSSES, Choices, Differentiable, Input, Interval, Loss, Output, Parameter
from lossd.schema import INTEGERS, REQUIRED, ParameterError
from lossd.serving.loss_service.requests import WEIGHTED_SUM
from lossd.serving.wire.comments import comments
from tests.oracles import ORACLES, OUTPUT_ORACLES
from tests.sampling import required

KINDS = v1.LossSpec.DESCRIPTOR.oneofs_by_name["kind"].fields


@pytest.fixture
def loss(any_loss: Loss) -> Loss:
    """Here it may be of a set too."""
    return any_loss


def test_it_has_an_oracle(loss: Loss) -> None:
    assert loss.name in ORACLES, (
        f"{loss.name} has no oracle: write its formula for one example in mpmath, as a function "
        f"{loss.name} in one of the modules of tests/oracles"
    )


def test_it_has_a_message(loss: Loss) -> None:
    messages = {field.name: field.message_type.name for field in KINDS if field.message_type}
    assert messages.get(loss.name) == loss.message, (
        f"{loss.name} is not on the wire: add a message {loss.message} to losses.proto, a member "
        f"{loss.name} to the oneof of LossSpec, and run nox -s regenerate"
    )


def test_every_message_has_a_loss() -> None:
    for field in KINDS:
        assert field.name in {*LOSSES, WEIGHTED_SUM}, (
            f"LossSpec has a member {field.name}: declare the loss in "
            f"server/lossd/losses/{field.name}.py"
        )


def test_it_is_documented(loss: Loss) -> None:
    assert loss.summary
    assert len(loss.summary) <= 92
    assert loss.summary.endswith(".")
    assert "value = " in loss.formula
    assert "gradient = " in loss.formula
    assert re.search(r"\b(1[6-9]|20)\d\d\b", loss.reference), "a reference has a year"
    for declared in loss.inputs:
        assert declared.description
    assert loss.name == loss.body.__name__


def test_it_has_worked_examples(loss: Loss) -> None:
    """Body and kernel may share a wrong formula; only an example worked by hand tells."""
    assert len(loss.examples) >= 2
    worked = {name for example in loss.examples for name in example.gradients}
    declared: list[Input | Parameter] = [*loss.inputs, *loss.parameters]
    differentiable = {i.name for i in declared if i.differentiable is not Differentiable.NO}
    assert worked == differentiable
    used = {name for example in loss.examples for name in example.parameters}
    assert used or not loss.parameters


def test_an_example_of_every_choice_of_an_enum(loss: Loss) -> None:
    for parameter in loss.parameters:
        if parameter.choices is not None and not parameter.is_list:
            used = {e.parameters.get(parameter.name, parameter.default) for e in loss.examples}
            assert used == set(parameter.choices)


def test_an_example_at_a_kink(loss: Loss) -> None:
    """It shows which subgradient is chosen there."""
    for name, distance in loss.kinks.items():
        assert any(
            (distance(*map(_row, e.inputs.values()), **e.parameters) == 0).any()
            for e in loss.examples
            if name in e.gradients
        ), name


def _row(value: Any) -> Any:
    array = np.asarray(value)
    return array if array.dtype.kind == "i" else array.reshape(1, -1)


def test_defaults_are_legal(loss: Loss) -> None:
    complete = loss.complete(required(loss))
    assert list(complete) == [parameter.name for parameter in loss.all_parameters]
    for parameter in loss.all_parameters:
        if parameter.default is REQUIRED:
            continue
        assert parameter.checked(parameter.default) == parameter.default
        assert complete[parameter.name] == parameter.default


def test_comments_say_what_an_unset_choice_means(loss: Loss) -> None:
    for parameter in loss.all_parameters:
        if parameter.choices is None or parameter.is_list:
            continue
        kind = _fields(loss)[parameter.name].enum_type
        assert kind is not None
        unset = kind.values_by_number[0].name
        prefix = unset.removesuffix("UNSPECIFIED")
        said = comments()[f"{kind.name}.{unset}"]
        if parameter.default is REQUIRED:
            assert said == "Unset; refused."
        else:
            default = f"Unset: {prefix}{parameter.default.name}."
            assert said in (default, "Unset: the default of the parameter."), parameter.name


def test_numbers_have_bounds(loss: Loss) -> None:
    for parameter in loss.all_parameters:
        is_number = parameter.type in (int, float) or parameter.is_vector
        assert (parameter.bounds is not None) == is_number, parameter.name
        if parameter.bounds is not None:
            assert parameter.bounds.low < parameter.bounds.high
            assert not parameter.bounds.__contains__(math.nan)


def test_inputs_are_named_once_and_one_is_differentiable(loss: Loss) -> None:
    names = [declared.name for declared in loss.inputs]
    assert len(names) == len(set(names))
    assert any(i.differentiable is Differentiable.BY_DEFAULT for i in loss.inputs)
    for declared in loss.inputs:
        assert loss.input(declared.name) is declared


def _fields(loss: Loss) -> dict[str, FieldDescriptor]:
    return dict(getattr(v1, loss.message).DESCRIPTOR.fields_by_name.items())


def test_the_message_has_exactly_the_parameters(loss: Loss) -> None:
    assert sorted(_fields(loss)) == sorted(p.name for p in loss.all_parameters)


def test_the_fields_have_the_types_of_the_parameters(loss: Loss) -> None:
    for parameter in loss.all_parameters:
        field = _fields(loss)[parameter.name]
        assert is_repeated(field) == parameter.is_list
        if parameter.type is float or parameter.is_vector:
            assert field.type == FieldDescriptor.TYPE_DOUBLE
        elif parameter.is_text:
            assert field.type == FieldDescriptor.TYPE_STRING
        elif parameter.type is bool:
            assert field.type == FieldDescriptor.TYPE_BOOL
        elif parameter.type is int:
            assert field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64)
        else:
            assert field.type == FieldDescriptor.TYPE_ENUM
            assert field.enum_type is not None
            kind = parameter.choices
            assert kind is not None
            prefix = _prefix(kind)
            members = [n.removeprefix(prefix) for n in field.enum_type.values_by_name]
            assert members == ["UNSPECIFIED", *(member.name for member in kind)]


def test_numbers_are_optional_so_that_zero_is_not_absence(loss: Loss) -> None:
    for parameter in loss.all_parameters:
        if parameter.type in (int, float, bool):
            assert _fields(loss)[parameter.name].has_presence, parameter.name


def test_outputs_are_named_like_their_choices(loss: Loss) -> None:
    parameter = next((p for p in loss.parameters if p.name == "outputs"), None)
    if parameter is None:
        assert loss.name not in OUTPUT_ORACLES
        return
    assert parameter.choices is not None
    for member in parameter.choices:
        assert isinstance(member.value, Output)
        assert member.value.name == member.name.lower()
        assert member.value.description
    assert list(OUTPUT_ORACLES[loss.name]) == [member.value.name for member in parameter.choices]


def _prefix(kind: type[enum.Enum]) -> str:
    """``DISTRIBUTION_KIND_`` for DistributionKind."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).upper() + "_"


def _default_text(parameter: Parameter) -> str:
    if parameter.default is REQUIRED:
        return "Required"
    if parameter.is_list:
        return "empty for none"
    if parameter.default is None:
        return "Unset by default."
    if isinstance(parameter.default, enum.Enum):
        return f"Default {_prefix(parameter.type)}{parameter.default.name}."
    if parameter.type is bool:
        return f"Default {str(parameter.default).lower()}."
    return f"Default {parameter.default:g}."


def test_comments_on_the_wire_say_bounds_and_default(loss: Loss) -> None:
    for parameter in loss.all_parameters:
        comment = comments()[f"{loss.message}.{parameter.name}"]
        assert _default_text(parameter) in comment, (parameter.name, comment)
        if parameter.bounds is not None and parameter.bounds is not INTEGERS:
            assert f"in {parameter.bounds}" in comment.replace("In ", "in "), comment


def _numbers() -> Iterator[float]:
    yield from (-math.inf, -1.0, -0.0, 0.0, 5e-324, 0.5, 1.0, math.nextafter(1, 2), math.inf)


def test_an_interval_says_the_same_of_a_number_and_of_an_array() -> None:
    for ends in ((False, False), (False, True), (True, False), (True, True)):
        interval = Interval(0, 1, *ends)
        for number in (*_numbers(), math.nan):
            assert (number not in interval) == bool(interval.outside(np.array([number]))[0])
    assert str(Interval(0, math.inf, low_open=True, high_open=True)) == "(0, inf)"
    assert str(Interval(-8, 7)) == "[-8, 7]"
    assert 0.0 not in Interval(0, 1, low_open=True)
    assert 1.0 in Interval(0, 1, low_open=True)


def test_choices_say_the_same_of_a_number_and_of_an_array() -> None:
    choices = Choices((-1, 1))
    for number in (*_numbers(), math.nan):
        assert (number not in choices) == bool(choices.outside(np.array([number]))[0])
    assert str(choices) == "{-1, 1}"


def test_comments_on_the_wire_say_which_numbers_inputs_hold(loss: Loss) -> None:
    said = re.findall(
        r"(?:[Tt]argets are numbers|probabilities are|(\w+), holds numbers) in (\[[^])]*[])])",
        comments()[loss.message],
    )
    given = {p.name: p.default for p in loss.all_parameters if p.default is not REQUIRED}
    for name, numbers in said:
        declared = next(i for i in loss.inputs if i.name == (name or "targets"))
        assert str(declared.under(given).domain) == numbers


def test_the_contract_names_no_loss() -> None:
    for path in Path(__file__).parent.glob("*.py"):
        words = set(re.findall(r"\w+", path.read_text()))
        assert not words & set(LOSSES), path


@pytest.mark.parametrize("place", [0, 500, 999])
@pytest.mark.parametrize("wrong", [-1.0, math.inf, -math.inf, math.nan])
def test_the_wrong_number_of_many_is_named(place: int, wrong: float) -> None:
    parameter = Parameter("weights", Sequence[float], (), Interval(0, math.inf, high_open=True))
    right = [0.0, 1.0, 2.5, 1e300] * 250
    assert parameter.checked(right) == tuple(right)
    assert parameter.checked([]) == ()
    with pytest.raises(ParameterError, match=rf"^weights\[{place}\] must be in \[0, inf\), got"):
        parameter.checked([*right[:place], wrong, *right[place + 1 :]])
