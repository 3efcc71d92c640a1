"""``lint=True`` warns of common mistakes and says what to do; what is right is not warned of."""

import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd import v1
from lossd.client import BatchWarning, requests, weighted_sum
from lossd.losses import LOSSES
from tests.sampling import cases


def random() -> Any:
    return np.random.default_rng(5)


def linted(
    loss: Any, *, lint: bool = True, weights: Any = None, mask: Any = None, **inputs: Any
) -> Any:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        requests.build_request(loss, inputs, lint=lint, weights=weights, mask=mask)
    assert all(record.category is BatchWarning for record in caught)
    return [str(record.message) for record in caught]


LABELS = random().integers(0, 5, 40)
LOGITS = 3 * random().standard_normal((40, 5))
SOFTMAX = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
SIGMOID = 1 / (1 + np.exp(-LOGITS))
ANSWERS = random().integers(0, 2, (40, 5))
ONE_HOT = np.eye(5)[LABELS]
PIXELS = np.moveaxis(SOFTMAX.reshape(4, 10, 5), -1, 1)  # classes on axis 1
NUMBERS = random().standard_normal(40)

MISTAKES: list[tuple[Any, dict[str, Any], str]] = [
    *(
        (loss, {"predictions": SOFTMAX.astype(dtype), "targets": LABELS}, advice)
        for dtype in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)
        for loss, advice in (
            (v1.CrossEntropy(), 'set prediction_kind="PROBABILITIES"'),
            (v1.CrossEntropy(prediction_kind="LOGITS"), 'set prediction_kind="PROBABILITIES"'),
            (v1.SoftmaxFocal(), "give the logits"),
            (v1.MulticlassHinge(), "give the logits"),
        )
    ),
    (v1.KlDivergence(), {"predictions": SOFTMAX, "targets": SOFTMAX}, "PROBABILITIES"),
    (v1.Dice(class_axis=-1), {"predictions": SOFTMAX, "targets": LABELS}, "PROBABILITIES"),
    (v1.BinaryCrossEntropy(), {"predictions": SIGMOID, "targets": ANSWERS}, "PROBABILITIES"),
    (v1.Focal(), {"predictions": SIGMOID, "targets": ANSWERS}, "before the softmax or sigmoid"),
    (v1.Dice(), {"predictions": SIGMOID, "targets": ANSWERS}, "PROBABILITIES"),
    (v1.Hinge(), {"predictions": SIGMOID, "targets": 2 * ANSWERS - 1}, "give the logits"),
    (v1.CrossEntropy(), {"predictions": LOGITS, "targets": ONE_HOT}, r"targets.argmax(-1)"),
    (v1.CrossEntropy(), {"predictions": LOGITS, "targets": ONE_HOT.astype(int)}, "one-hot"),
    (v1.BinaryCrossEntropy(), {"predictions": LOGITS, "targets": ONE_HOT}, "with CrossEntropy"),
    (
        v1.CrossEntropy(prediction_kind="PROBABILITIES", class_axis=-1),
        {"predictions": PIXELS, "targets": np.zeros((4, 5), int)},
        "set class_axis=1",
    ),
    (
        v1.CrossEntropy(class_axis=-1),
        {"predictions": np.ones((4, 5, 10)), "targets": PIXELS},
        "targets add up to 1 along axis 1, and not along axis -1",
    ),
    (v1.KlDivergence(), {"predictions": PIXELS, "targets": PIXELS}, "numpy.moveaxis(predictions"),
    (v1.CrossEntropy(ignore_index=3), {"predictions": LOGITS, "targets": 0 * LABELS + 3}, "all 3"),
    *(
        (loss, {"predictions": NUMBERS, "targets": 2e5 + 1e4 * NUMBERS}, "scale the targets")
        for loss in (
            v1.SquaredError(),
            v1.AbsoluteError(),
            v1.Huber(),
            v1.SmoothL1(),
            v1.LogCosh(),
            v1.Quantile(quantile=0.5),
        )
    ),
    (v1.SquaredError(), {"predictions": NUMBERS, "targets": np.full(40, 255, np.uint8)}, "scale"),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "inputs", "advice"), MISTAKES)
def test_a_mistake_is_told_with_what_to_do(loss: Any, inputs: Any, advice: str) -> None:
    (found,) = linted(loss, **inputs)
    assert advice in found
    assert not linted(loss, lint=False, **inputs)
    renamed = {"predictions": "mine", "targets": "yours"}
    total = weighted_sum((1.0, v1.LogCosh()), (0.5, loss, renamed))
    given = {renamed[name]: value for name, value in inputs.items()}
    beside = {"predictions": NUMBERS, "targets": NUMBERS}
    assert linted(total, **given, **beside) == [found]


def test_what_keeps_no_example_is_told() -> None:
    inputs = {"predictions": NUMBERS, "targets": NUMBERS}
    (found,) = linted(v1.Huber(), mask=np.zeros(40, bool), **inputs)
    assert "mask keeps no example: True keeps one" in found
    (found,) = linted(v1.Huber(), weights=np.zeros(40), **inputs)
    assert "weights are all 0" in found
    assert not linted(v1.Huber(), mask=NUMBERS > 0, weights=NUMBERS > 0, **inputs)
    nothing = {name: array[:0] for name, array in inputs.items()}
    assert not linted(v1.Huber(), mask=np.zeros(0, bool), weights=np.zeros(0), **nothing)


@pytest.mark.parametrize(
    ("loss", "inputs"),
    [
        (v1.CrossEntropy(), {"predictions": LOGITS, "targets": LABELS}),
        (v1.CrossEntropy(), {"predictions": np.log(SOFTMAX), "targets": LABELS}),  # the same loss
        (v1.CrossEntropy(), {"predictions": np.zeros((40, 5)), "targets": LABELS}),
        (v1.CrossEntropy(), {"predictions": LOGITS, "targets": SOFTMAX}),
        (
            v1.CrossEntropy(prediction_kind="PROBABILITIES"),
            {"predictions": SOFTMAX, "targets": LABELS},
        ),
        (
            v1.CrossEntropy(prediction_kind="PROBABILITIES", class_axis=1),
            {"predictions": PIXELS, "targets": np.zeros((4, 10), int)},
        ),
        (v1.CrossEntropy(class_axis=0), {"predictions": LOGITS[0], "targets": np.array(1)}),
        (v1.CrossEntropy(), {"predictions": LOGITS[:, :1], "targets": 0 * LABELS}),
        (v1.BinaryCrossEntropy(), {"predictions": LOGITS, "targets": ANSWERS}),
        (v1.BinaryCrossEntropy(), {"predictions": np.zeros((40, 5)), "targets": ANSWERS}),
        (v1.BinaryCrossEntropy(), {"predictions": SIGMOID[0], "targets": ANSWERS[0]}),  # so few
        (v1.KlDivergence(), {"predictions": LOGITS, "targets": ONE_HOT}),
        (v1.SquaredError(), {"predictions": 1e-3 * NUMBERS, "targets": NUMBERS}),
        (v1.SquaredError(), {"predictions": 1e5 * NUMBERS, "targets": 2e5 * NUMBERS}),
        (v1.SquaredError(), {"predictions": NUMBERS, "targets": np.full(40, np.nan)}),
        (v1.SquaredError(), {"predictions": np.float64(1), "targets": np.float64(2e5)}),
    ],
)
def test_what_is_right_is_not_warned_of(loss: Any, inputs: Any) -> None:
    assert not linted(loss, **inputs)


def test_rows_that_a_mask_drops_hide_nothing() -> None:
    padded = SOFTMAX.copy()
    padded[::3] = 0
    mask = np.arange(40) % 3 != 0
    for times in (1, 1000):  # the latter is more than is looked at
        predictions, targets = np.tile(padded, (times, 1)), np.tile(LABELS, times)
        given: Any = {"predictions": predictions, "targets": targets}
        assert not linted(v1.CrossEntropy(), **given)
        assert linted(v1.CrossEntropy(), **given, mask=np.tile(mask, times))


def test_a_large_batch_is_not_looked_through() -> None:
    large = np.zeros((1 << 14, 64))
    large[:, 0] = 1
    large[-1] = np.nan  # beyond what is looked at
    (found,) = linted(v1.CrossEntropy(), predictions=large, targets=np.zeros(1 << 14, int))
    assert "look like probabilities" in found


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.filterwarnings("ignore::lossd.client.BatchWarning")
def test_no_batch_of_any_loss_breaks_it(loss: Any) -> None:
    message = getattr(v1, loss.message)
    for case in cases(loss):
        axis = case.parameters.get("class_axis")
        given = message() if axis is None else message(class_axis=axis)
        inputs: dict[str, Any] = {}
        for name, array in case.inputs.items():  # "maps[0]" is one of several
            inputs.setdefault(name.partition("[")[0], []).append(array)
        arrays = {n: several if len(several) > 1 else several[0] for n, several in inputs.items()}
        requests.build_request(given, arrays, lint=True)


def test_both_clients_lint_where_they_are_called(serve: Any, connect: Any) -> None:
    with connect(serve().address) as client:
        given = {"predictions": SOFTMAX, "targets": LABELS}
        with pytest.warns(BatchWarning, match="look like probabilities"):
            client.compute(v1.CrossEntropy(), **given, lint=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            client.compute(v1.CrossEntropy(), **given)


SHAPES = [(), (0,), (1,), (4,), (0, 3), (4, 0), (4, 3), (4, 1), (2, 3, 4)]


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_no_shape_is_too_strange_to_look_at(name: str) -> None:
    """The server says what is wrong with a shape, and not an index that is out of range."""
    loss = getattr(v1, type(getattr(v1.LossSpec(), name)).__name__)()
    for shape in SHAPES:
        for other in SHAPES:
            inputs: dict[str, Any] = {
                "predictions": np.full(shape, 0.5),
                "targets": np.zeros(other, int),
            }
            for extra in (None, np.ones(other, bool), True):
                weights = None if extra is None else np.ones(np.shape(extra))
                linted(loss, mask=extra, weights=weights, **inputs)
