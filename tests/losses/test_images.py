"""Losses of images: what the network of the server makes of them, and what is refused.

The contracts that hold for them too run here, over a small network without a kink.
"""

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lossd.backends.numpy import NumpyBackend
from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.errors import InvalidParameter, InvalidTensor, ServiceError, TooLarge
from lossd.losses import LOSSES, Distance, Loss, Shape, Status
from lossd.losses._inputs import LAYERS
from lossd.networks import (
    ARCHITECTURES,
    AveragePool,
    Convolution,
    Fire,
    MaxPool,
    Network,
    Networks,
    Rectifier,
)
from lossd.reduction import Reduction
from tests.drawn_networks import NETWORKS, drawn
from tests.losses.case import total, values
from tests.losses.compare import Array, assert_same_bits, assert_zero

# Contracts, which are run for the losses of this module: see the fixture.
from tests.losses.test_gradients import (  # noqa: F401
    test_a_cotangent_scales_gradients_and_not_the_loss,
    test_a_gradient_has_the_type_and_shape_of_its_input,
    test_gradient_is_the_derivative_of_the_value,
    test_gradients_are_those_that_were_asked_for,
)
from tests.losses.test_layout import test_inputs_are_not_written_to_and_results_are_new  # noqa: F401
from tests.losses.test_reductions import (  # noqa: F401
    test_gradients_are_of_the_reduced_loss,
    test_reductions_are_the_named_sums_and_means,
)
from tests.losses.test_rows import (  # noqa: F401
    test_a_masked_or_weightless_row_may_hold_anything,
    test_a_masked_row_may_have_any_weight_and_cotangent,
    test_rows_do_not_see_each_other,
)
from tests.losses.test_values import (  # noqa: F401
    test_a_gradient_is_rounded_once,
    test_hand_worked_examples_hold,
    test_values_and_gradients_equal_the_independent_formula,
)

IMAGES = [loss for loss in LOSSES.values() if loss.shape is Shape.IMAGES]


def _kinked() -> Network:
    """Every kind of module, small enough for images of 8 x 8 pixels."""
    modules = (
        Convolution("conv1", padding=1),
        Rectifier("relu1"),
        MaxPool("pool1", kernel=3, ceil=True),
        Fire("fire"),
        Convolution("conv2", stride=2, padding=1),
        AveragePool("pool2"),
    )
    return drawn("kinked", modules, (4, 8, 3), heads=("relu1", "fire", "pool2"))


KINKED = _kinked()


@pytest.fixture(params=IMAGES, ids=lambda loss: loss.name)
def loss(request: pytest.FixtureRequest) -> Loss:
    """Here it is of images."""
    found: Loss = request.param
    return found


@pytest.fixture
def kinked(engine: Engine) -> Engine:
    """The same backend with the network of every kind of module, and without heads."""
    bare = replace(KINKED, name="bare", heads=None)
    return Engine(engine.backend, Networks({**NETWORKS.by_name, "kinked": KINKED, "bare": bare}))


def _images(seed: int, count: int = 3, side: int = 8, channels: int = 3) -> Array:
    return np.random.default_rng(seed).uniform(0, 1, (count, channels, side, side))


def _job(loss: Loss, given: Array, truth: Array, **options: Any) -> Job:
    parameters = {"network": "kinked", "value_range": (0.0, 1.0)}
    if LAYERS in loss.layout_parameters:
        parameters["layers"] = ("relu1", "pool2")
    names = [declared.name for declared in loss.inputs]
    inputs = {name: [array] for name, array in zip(names, (given, truth), strict=True)}
    parameters |= options.pop("parameters", {})
    return Job(loss=loss, parameters=parameters, inputs=inputs, **options)


def _run(engine: Engine, loss: Loss, given: Array, truth: Array, **options: Any) -> Result:
    options.setdefault("gradients", tuple(declared.name for declared in loss.inputs))
    return engine.run(_job(loss, given, truth, **options))


def _variants(loss: Loss) -> list[dict[str, Any]]:
    if LAYERS not in loss.layout_parameters:
        return [{}]
    style = {"style_weight": 2.0, "layer_weights": (0.5, 2.0)}
    return [{"distance": distance, **style} for distance in Distance]


def test_gradients_reach_the_pixels_through_every_module(kinked: Engine, loss: Loss) -> None:
    given, truth = _images(1, 1), _images(2, 1)
    for parameters in _variants(loss):
        result = _run(kinked, loss, given, truth, parameters=parameters)
        for side, name in enumerate(declared.name for declared in loss.inputs):
            # All pixels at once: image by image of a batch, each with one pixel moved.
            moved = [np.repeat(given, given.size * 2, axis=0), np.repeat(truth, truth.size * 2, 0)]
            pixels = moved[side].reshape(2, given.size, given.size)
            for way, sign in enumerate((1e-6, -1e-6)):
                pixels[way][np.diag_indices(given.size)] += sign
            ends = values(_run(kinked, loss, *moved, parameters=parameters, gradients=()))
            expected = np.subtract(*ends.reshape(2, -1)) / 2e-6
            found = result.gradients[name].reshape(-1)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7 * abs(expected).max())


def test_identical_images_have_neither_loss_nor_slope(kinked: Engine, loss: Loss) -> None:
    for dtype in (np.float32, np.float64):
        given = _images(1).astype(dtype)
        result = _run(kinked, loss, given, given)
        assert total(result) == 0
        for gradient in result.gradients.values():
            assert_zero(gradient)


def test_what_a_network_does_not_see_has_no_slope(engine: Engine, loss: Loss) -> None:
    """Black gives nothing at any layer, at which a direction or a cosine is not defined."""
    black, grey = np.zeros((2, 1, 2, 2)), np.full((2, 1, 2, 2), 0.5)
    parameters: dict[str, Any] = {"network": "worked"}
    known = {p.name for p in loss.all_parameters}
    if "distance" in known:
        parameters |= {"layers": ("linear", "rectified"), "distance": Distance.COSINE}
    for given, truth in ((black, black), (black, grey), (grey, black)):
        result = _run(engine, loss, given, truth, parameters=parameters)
        assert np.isfinite(values(result)).all()
        assert_zero(result.gradients[loss.inputs[0 if given is black else 1].name])
        expected = [Status.ZERO_NORM] * 2 if "distance" in known else []
        assert result.statuses.numbers.tolist() == expected


def test_an_image_has_the_same_bits_alone_in_any_batch_and_at_any_number_of_threads(
    kinked: Engine, loss: Loss
) -> None:
    given, truth = _images(1, 5).astype(np.float32), _images(2, 5).astype(np.float32)
    whole = _run(kinked, loss, given, truth, reduction=Reduction.NONE)
    backend = NumpyBackend(3)
    others = [kinked, Engine(backend, kinked.networks)] if _is_numpy(kinked) else [kinked]
    for row in range(5):
        at = slice(row, row + 1)
        for engine in others:
            alone = _run(engine, loss, given[at], truth[at], reduction=Reduction.NONE)
            assert_same_bits(values(alone), values(whole)[at])
            for name, gradient in alone.gradients.items():
                assert_same_bits(gradient, whole.gradients[name][at])
    backend.close()


def _is_numpy(engine: Engine) -> bool:
    return engine.backend.name == "numpy"


def test_what_is_not_finite_shows_in_its_image_alone(kinked: Engine, loss: Loss) -> None:
    given, truth = _images(1), _images(2)
    clean = _run(kinked, loss, given, truth, reduction=Reduction.NONE)
    for poison in (np.nan, np.inf):
        spoilt = given.copy()
        spoilt[1, 2, 3, 4] = poison
        result = _run(kinked, loss, spoilt, truth, reduction=Reduction.NONE)
        assert result.nonfinite_examples.tolist() == [1]
        assert result.statuses.numbers.tolist() == [Status.NONFINITE]
        for found, expected in (
            (values(result), values(clean)),
            *((gradient, clean.gradients[n]) for n, gradient in result.gradients.items()),
        ):
            assert_same_bits(found[[0, 2]], expected[[0, 2]])


def test_a_range_of_values_is_a_unit_of_pixels(kinked: Engine, loss: Loss) -> None:
    given, truth = _images(1), _images(2)
    expected = _run(kinked, loss, given, truth)
    for low, high in ((-1.0, 1.0), (0.0, 255.0)):
        scaled = [image * (high - low) + low for image in (given, truth)]
        found = _run(kinked, loss, *scaled, parameters={"value_range": (low, high)})
        assert found.loss == pytest.approx(expected.loss, rel=1e-12)
        for name, gradient in found.gradients.items():
            np.testing.assert_allclose(
                gradient * (high - low), expected.gradients[name], rtol=1e-9, atol=1e-12
            )


def test_a_grey_image_is_three_equal_channels_where_that_is_asked_for(
    kinked: Engine, loss: Loss
) -> None:
    given, truth = _images(1, channels=1), _images(2, channels=1)
    coloured = [np.repeat(image, 3, axis=1) for image in (given, truth)]
    expected = _run(kinked, loss, *coloured, parameters={"replicate_grey": True})
    found = _run(kinked, loss, given, truth, parameters={"replicate_grey": True})
    assert found.loss == pytest.approx(expected.loss, rel=1e-14)
    for name, gradient in found.gradients.items():
        of_channels = expected.gradients[name].sum(axis=1, keepdims=True)
        np.testing.assert_allclose(gradient, of_channels, rtol=1e-11, atol=1e-14)


def test_half_precision_is_computed_in_float32(kinked: Engine, loss: Loss) -> None:
    given, truth = (_images(seed).astype(np.float16) for seed in (1, 2))
    widened = _run(kinked, loss, given.astype(np.float32), truth.astype(np.float32))
    result = _run(kinked, loss, given, truth)
    assert_same_bits(values(result), values(widened))
    for name, gradient in result.gradients.items():
        assert_same_bits(gradient, widened.gradients[name].astype(np.float16))


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"network": "vgg"}, "network must be one of the server's (worked, "),
        ({"network": ""}, "network must be one of the server's (worked, "),
        ({"value_range": ()}, "value_range must be what black and white are, the lower first, got"),
        ({"value_range": (1.0, 1.0)}, "the lower first, got [1, 1]"),
        ({"value_range": (1.0, -1.0)}, "the lower first, got [1, -1]"),
        ({"value_range": (0.0, 1.0, 2.0)}, "the lower first, got [0, 1, 2]"),
        ({"value_range": (0.0, np.nan)}, "value_range[1] must be in (-inf, inf), got nan"),
        ({"value_range": (-np.inf, 1.0)}, "value_range[0] must be in (-inf, inf), got -inf"),
    ],
)
def test_parameters_that_are_refused(
    kinked: Engine, loss: Loss, parameters: dict[str, Any], words: str
) -> None:
    error = _refusal(kinked, _job(loss, _images(1), _images(2), parameters=parameters))
    assert isinstance(error, InvalidParameter)
    assert words in str(error)
    assert error.field == f"loss.{loss.name}.{next(iter(parameters))}"


def test_layers_and_heads_are_those_of_the_network(kinked: Engine, loss: Loss) -> None:
    given, truth = _images(1), _images(2)
    if LAYERS not in loss.layout_parameters:
        error = _refusal(kinked, _job(loss, given, truth, parameters={"network": "bare"}))
        assert "network must have linear heads, got bare, which has none" in str(error)
        return
    for layers, words in (
        ((), "layers must be at least one, got none"),
        (("relu1", "relu9"), "layers must be among those of kinked (conv1, relu1, "),
    ):
        assert words in str(
            _refusal(kinked, _job(loss, given, truth, parameters={"layers": layers}))
        )
    weights = {"layer_weights": (1.0,) * 3}
    error = _refusal(kinked, _job(loss, given, truth, parameters=weights))
    assert "layer_weights must have 2 numbers, got 3" in str(error)


def test_parameters_without_a_default_must_be_given(kinked: Engine, loss: Loss) -> None:
    job = _job(loss, _images(1), _images(2))
    for name in job.parameters:
        fewer = {key: value for key, value in job.parameters.items() if key != name}
        error = _refusal(kinked, replace(job, parameters=fewer))
        assert f"{name} must be given for {loss.message}, got nothing" in str(error)


def test_images_that_are_refused(kinked: Engine, loss: Loss) -> None:
    given, truth = _images(1), _images(2)
    first, second = (declared.name for declared in loss.inputs)
    for images, words in (
        ((given[:, :, :, 0], truth[:, :, :, 0]), f"{first} must have the axes N, C, H and W"),
        ((given[:, :, :, :0], truth[:, :, :, :0]), f"{first} must have the axes N, C, H and W"),
        ((given, truth[:2]), f"{second} must have the shape [3, 3, 8, 8] of {first}"),
        ((given, truth[:, :1]), f"{second} must have the shape [3, 3, 8, 8] of {first}"),
        ((given[:, :2], truth[:, :2]), f"{first} must have 3 channels for kinked, got"),
        ((given[:, :1], truth[:, :1]), "3 channels for kinked, or one with replicate_grey, got"),
        ((given[..., :2, :2], truth[..., :2, :2]), "images large enough for pool2 of kinked, got"),
        ((given.astype(int), truth), f"{first} must be floating point, got int64"),
    ):
        error = _refusal(kinked, _job(loss, *images))
        assert isinstance(error, InvalidTensor)
        assert words in str(error)


def test_a_server_without_networks_says_so(engine: Engine, loss: Loss) -> None:
    error = _refusal(Engine(engine.backend), _job(loss, _images(1), _images(2)))
    assert "this server has no networks" in str(error)


def test_no_examples_have_no_loss(kinked: Engine, loss: Loss) -> None:
    for parameters in _variants(loss):
        result = _run(kinked, loss, _images(1, 0), _images(2, 0), parameters=parameters)
        assert (result.loss, result.example_count) == (0.0, 0)
        assert result.gradients[loss.inputs[0].name].shape == (0, 3, 8, 8)


def _refusal(engine: Engine, job: Job) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        engine.run(job)
    return caught.value


def _narrow_vgg() -> Network:
    modules = ARCHITECTURES["vgg16"]()
    return drawn("kinked", modules, (16,) * 13, heads=MANY)


# Layers that hold much, and together more than is made of the image.
MANY = ("relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_3", "relu5_3")
FEW = ("relu5_3",)


@pytest.mark.parametrize("wanted", [FEW, MANY], ids=["few", "many"])
def test_memory_is_that_of_one_image_and_no_more_than_was_reckoned(
    loss: Loss, wanted: tuple[str, ...]
) -> None:
    if wanted is FEW and LAYERS not in loss.layout_parameters:
        pytest.skip("it looks at the layers with heads")
    network = _narrow_vgg()
    backend = NumpyBackend(1)
    engine = Engine(backend, Networks({"kinked": network}))
    layers = {"layers": wanted} if LAYERS in loss.layout_parameters else {}
    peaks = []
    for count in (1, 6):
        given, truth = (_images(seed, count, 96).astype(np.float32) for seed in (1, 2))
        _run(engine, loss, given[:1], truth[:1], parameters=layers)  # places the weights
        tracemalloc.start()
        _run(engine, loss, given, truth, parameters=layers)
        peaks.append(tracemalloc.get_traced_memory()[1] - 2 * given.nbytes)  # less the gradients
        tracemalloc.stop()
    backend.close()
    tile = 4 * (3 << 19)  # the windows of one product, and what is made of them
    refused = Engine(engine.backend, Networks({"kinked": network}, max_bytes=1))
    error = _refusal(refused, _job(loss, given, truth, parameters=layers))
    assert isinstance(error, TooLarge)
    assert "must have images that take at most 1 bytes inside kinked, got 96 x 96" in str(error)
    reckoned = int(error.details["needed"])
    assert peaks[1] < 1.1 * peaks[0]
    assert 0.4 * reckoned < peaks[0] < reckoned + tile
