"""Losses of images equal PyTorch's on torchvision's topologies, by value and pixel by pixel."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.losses import LOSSES, Distance
from lossd.networks import AveragePool, Device, MaxPool, Networks

torch = pytest.importorskip("torch")

from tests.networks import topologies  # noqa: E402 - it needs PyTorch

pytestmark = pytest.mark.oracle

TOLERANCES = {np.float32: 1e-5, np.float64: 1e-10}
SIDES = {"alexnet": 67, "squeezenet1_1": 62, "vgg16": 36}


@pytest.fixture(scope="module", params=list(topologies.TOPOLOGIES))
def trunk(request: pytest.FixtureRequest) -> Any:
    """A topology's name, and its trunk in PyTorch."""
    return request.param, topologies.build(request.param)


def _images(name: str) -> tuple[np.ndarray, np.ndarray]:
    side = SIDES[name]
    rng = np.random.default_rng(3)
    given, truth = rng.uniform(0, 1, (2, 2, 3, side, side + 3))
    # Single precision already, so that float32 and float64 judge the same images.
    return given.astype(np.float32), truth.astype(np.float32)


def _run(
    engine: Engine, networks: Networks, loss: str, images: Any, dtype: Any, **parameters: Any
) -> Result:
    inputs = {n: [i.astype(dtype)] for n, i in zip(("predictions", "targets"), images, strict=True)}
    job = Job(
        loss=LOSSES[loss],
        parameters={"value_range": (0.0, 1.0), **parameters},
        inputs=inputs,
        gradients=tuple(inputs),
    )
    return Engine(engine.backend, networks).run(job)


def _assert_equal(result: Result, value: Any, images: list[Any], dtype: Any) -> None:
    """The value, and each gradient relative to its largest number."""
    tolerance = TOLERANCES[dtype]
    assert result.loss == pytest.approx(float(value.detach()), rel=tolerance)
    for gradient, image in zip(result.gradients.values(), images, strict=True):
        expected = image.grad.numpy()
        assert abs(expected).max() > 0
        assert abs(gradient - expected).max() <= tolerance * abs(expected).max()


def _leaves(images: Any) -> list[Any]:
    return [torch.tensor(image.astype(np.float64), requires_grad=True) for image in images]


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize("distance", [Distance.SQUARED_EUCLIDEAN, Distance.COSINE])
def test_a_perceptual_loss_is_pytorchs(
    engine: Engine, trunk: Any, dtype: Any, distance: Distance
) -> None:
    name, torch_trunk = trunk
    network = topologies.network(name, torch_trunk)
    layers = topologies.LPIPS_LAYERS[name][::2]
    images = _images(name)
    result = _run(
        engine, Networks({name: network}), "perceptual", images, dtype,
        network=name, layers=layers, layer_weights=(1.0, 0.5, 2.0, 1.5)[: len(layers)],
        distance=distance, style_weight=0.25,
    )  # fmt: skip

    leaves = _leaves(images)
    places = [network.layers.index(layer) for layer in layers]
    seen = [topologies.features(torch_trunk, leaf, places) for leaf in leaves]
    value: Any = 0
    for weight, x, y in zip((1.0, 0.5, 2.0, 1.5), *seen, strict=False):
        flat = [maps.flatten(1) for maps in (x, y)]
        if distance is Distance.COSINE:
            content = 1 - torch.nn.functional.cosine_similarity(*flat, eps=1e-300)
        else:
            content = ((x - y) ** 2).flatten(1).mean(1)
        grams = [_gram(maps) for maps in (x, y)]
        style = ((grams[0] - grams[1]) ** 2).flatten(1).sum(1)
        value = value + weight * (content + 0.25 * style).mean()
    value.backward()
    _assert_equal(result, value, leaves, dtype)


def _gram(maps: Any) -> Any:
    flat = maps.flatten(2)
    return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


@pytest.mark.parametrize("dtype", list(TOLERANCES))
def test_lpips_is_the_published_formula_in_pytorch(engine: Engine, trunk: Any, dtype: Any) -> None:
    name, torch_trunk = trunk
    heads = topologies.heads(name, torch_trunk)
    network = topologies.network(name, torch_trunk, heads)
    images = _images(name)
    result = _run(engine, Networks({name: network}), "lpips", images, dtype, network=name)

    leaves = _leaves(images)
    places = [network.layers.index(layer) for layer in heads.layers]
    seen = [topologies.features(torch_trunk, leaf, places) for leaf in leaves]
    value: Any = 0
    for x, y, head in zip(*seen, heads.weights, strict=True):
        u, v = (maps / (maps.square().sum(1, keepdim=True).sqrt() + 1e-10) for maps in (x, y))
        weighed = (torch.from_numpy(head)[:, None, None] * (u - v) ** 2).sum(1)
        value = value + weighed.mean((1, 2)).mean()
    value.backward()
    _assert_equal(result, value, leaves, dtype)


@pytest.mark.parametrize("kind", [MaxPool, AveragePool])
def test_pools_are_pytorchs_at_every_size_and_among_equals(kind: Any) -> None:
    """Windows that end within the image or beyond it, and numbers of which many are equal."""
    on, rng = Device(np, 1 << 10), np.random.default_rng(0)
    ceils = (False, True) if kind is MaxPool else (False,)
    for side, kernel, stride, ceil in product(range(1, 9), (1, 2, 3), (1, 2, 3, 4), ceils):
        options: dict[str, Any] = {"ceil": True} if ceil else {}
        pool = kind("pool", kernel=kernel, stride=stride, **options)
        size = pool.size((2, side, 8), {})
        if min(size) <= 0:
            continue
        image = rng.integers(0, 3, (2, side, 8)).astype(np.float64)
        found, back = pool.forward(on, image, {})
        derivatives = rng.normal(0, 1, size)

        leaf = torch.tensor(image, requires_grad=True)
        name = "max_pool2d" if kind is MaxPool else "avg_pool2d"
        pooled = getattr(torch.nn.functional, name)(leaf, kernel, stride, ceil_mode=ceil)
        (pooled * torch.from_numpy(derivatives)).sum().backward()
        assert found.shape == size
        np.testing.assert_allclose(found, pooled.detach().numpy(), rtol=1e-15)
        np.testing.assert_allclose(back(derivatives), leaf.grad, rtol=1e-13, atol=1e-15)
