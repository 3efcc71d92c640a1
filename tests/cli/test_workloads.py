"""The inputs that ``lossd bench`` draws: every loss takes them, whatever its parameters."""

import math
from typing import Any

import click
import numpy as np
import pytest

from lossd import sums
from lossd.backends.numpy import NumpyBackend
from lossd.cli.workloads import DTYPES, Workload, workload
from lossd.client.requests import build_request
from lossd.client.responses import read_response
from lossd.client.result import LossResult
from lossd.engine import Engine
from lossd.losses import LOSSES, Content, Loss, Shape
from lossd.serving.loss_service import replies, requests
from lossd.serving.wire.reader import Limits
from tests.drawn_networks import NETWORKS

# What only an operator knows: the network to look through.
OF_IMAGES = {"network": "network=smooth", "layers": "layers=first"}
SHAPES = {Shape.IMAGES: (2, 1, 8, 8)}


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(NumpyBackend(threads=1), NETWORKS)


def computed(engine: Engine, work: Workload, shape: tuple[int, ...]) -> LossResult[Any]:
    """One call, from message to message."""
    request = requests.read_request(
        build_request(work.message, work.random_inputs(shape)), Limits()
    )
    return read_response(replies.response(sums.run(engine, request)))


def small(loss: Loss, *parameters: str, also: tuple[str, ...] = (), dtype: str = "float32") -> Any:
    """A workload, and a small shape for it."""
    needed = [text for name, text in OF_IMAGES.items() if name in of(loss)]
    work = workload(loss.name, (*needed, *parameters), also, dtype)
    return work, SHAPES.get(loss.shape) or work.usual_shapes()[0]


def of(loss: Loss) -> set[str]:
    return {parameter.name for parameter in loss.all_parameters}


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_loss_takes_what_is_drawn_for_it(engine: Engine, any_loss: Loss, dtype: str) -> None:
    work, shape = small(any_loss, dtype=dtype)
    result = computed(engine, work, shape)

    assert math.isfinite(result.loss)
    assert (result.nonfinite_count, result.statuses, result.status) == (0, {}, None)
    drawn = work.random_inputs(shape)
    first = drawn[any_loss.inputs[0].name]
    assert (first.shape, first.dtype) == (shape, DTYPES[dtype])
    assert any(np.any(np.asarray(found)) for found in result.gradients.values())


def test_every_usual_shape_is_one_that_the_loss_takes(any_loss: Loss) -> None:
    work, _ = small(any_loss)
    for shape in work.usual_shapes():
        assert work.random_inputs((2, *shape[1:]))


@pytest.mark.parametrize("kind", ["LOGITS", "LOG_PROBABILITIES", "PROBABILITIES"])
@pytest.mark.parametrize("name", [x.name for x in LOSSES.values() if "prediction_kind" in of(x)])
def test_predictions_are_what_the_parameter_says(engine: Engine, name: str, kind: str) -> None:
    if name == "soft_f1" and kind == "LOG_PROBABILITIES":
        kind = "PROBABILITIES"
    work, shape = small(LOSSES[name], f"prediction_kind={kind}")

    assert math.isfinite(computed(engine, work, shape).loss)


@pytest.mark.parametrize("name", [x.name for x in LOSSES.values() if "class_axis" in of(x)])
def test_classes_lie_where_the_parameter_says(engine: Engine, name: str) -> None:
    work, _ = small(LOSSES[name], "class_axis=1")

    assert computed(engine, work, (4, 3, 5, 6)).nonfinite_count == 0


def test_optional_inputs_are_sent_when_asked_for(engine: Engine, any_loss: Loss) -> None:
    needed = {i.name for i in any_loss.inputs if not i.is_optional}
    # One at a time; those that go together only are refused by the loss, not while drawing.
    for one in any_loss.inputs:
        if one.name in needed or one.content is Content.OFFSETS:
            continue
        work, shape = small(any_loss, also=(one.name,))
        assert one.name in work.random_inputs(shape)
    if any_loss.name == "info_nce":
        work, shape = small(any_loss, also=("negatives", "ids"))
        assert set(computed(engine, work, shape).gradients) == {"queries", "keys", "negatives"}


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ("label_smoothing=7", r"label_smoothing must be in \[0, 1\], got 7"),
        ("class_axis=9", r"class_axis must be in \[-8, 7\], got 9"),
        ("prediction_kind=probs", "did you mean PROBABILITIES"),
    ],
)
def test_a_parameter_out_of_bounds_is_refused_before_a_server_is_started(
    parameter: str, said: str
) -> None:
    with pytest.raises(click.UsageError, match=said):
        workload("cross_entropy", (parameter,), (), "float32").usual_shapes()


def test_parameters_come_from_the_most_similar_example() -> None:
    work = workload("policy_gradient", ("objective=REINFORCE",), (), "float32")

    assert work.parameters[0] == "objective=REINFORCE"
    assert "ratio=NONE" in work.parameters
    assert "sampling_log_probabilities" not in work.inputs


@pytest.mark.parametrize(
    ("loss", "parameters", "also", "said"),
    [
        ("weighted_sum", (), (), "loss must be a single one"),
        ("huberr", (), (), "did you mean huber"),
        ("huber", ("detla=1",), (), "did you mean delta"),
        ("huber", (), ("predictoins",), "did you mean predictions"),
        ("lpips", (), (), "--param network=... must be given for lpips"),
    ],
)
def test_what_nobody_can_measure_is_one_clear_line(
    loss: str, parameters: tuple[str, ...], also: tuple[str, ...], said: str
) -> None:
    with pytest.raises(click.UsageError, match=said):
        workload(loss, parameters, also, "float32")


@pytest.mark.parametrize(
    ("loss", "shape", "said"),
    [
        ("huber", (), r"--shape must be like \(N, ...\)"),
        ("cross_entropy", (3,), r"--shape must be like \(N, ..., C\)"),
        ("ctc", (3, 4), r"--shape must be like \(N, T, C\)"),
        ("ctc", (3, 4, 1), "must have a class beside the blank"),
    ],
)
def test_a_shape_that_no_input_has_is_refused(loss: str, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(click.UsageError, match=said):
        workload(loss, (), (), "float32").random_inputs(shape)
