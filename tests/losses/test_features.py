"""Losses of feature maps: layers of any shapes, and the gradient of each of them."""

from collections.abc import Iterator
from typing import Any

import mpmath
import numpy as np
import pytest

from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.errors import InvalidParameter, InvalidTensor
from lossd.losses import LOSSES, Distance, Loss, Shape, Status
from lossd.reduction import Reduction
from tests.losses.case import total, values
from tests.losses.compare import Array, assert_same_bits, assert_zero
from tests.losses.test_values import test_hand_worked_examples_hold  # noqa: F401 - of these here
from tests.oracles import ORACLES

FEATURES = [loss for loss in LOSSES.values() if loss.shape is Shape.FEATURES]
SHAPES = ((3, 2, 2), (2, 5), (4,))
Maps = list[Array]


@pytest.fixture(params=FEATURES, ids=lambda loss: loss.name)
def loss(request: pytest.FixtureRequest) -> Loss:
    """Here it is of feature maps."""
    found: Loss = request.param
    return found


def _maps(seed: int, rows: int = 3) -> Maps:
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 1, (rows, *shape)) for shape in SHAPES]


def _variants() -> Iterator[dict[str, Any]]:
    for distance in Distance:
        yield {"distance": distance}
        yield {"distance": distance, "style_weight": 3.0, "layer_weights": (0.5, 2.0, 0.25)}


def _run(engine: Engine, loss: Loss, given: Maps, truth: Maps, **options: Any) -> Result:
    parameters = options.pop("parameters", {})
    names = [declared.name for declared in loss.inputs]
    inputs = dict(zip(names, (given, truth), strict=True))
    options.setdefault("gradients", tuple(names))
    return engine.run(Job(loss=loss, parameters=parameters, inputs=inputs, **options))


def _exact(array: Array) -> Any:
    return tuple(map(_exact, array)) if array.ndim else mpmath.mpf(float(array))


def _rows(maps: Maps, row: int) -> Any:
    return tuple(_exact(layer[row].reshape(layer.shape[1], -1)) for layer in maps)


def test_values_equal_the_formula(engine: Engine, loss: Loss) -> None:
    given, truth = _maps(1), _maps(2)
    for parameters in _variants():
        result = _run(engine, loss, given, truth, parameters=parameters)
        expected = [
            float(ORACLES[loss.name](_rows(given, row), _rows(truth, row), **parameters))
            for row in range(3)
        ]
        np.testing.assert_allclose(values(result), expected, rtol=1e-13)
        assert total(result) == pytest.approx(np.mean(expected), rel=1e-13)
        half = [[layer.astype(np.float16) for layer in maps] for maps in (given, truth)]
        rounded = _run(engine, loss, *half, parameters=parameters)
        assert values(rounded).dtype == np.float32
        np.testing.assert_allclose(values(rounded), expected, rtol=2e-2)
        for gradients in rounded.gradients.values():
            assert [layer.dtype for layer in gradients] == [np.float16] * 3


def test_gradients_are_the_derivatives_by_each_map(engine: Engine, loss: Loss) -> None:
    given, truth = _maps(1), _maps(2)
    for parameters in _variants():
        result = _run(engine, loss, given, truth, parameters=parameters, reduction=Reduction.NONE)
        for side, name in enumerate(declared.name for declared in loss.inputs):
            assert [g.shape for g in result.gradients[name]] == [g.shape for g in given]
            for layer in range(3):
                expected = np.empty_like(given[layer])
                for place in np.ndindex(expected.shape[1:]):
                    ends = []
                    for way in (1e-5, -1e-5):
                        moved = [list(given), list(truth)]
                        moved[side][layer] = moved[side][layer].copy()
                        moved[side][layer][:, *place] += way
                        ends.append(values(_run(engine, loss, *moved, parameters=parameters)))
                    expected[:, *place] = (ends[0] - ends[1]) / 2e-5
                np.testing.assert_allclose(
                    result.gradients[name][layer], expected, rtol=1e-6, atol=1e-8
                )


def test_equal_and_zero_maps_have_no_slope(engine: Engine, loss: Loss) -> None:
    given = _maps(1)
    for parameters in ({"distance": d} for d in Distance):
        same = _run(engine, loss, given, given, parameters=parameters)
        np.testing.assert_allclose(values(same), 0, atol=1e-14)
        zero = [np.zeros_like(layer) for layer in given]
        result = _run(engine, loss, zero, given, parameters=parameters)
        for gradients in (*same.gradients.values(), *result.gradients.values()):
            assert all(np.isfinite(layer).all() for layer in gradients)
        if parameters["distance"] is Distance.COSINE:
            np.testing.assert_allclose(values(result), 3)
            assert set(result.statuses.numbers.tolist()) == {Status.ZERO_NORM}
            for gradients in result.gradients.values():
                assert all(not layer.any() for layer in gradients)
        else:
            for gradients in same.gradients.values():
                assert all(not layer.any() for layer in gradients)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_lengths_neither_overflow_nor_vanish(engine: Engine, loss: Loss, size: float) -> None:
    given, truth = ([(layer * size).astype(np.float32) for layer in _maps(s)] for s in (1, 2))
    plain = [[layer.astype(np.float32) for layer in _maps(s)] for s in (1, 2)]
    for distance, factor in ((Distance.EUCLIDEAN, size), (Distance.COSINE, 1.0)):
        parameters = {"distance": distance}
        expected = values(_run(engine, loss, *plain, parameters=parameters)) * factor
        found = values(_run(engine, loss, given, truth, parameters=parameters))
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_rows_do_not_see_each_other(engine: Engine, loss: Loss) -> None:
    given, truth = _maps(1, 7), _maps(2, 7)
    spoilt = [layer.copy() for layer in given]
    for layer in spoilt:
        layer[2] = np.nan
    keep = np.arange(7) != 2
    for parameters in _variants():
        whole = _run(engine, loss, given, truth, parameters=parameters, mask=keep)
        result = _run(engine, loss, spoilt, truth, parameters=parameters, mask=keep)
        assert_same_bits(values(result), values(whole))
        for name, gradients in result.gradients.items():
            for gradient, expected in zip(gradients, whole.gradients[name], strict=True):
                assert_same_bits(gradient, expected)
                assert_zero(gradient[2])
        alone = _run(
            engine, loss, [g[4:5] for g in given], [t[4:5] for t in truth], parameters=parameters
        )
        assert_same_bits(values(alone), values(whole)[4:5])


def test_what_is_not_finite_is_seen_in_its_row_alone(engine: Engine, loss: Loss) -> None:
    given, truth = _maps(1), _maps(2)
    clean = _run(engine, loss, given, truth)
    spoilt = [layer.copy() for layer in given]
    spoilt[1][2, 1, 3] = np.nan
    result = _run(engine, loss, spoilt, truth)
    assert result.nonfinite_examples.tolist() == [2]
    assert np.isnan(values(result)[2])
    assert_same_bits(values(result)[:2], values(clean)[:2])
    for name, gradients in result.gradients.items():
        assert np.isnan(gradients[1][2, 1, 3])
        for gradient, expected in zip(gradients, clean.gradients[name], strict=True):
            assert_same_bits(gradient[:2], expected[:2])


def test_a_layer_of_weight_zero_may_hold_anything(engine: Engine, loss: Loss) -> None:
    given, truth = _maps(1), _maps(2)
    parameters = {"layer_weights": (1.0, 0.0, 1.0), "style_weight": 1.0}
    clean = _run(engine, loss, given, truth, parameters=parameters)
    spoilt = [given[0], np.full_like(given[1], np.nan), given[2]]
    result = _run(engine, loss, spoilt, truth, parameters=parameters)
    assert result.loss == clean.loss
    assert_zero(result.gradients[loss.inputs[0].name][1])


def test_layers_go_by_pairs_of_one_shape(engine: Engine, loss: Loss) -> None:
    given, truth = _maps(1), _maps(2)
    first, second = (declared.name for declared in loss.inputs)
    for maps, words in (
        ((given, truth[:2]), f"{second} must be given as 3 tensors"),
        ((given, []), f"{second} must be given for {loss.message}, got nothing"),
        (([], truth), f"{first} must be given for {loss.message}, got nothing"),
        ((given, [truth[0], truth[2], truth[1]]), rf"{second}\[1\] must have the shape"),
        (([g[:2] if i else g for i, g in enumerate(given)], truth), rf"{first}\[1\] must have"),
        (([np.zeros(3)], [np.zeros(3)]), rf"{first}\[0\] must have"),
        (([np.zeros((3, 0))], [np.zeros((3, 0))]), rf"{first}\[0\] must have"),
        (([np.zeros((3, 1), int)], [np.zeros((3, 1))]), rf"{first}\[0\] must be floating"),
    ):
        with pytest.raises(InvalidTensor, match=words):
            _run(engine, loss, *maps)
    with pytest.raises(InvalidParameter, match="layer_weights must have 3 numbers, got 2"):
        _run(engine, loss, given, truth, parameters={"layer_weights": (1.0, 2.0)})


def test_no_examples_have_no_loss(engine: Engine, loss: Loss) -> None:
    for parameters in _variants():
        result = _run(engine, loss, _maps(1, 0), _maps(2, 0), parameters=parameters)
        assert (result.loss, result.example_count) == (0.0, 0)
