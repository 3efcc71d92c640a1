"""Declarations of metrics: documented, legal, and the same as the messages on the wire."""

import contextlib
import enum
import re
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from lossd import v1
from lossd.client.kinds import surrogates
from lossd.evaluation import METRICS, InputError, Metric
from lossd.losses import Interval, Parameter, ParameterError
from lossd.serving.wire.comments import comments
from tests.evaluation.run import score

KINDS = v1.MetricSpec.DESCRIPTOR.oneofs_by_name["kind"].fields


@pytest.fixture(params=list(METRICS.values()), ids=list(METRICS))
def metric(request: pytest.FixtureRequest) -> Metric:
    found: Metric = request.param
    return found


def test_the_catalogue_and_the_oneof_are_the_same() -> None:
    assert {field.name: getattr(field.message_type, "name", None) for field in KINDS} == {
        name: metric.message for name, metric in METRICS.items()
    }


def test_the_client_names_the_surrogates_of_the_declarations() -> None:
    assert dict(surrogates) == {name: metric.surrogate for name, metric in METRICS.items()}


def test_it_is_documented(metric: Metric) -> None:
    assert metric.summary.endswith(".")
    assert len(metric.summary) <= 92
    assert "value" in metric.formula
    assert re.search(r"\b(1[6-9]|20)\d\d\b", metric.reference), "a reference has a year"
    assert all(declared.description and declared.shapes for declared in metric.inputs)


def test_it_answers_its_hand_worked_examples(metric: Metric) -> None:
    assert len(metric.examples) >= 2
    for example in metric.examples:
        found = score(metric.name, example.parameters, **example.inputs)
        if example.value is None:
            assert found.values is not None
            assert found.values.tolist() == example.values
        else:
            assert found.value == pytest.approx(example.value, rel=1e-13)
    used = {name for example in metric.examples for name in example.parameters}
    assert used or not metric.own_parameters


def test_defaults_are_legal_and_numbers_have_bounds(metric: Metric) -> None:
    assert list(metric.complete({})) == [p.name for p in metric.all_parameters]
    for parameter in metric.all_parameters:
        assert parameter.checked(parameter.default) == parameter.default
        assert (parameter.bounds is not None) == (parameter.type in (int, float)), parameter


def _fields(metric: Metric) -> dict[str, FieldDescriptor]:
    return dict(getattr(v1, metric.message).DESCRIPTOR.fields_by_name.items())


def test_the_message_has_exactly_the_parameters_in_their_order(metric: Metric) -> None:
    assert list(_fields(metric)) == [p.name for p in metric.all_parameters]


def test_the_fields_have_the_types_of_the_parameters(metric: Metric) -> None:
    kinds = {
        float: FieldDescriptor.TYPE_DOUBLE,
        int: FieldDescriptor.TYPE_INT64,
        bool: FieldDescriptor.TYPE_BOOL,
    }
    for parameter in metric.all_parameters:
        field = _fields(metric)[parameter.name]
        if issubclass(parameter.type, enum.Enum):
            assert field.enum_type is not None
            members = [n.removeprefix(_prefix(parameter)) for n in field.enum_type.values_by_name]
            assert members == ["UNSPECIFIED", *parameter.type.__members__]
        else:
            assert field.type == kinds[parameter.type]
            assert field.has_presence


def _prefix(parameter: Parameter) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", parameter.type.__name__).upper() + "_"


def test_comments_on_the_wire_say_bounds_and_default(metric: Metric) -> None:
    for parameter in metric.all_parameters:
        comment = comments()[f"{metric.message}.{parameter.name}"]
        assert _default_text(parameter) in comment, (parameter.name, comment)
        if parameter.bounds not in (None, Interval(-(2**63), 2**63 - 1)):
            assert f"in {parameter.bounds}" in comment.replace("In ", "in "), comment


def _default_text(parameter: Parameter) -> str:
    if parameter.default is None:
        return "Default: by the shapes" if parameter.name == "task" else "Unset by default"
    if isinstance(parameter.default, enum.Enum):
        return f"Default {_prefix(parameter)}{parameter.default.name}."
    if isinstance(parameter.default, bool):
        return f"Default {str(parameter.default).lower()}."
    return f"Default {parameter.default:g}."


def test_the_comment_on_reasons_quotes_one_that_is_given() -> None:
    (quoted,) = re.findall(r'"(.+)"', comments()["MetricResult.reason"])
    found = score("roc_auc", predictions=[0.1, 0.2], targets=[1, 1])
    assert found.reason == quoted


# Three examples of each form that inputs of classification may have: predictions, and targets.
FORMS: dict[tuple[str, str], tuple[list[Any], list[Any]]] = {
    ("(N, ...)", "(N, ...)"): ([0.5, -0.5, 1.0], [1, 0, 1]),
    ("(N, ..., C)", "(N, ...)"): ([[0.5, 0.0], [0.0, 1.0], [2.0, 1.0]], [0, 1, 1]),
    ("(N, ..., L)", "(N, ..., L)"): (
        [[0.5, 0.0], [0.0, 1.0], [2.0, 1.0]],
        [[1, 0], [0, 1], [1, 1]],
    ),
}
CLASSIFICATION = [name for name, one in METRICS.items() if "task" in dict(one.complete({}))]


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_it_takes_the_shapes_that_it_declares_and_no_others(name: str) -> None:
    shapes = {declared.name: declared.shapes for declared in METRICS[name].inputs}

    for (scored, told), (predictions, targets) in FORMS.items():
        is_declared = scored in shapes["predictions"] and told in shapes["targets"]
        with contextlib.nullcontext() if is_declared else pytest.raises(ParameterError):
            score(name, {}, predictions=predictions, targets=targets)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_it_takes_what_was_decided_where_it_says_so(name: str) -> None:
    says_so = "what was decided" in METRICS[name].inputs[0].description

    with contextlib.nullcontext() if says_so else pytest.raises(InputError):
        score(name, {}, predictions=[1, 0, 1], targets=[1, 0, 1])
