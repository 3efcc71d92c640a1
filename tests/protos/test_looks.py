"""Messages explain themselves, and their representations are short and can be read back."""

import inspect
import pydoc
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from lossd import v1 as contract
from lossd.serving.evaluation_service.catalogue import list_metrics
from lossd.serving.loss_service.catalogue import list_losses
from lossd.v1 import losses, metrics

v1: Any = contract
FOLDER = Path(contract.__file__).parent
KINDS = [
    getattr(v1, member.message_type.name)
    for spec in (v1.LossSpec, v1.MetricSpec)
    for member in spec.DESCRIPTOR.fields
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_help_explains_every_parameter(kind: Any) -> None:
    text = inspect.getdoc(kind) or ""
    assert len(text.split()) > 5
    for field in kind.DESCRIPTOR.fields:
        assert re.search(rf"^    {field.name}: \S", text, re.MULTILINE), field.name
        for value in field.enum_type.values if field.enum_type else ():
            prefix = field.enum_type.values[0].name.removesuffix("UNSPECIFIED")
            assert not value.number or f'"{value.name.removeprefix(prefix)}"' in text, value.name
    shown = pydoc.plain(pydoc.render_doc(kind))
    assert all(line.strip() in shown for line in text.splitlines())


DESCRIBED = [*list_losses().losses, *list_metrics().metrics]


@pytest.mark.parametrize("one", DESCRIBED, ids=lambda one: one.message)
def test_help_names_every_input_and_where_more_is_said(one: Any) -> None:
    text = inspect.getdoc(getattr(v1, one.message)) or ""
    shown = " ".join(text.split())
    inputs = text.partition("\nInputs:\n")[2]
    for put in one.inputs:
        assert f"    {put.name}: " in inputs
        assert f"{put.name}: {' or '.join(put.shapes)}" in shown
    optional = sum(getattr(put, "optional", False) for put in one.inputs)
    assert inputs.count("; optional.") + inputs.count(";\n        optional.") == optional
    assert f"Reference: {one.reference}" in shown
    command = "losses" if one in list_losses().losses else "metrics"
    assert text.endswith(f"``lossd {command} {one.name}`` says more.")


def test_help_explains_the_members_of_enums() -> None:
    text = " ".join((v1.Accuracy.__doc__ or "").split())
    assert '"BINARY": Yes or no: predictions and targets of one shape, one element' in text


@pytest.mark.parametrize("name", ["CrossEntropy", "RocAuc", "ComputeLossRequest", "Tensor"])
def test_editors_show_what_help_shows(name: str) -> None:
    stubs = "".join(path.read_text() for path in FOLDER.glob("*_pb2.pyi"))
    stub = re.split(rf"class {name}\(\S+\):", stubs)[1].split('"""')[1]
    assert inspect.cleandoc(stub) == inspect.getdoc(getattr(v1, name))


@pytest.mark.parametrize(
    ("module", "spec", "names"),
    [
        (losses, v1.LossSpec, losses.LossName),
        (metrics, v1.MetricSpec, metrics.MetricName),
    ],
)
def test_losses_and_metrics_have_places_of_their_own(module: Any, spec: Any, names: Any) -> None:
    members = {member.name: member.message_type.name for member in spec.DESCRIPTOR.fields}
    kinds = {value.__name__ for value in vars(module).values() if hasattr(value, "DESCRIPTOR")}
    assert kinds == set(members.values())
    assert kinds < set(module.__all__)
    assert set(get_args(names)) == members.keys() - {"weighted_sum"}
    whole = module.Loss if module is losses else module.Metric
    assert {kind.__name__ for kind in get_args(whole)} == kinds


@pytest.mark.parametrize(
    "message",
    [
        v1.CrossEntropy(),
        v1.CrossEntropy(prediction_kind="PROBABILITIES", label_smoothing=0.1, outputs=["ENTROPY"]),
        v1.LossSpec(cross_entropy=v1.CrossEntropy(class_weights=[1, 2.5])),
        v1.WeightedSum(terms=[{"weight": 2, "loss": {"huber": {"delta": 0.5}}}]),
        v1.Perceptual(network="it's", layers=["relu1"]),
        v1.F1(average="MACRO"),
    ],
    ids=repr,
)
def test_a_representation_is_the_call_that_makes_the_message(message: Any) -> None:
    assert eval(repr(message), vars(v1)) == message  # noqa: S307 - ours


def test_representations_are_short_whatever_a_message_holds() -> None:
    weights = v1.CrossEntropy(class_weights=range(100_000))
    assert repr(weights) == (
        "CrossEntropy(class_weights=[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, ... 99994 more])"
    )
    assert repr(v1.Tensor(data=bytes(10_000_000))) == "Tensor(data=<10000000 bytes>)"
    assert repr(v1.Perceptual(network="n" * 1000)) == f"Perceptual(network={'n' * 64!r}...)"
    descriptions = [{"name": "huber", "inputs": [{"name": "predictions"}] * 50}] * 50
    many = v1.ListLossesResponse(losses=[v1.LossDescription(**one) for one in descriptions])
    assert len(repr(many)) < 4000
    term = v1.WeightedTerm(weight=1, input_names={f"name{i}": "x" for i in range(50)})
    assert repr(term).endswith("... 44 more})")
    deep: Any = v1.Huber()
    for _ in range(9):
        deep = v1.WeightedSum(terms=[{"loss": {_field(deep): deep}}])
    assert repr(deep).count("WeightedSum") < 4


def test_a_representation_names_a_member_that_is_newer_by_its_number() -> None:
    message = v1.CrossEntropy()
    message.prediction_kind = 99
    assert repr(message) == "CrossEntropy(prediction_kind=99)"


def test_the_text_of_a_message_stays_protobufs() -> None:
    assert str(v1.CrossEntropy(label_smoothing=0.5)) == "label_smoothing: 0.5\n"
    assert str(v1.CrossEntropy()) == ""


def _field(message: Any) -> str:
    return "huber" if isinstance(message, v1.Huber) else "weighted_sum"
