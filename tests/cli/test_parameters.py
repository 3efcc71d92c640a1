"""Parameters on the command line: every member of every enum by its names, and nothing else."""

from typing import Any

import click
import pytest
from google.protobuf.descriptor import FieldDescriptor

from lossd import v1
from lossd.cli.names import loss_messages, loss_named, metric_messages, metric_named
from lossd.cli.parameters import set_parameters
from lossd.evaluation import METRICS
from lossd.losses import LOSSES
from lossd.naming import members_of

NUMBERS = {
    getattr(FieldDescriptor, f"CPPTYPE_{kind}")
    for kind in ("DOUBLE", "FLOAT", "INT32", "INT64", "UINT32", "UINT64")
}
DECLARED: dict[str, Any] = {**LOSSES, **METRICS}


def enums() -> list[Any]:
    return [
        pytest.param(declared, parameter, id=f"{declared.name}-{parameter.name}")
        for declared in DECLARED.values()
        for parameter in declared.all_parameters
        if parameter.choices is not None
    ]


def made(message: str, *texts: str) -> Any:
    found = getattr(v1, message)()
    set_parameters(found, texts)
    return found


@pytest.mark.parametrize(("declared", "parameter"), enums())
def test_every_member_has_its_own_names(declared: Any, parameter: Any) -> None:
    field = getattr(v1, declared.message).DESCRIPTOR.fields_by_name[parameter.name]
    by_number = field.enum_type.values_by_number
    assert members_of(field.enum_type).keys() == parameter.choices.__members__.keys()
    for number, value in by_number.items():
        if number == 0:
            continue
        ends = [n for n in parameter.choices.__members__ if value.name.endswith(f"_{n}")]
        exact = max(ends, key=len)  # LOG_PROBABILITIES, of which PROBABILITIES is the end
        for text in (exact, exact.lower(), value.name, value.name.lower()):
            found = getattr(made(declared.message, f"{parameter.name}={text}"), parameter.name)
            assert found == ([number] if parameter.is_list else number), text


@pytest.mark.parametrize(("declared", "parameter"), enums())
def test_no_part_of_a_name_is_taken_for_it(declared: Any, parameter: Any) -> None:
    members = list(parameter.choices.__members__)
    parts = {part for name in members for part in (name[1:], name[:-1], name.split("_")[-1])}
    for text in (*(parts - set(members)), "UNSPECIFIED", "0", "9"):
        with pytest.raises(click.UsageError, match="must be one of") as caught:
            made(declared.message, f"{parameter.name}={text}")
        assert all(name in caught.value.message for name in members)


def test_a_list_is_json_or_has_commas() -> None:
    for text in ("[1, 2.5]", "1,2.5", "1, 2.5"):
        assert made("CrossEntropy", f"class_weights={text}").class_weights == [1, 2.5]
    for text in ('["LOG_SUM_EXP", "entropy"]', "log_sum_exp,ENTROPY"):
        assert made("CrossEntropy", f"outputs={text}").outputs == [1, 3]
    for text in ('["a", "b"]', "a,b"):
        assert made("Perceptual", f"layers={text}").layers == ["a", "b"]


def test_a_text_stays_one_that_looks_like_something_else() -> None:
    for text in ("1", "true", "null", "[x]", "a=b"):
        assert made("Perceptual", f"network={text}").network == text


def test_terms_take_short_names_however_deep() -> None:
    terms = '[{"weight": 2, "loss": {"cross_entropy": {"prediction_kind": "probabilities"}}}]'
    (term,) = made("WeightedSum", f"terms={terms}").terms
    assert term.loss.cross_entropy.prediction_kind == v1.DISTRIBUTION_KIND_PROBABILITIES


@pytest.mark.parametrize(
    ("message", "text", "said"),
    [
        ("Huber", "delta=wide", "delta must be a number, got wide"),
        ("Huber", "delta=[1]", "delta must be a number"),
        ("Huber", "delta=true", "delta must be a number, got true"),
        ("Huber", "delta=1_0", "delta must be a number, got 1_0"),
        ("Huber", "delta=\N{ARABIC-INDIC DIGIT ONE}", "delta must be a number, got"),
        ("Huber", "batch_dims=1_0", "batch_dims must be a whole number, got 1_0"),
        ("CrossEntropy", "ignore_index=1_0", "ignore_index must be a whole number, got 1_0"),
        ("CrossEntropy", "class_weights=1_0,2", "class_weights must be numbers such as 1,2"),
        ("CrossEntropy", 'class_weights=["1_0"]', "class_weights must be numbers such as 1,2"),
        ("WeightedSum", 'terms=[{"weight": "1_0"}]', "terms must be JSON such as"),
        ("WeightedSum", 'terms=[{"weight": 1, "weight": 2}]', "terms must be JSON such as"),
        ("Huber", "batch_dims=1.5", "batch_dims must be a whole number, got 1.5"),
        ("Huber", "batch_dims=3000000000", "batch_dims must be a whole number of 32 bits, got 3"),
        ("PoissonNll", "full=perhaps", "full must be true or false, got perhaps"),
        ("CrossEntropy", "class_weights=[1,[2]]", "class_weights must be numbers such as 1,2"),
        ("CrossEntropy", "class_weights=a,b", "class_weights must be numbers such as 1,2"),
        ("CrossEntropy", "ignore_index=99999999999999999999", "a whole number of 64 bits, got 9"),
        ("CrossEntropy", "outputs=ENTROPIES", "did you mean ENTROPY?"),
        ("WeightedSum", "terms=1", "terms must be JSON such as"),
        ("WeightedSum", "terms=" + "[" * 5000, "terms must be JSON such as"),
        ("WeightedSum", 'terms=[{"wait": 1}]', "got wait: did you mean weight?"),
        ("WeightedSum", 'terms=[{"loss": {"hubber": {}}}]', "got hubber: did you mean huber?"),
        ("WeightedSum", 'terms=[{"loss": {"huber": {"delta": "x"}}}]', "terms must be JSON"),
    ],
)
def test_what_is_no_value_of_its_kind_is_said(message: str, text: str, said: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        made(message, text)
    assert said in caught.value.message


def test_a_name_that_is_no_text_is_refused_as_any_other() -> None:
    """The system hands over bytes that are no UTF-8 so."""
    with pytest.raises(click.UsageError, match=r"^--param must be one of .* got del\udcffta"):
        made("Huber", "del\udcffta=1")


def numbers() -> list[Any]:
    return [
        pytest.param(declared.message, parameter.name, id=f"{declared.name}-{parameter.name}")
        for declared in DECLARED.values()
        for parameter in declared.all_parameters
        if getattr(v1, declared.message).DESCRIPTOR.fields_by_name[parameter.name].cpp_type
        in NUMBERS
    ]


@pytest.mark.parametrize(("message", "name"), numbers())
def test_digits_are_plain_in_every_number(message: str, name: str) -> None:
    for text in ("1_0", "1_0.0", "1_0,1_0", "\N{FULLWIDTH DIGIT ONE}"):
        with pytest.raises(click.UsageError, match=f"^{name} must be .*number"):
            made(message, f"{name}={text}")


def test_names_are_found_in_every_style_and_mean_one_thing() -> None:
    for messages, named in ((loss_messages(), loss_named), (metric_messages(), metric_named)):
        for name, message in messages.items():
            for text in (name, message, name.upper(), name.replace("_", "-"), message.lower()):
                assert named(text) == name
