"""Losses and metrics go by their names, with exact names only and a guess at what was meant."""

from typing import Any, get_args

import numpy as np
import pytest

from lossd import v1
from lossd.client import InvalidRequestError, arguments, hints, make_loss, make_metric, weighted_sum
from lossd.evaluation import METRICS
from lossd.losses import LOSSES
from lossd.v1.losses import LossName
from lossd.v1.metrics import MetricName

INPUTS: dict[str, Any] = {"predictions": np.ones(2), "targets": np.zeros(2)}
make: Any = make_loss  # what is wrong on purpose is wrong for the type checker too


def refused(message: str) -> Any:
    return pytest.raises(InvalidRequestError, match=message)


def test_a_name_stands_for_the_loss_with_its_defaults(serve: Any, connect: Any) -> None:
    server = serve()
    with connect(server.address) as client:
        client.compute("huber", **INPUTS)
        client.compute("huber", *INPUTS.values())
        client.compute(weighted_sum((2.0, "huber"), (1.0, v1.Dice())), **INPUTS)
        client.compute(make_loss("huber", delta=2), **INPUTS, metrics=["accuracy"])
        assert client.input_names("huber") == ("predictions", "targets")
    by_name, by_place, summed, made = (request for request in server.seen["ComputeLoss"])
    assert by_name.loss == by_place.loss == v1.LossSpec(huber=v1.Huber())
    assert summed.loss.weighted_sum.terms[0].loss == by_name.loss
    assert made.loss.huber.delta == 2
    assert made.metrics[0] == v1.MetricSpec(accuracy=v1.Accuracy())


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("hubr", "got 'hubr': did you mean huber"),
        ("Huber", "got 'Huber': did you mean huber"),
        ("cross-entropy", "did you mean cross_entropy"),
        ("cros", "did you mean cross_entropy"),
        ("Multi", "did you mean multiclass_hinge"),
        ("no such thing at all", "got 'no such thing at all'$"),
        ("", "got ''$"),
        ("roc_auc", "got the metric RocAuc: train with PairwiseAuc"),
    ],
)
def test_a_name_of_no_loss_is_refused_before_anything_is_sent(
    serve: Any, connect: Any, loss: str, message: str
) -> None:
    server = serve()
    with connect(server.address) as client:
        for call in (
            lambda: client.compute(loss, **INPUTS),
            lambda: client.input_names(loss),
            lambda: weighted_sum((1.0, loss)),  # type: ignore[arg-type]
            lambda: make(loss),
        ):
            with refused(message):
                call()
    assert not server.seen


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("huber", {"dleta": 1}, "huber: parameters of Huber .*did you mean delta"),
        ("huber", {"delta": "1"}, "huber: delta must be a number, got '1'"),
        ("cross_entropy", {"ignore_index": 1.5}, "ignore_index must be a whole number, got 1.5"),
        ("cross_entropy", {"prediction_kind": "probs"}, "did you mean PROBABILITIES"),
    ],
)
def test_parameters_of_a_name_are_checked_as_those_of_a_message(
    name: Any, parameters: Any, message: str
) -> None:
    with refused(message) as caught:
        make(name, **parameters)
    assert caught.value.field == "loss"


def test_metrics_go_by_name_too(serve: Any, connect: Any) -> None:
    made = make_metric("f1", average="MACRO")
    assert made == v1.F1(average="MACRO")
    with connect(serve().address) as client:
        for metrics in ("f2", ["accuracy", "f2"]):
            with refused("got 'f2': did you mean f1") as caught:
                client.evaluate(metrics, **INPUTS)
            assert caught.value.field == "metrics"
        with refused("metric must be no loss, got huber"):
            client.evaluation("huber")
        with refused("did you mean f1"):
            client.compute("huber", **INPUTS, metrics=["F1"])


def test_a_parameter_among_the_inputs_is_told_where_it_belongs(serve: Any, connect: Any) -> None:
    server = serve()
    with connect(server.address) as client:
        for loss in ("huber", v1.Huber(), v1.LossSpec(huber=v1.Huber())):
            with refused(r"give it to the loss, as in Huber\(delta=...\)") as caught:
                client.compute(loss, **INPUTS, delta=2.0)
            assert caught.value.field == "delta"
    assert not server.seen


@pytest.mark.parametrize("name", arguments.compute_options)
def test_an_argument_among_the_parameters_is_told_where_it_belongs(name: str) -> None:
    message = rf"got '{name}': give it to the call, as in compute\(..., {name}=...\)$"
    with pytest.raises(ValueError, match=message):
        v1.Huber(**{name: 1})
    with refused(message):
        make("huber", **{name: 1})


def test_weights_may_be_those_of_classes() -> None:
    with refused(r"got 'weights': did you mean class_weights\?$"):
        make("cross_entropy", weights=[1, 2])


# What is none of an array is no reason to speak of arrays where the name is wrong.
WRONG_NAMES: dict[str, tuple[dict[str, Any], str, str]] = {
    "bleu": (
        {"hypothesis": ["a b"]}, "inputs",
        r"names of the metric, got 'hypothesis': did you mean hypotheses\?$",
    ),
    "chrf": (
        {"predictions": [["a b"]]}, "predictions",
        "predictions must hold numbers, got texts, which hypotheses and references may hold$",
    ),
    "word_error_rate": (
        {"reference": [["a", "b"], ["c"]]}, "inputs", "got 'reference': did you mean references",
    ),
    "huber": (
        {"target": "x"}, "inputs", r"names of the loss, got 'target': did you mean targets\?$",
    ),
    "feature_matching": (
        {"prediction": [np.ones((2, 3))]}, "inputs", "got 'prediction': did you mean predictions",
    ),
    "weighted_sum": ({"heads": "x"}, "inputs", r"got 'heads': did you mean head\?$"),
    "accuracy": ({"weight": "x"}, "inputs", r"got 'weight': did you mean weights\?$"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_a_wrong_name_of_an_input_is_told_before_its_value(
    serve: Any, connect: Any, name: str
) -> None:
    inputs, field, message = WRONG_NAMES[name]
    summed = weighted_sum((1.0, v1.Huber(), {"predictions": "head"}))
    server = serve()
    with connect(server.address) as client, refused(message) as caught:
        if name in METRICS:
            client.evaluate(name, **inputs)
        else:
            client.compute(summed if name == "weighted_sum" else name, **inputs)
    assert caught.value.field == field
    assert not server.seen


# What people write for an argument, which is no input, and what they mean.
MEANT = {
    "reducton": ("sum", "reduction"),
    "weight": (np.ones(2), "weights"),
    "normaliser": (2.0, "normalizer"),
    "target": (np.zeros(2), "targets"),
    "time_out": ("5", "timeout"),
    "emtpy": ("nan", "empty"),
}


@pytest.mark.parametrize("name", MEANT)
def test_a_wrong_name_may_mean_an_argument_or_an_input(serve: Any, connect: Any, name: str) -> None:
    value, meant = MEANT[name]
    server = serve()
    message = rf"^inputs must have names of the loss, got '{name}': did you mean {meant}\?$"
    with connect(server.address) as client:
        if isinstance(value, str):  # no server could take it
            with refused(message):
                client.compute("huber", **INPUTS, **{name: value})
            assert not server.seen
        for _ in range(2):  # the second time the names are known
            with refused(message) as caught:
                client.compute("huber", *INPUTS.values(), **{name: value})
        with refused(message):
            client.compute("huber", **INPUTS, **{name: value})
        with refused(r"give it to the loss, as in Huber\(delta=...\)"):
            client.compute("huber", *INPUTS.values(), delta=2.0)
    assert caught.value.field == "inputs"
    assert server.seen.keys() == {"ListLosses"}


def test_an_input_that_this_client_does_not_know_may_be_one_of_the_servers(
    serve: Any, connect: Any
) -> None:
    server = serve()
    with connect(server.address) as client:
        client.compute("huber", **INPUTS, novelty=np.ones(2))
    assert [given.name for given in server.seen["ComputeLoss"][0].inputs][-1] == "novelty"


def test_an_input_that_a_newer_server_takes_is_found(serve: Any, connect: Any) -> None:
    """A client outlives its servers: names are asked for once more before one is refused."""
    names = ["predictions", "targets"]

    def list_losses(*_: object) -> Any:
        inputs = [v1.InputDescription(name=name) for name in names]
        return v1.ListLossesResponse(losses=[v1.LossDescription(name="huber", inputs=inputs)])

    server = serve(ListLosses=list_losses)
    with connect(server.address) as client:
        client.compute("huber", *INPUTS.values())
        names.append("novelty")
        client.compute("huber", **INPUTS, novelty=np.ones(2))
        names.append("second")
        client.compute("huber", *INPUTS.values(), np.ones(2), second=np.ones(2))
        names.append("third")
        summed = weighted_sum((1.0, "huber"), (2.0, "huber"))
        client.compute(summed, *INPUTS.values(), np.ones(2), np.ones(2), np.ones(2))
        names.append("fourth")
        assert "fourth" not in client.input_names("huber")
        assert "fourth" in client.input_names("huber", again=True)
    assert server.calls("ListLosses") == 5
    assert [given.name for given in server.seen["ComputeLoss"][-1].inputs] == names[:5]


def test_what_is_not_given_may_have_any_name(serve: Any, connect: Any) -> None:
    with connect(serve().address) as client:
        for _ in range(2):  # the second time the names are known
            assert client.compute("huber", *INPUTS.values(), variances=None).loss == 1.5


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_no_loss_has_an_input_and_a_parameter_of_one_name(loss: Any) -> None:
    message = make(loss.name)
    inputs = {declared.name for declared in loss.inputs}
    assert not inputs & {field.name for field in message.DESCRIPTOR.fields}
    assert inputs <= hints.LossInputs.__annotations__.keys()


def test_the_types_of_arguments_are_those_that_are_taken() -> None:
    assert set(get_args(LossName)) == LOSSES.keys()
    assert set(get_args(MetricName)) == METRICS.keys()
    inputs = {declared.name for loss in LOSSES.values() for declared in loss.inputs}
    assert hints.LossInputs.__annotations__.keys() == inputs
    of_metrics = {one.name for metric in METRICS.values() for one in metric.layout.inputs}
    assert hints.EvaluateArguments.__annotations__.keys() > of_metrics
    words = {
        hints.Reduction: arguments.reductions,
        hints.EmptyPolicy: arguments.empty_policies,
        hints.NonfinitePolicy: arguments.nonfinite_policies,
    }
    assert all(set(get_args(kind)) == table.keys() for kind, table in words.items())
    assert {*get_args(hints.Aggregate), "none"} == {*get_args(hints.Reduction)}
