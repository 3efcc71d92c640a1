"""``remote_loss`` with arrays of JAX on a device, and with memory of it that the server shares.

JAX is that for CPUs here, so memory of the fake device stands in for its arrays.  Not tried so:
JAX's own ``__cuda_array_interface__`` and ``from_dlpack``.
"""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossd.v1 import CrossEntropy, FeatureMatching
from tests.device import is_fake
from tests.end_to_end.conftest import serve

jax = pytest.importorskip("jax")
remote = importlib.import_module("lossd.client.jax")
callback = importlib.import_module("lossd.client.jax_callback")
LossClient = importlib.import_module("lossd.client").LossClient

pytestmark = pytest.mark.gpu
FLAGS = ("--backend", "cupy", "--no-check-device", "--max-device-bytes", str(64 << 20))


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of arrays that JAX was given back, with arrays on the fake device."""
    if not is_fake():
        pytest.skip("needs gpulab's fake device")
    cupy = importlib.import_module("cupy")
    found: list[str] = []
    is_on_device = callback.is_on_device

    def lent(leaf: Any) -> Any:
        return callback.Movable(cupy.asarray(np.asarray(leaf)), lambda: np.asarray(leaf))

    def taken(array: Any, _: Any) -> Any:
        found.append(type(array).__module__.partition(".")[0])
        return jax.numpy.asarray(cupy.asnumpy(array))

    def stands(leaf: Any) -> bool:
        is_concrete = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer)
        return is_concrete or bool(is_on_device(leaf))

    monkeypatch.setattr(callback, "is_on_device", stands)
    monkeypatch.setattr(callback, "_lent", lent)
    monkeypatch.setattr(callback, "_taken", taken)
    return found


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_arrays_stay_on_the_device_unless_jax_traces_the_call(
    ways: list[str], tmp_path: Path, reduction: Any
) -> None:
    logits = jax.random.normal(jax.random.key(1), (200, 300))
    labels = jax.numpy.arange(200)
    with serve(*FLAGS, "--shm-dir", str(tmp_path)) as process, LossClient(process.address) as near:
        loss = remote.remote_loss(CrossEntropy(), near, reduction=reduction)

        def total(logits: Any, labels: Any) -> Any:
            return loss(logits, labels, weights=jax.numpy.ones(200)).sum()

        found = jax.value_and_grad(total)(logits, labels)
        assert ways == ["cupy"]
        traced = jax.jit(jax.value_and_grad(total))(logits, labels)
        assert ways == ["cupy"]
    assert found[0].dtype == traced[0].dtype == np.float32
    np.testing.assert_allclose(found[0], traced[0], rtol=1e-6)
    np.testing.assert_array_equal(found[1], traced[1])


def test_lists_and_servers_without_device_memory_do_too(ways: list[str], tmp_path: Path) -> None:
    maps = [jax.numpy.arange(512.0).reshape(4, 8, 16) / 512, jax.numpy.ones((4, 8, 16))]
    with serve("--backend", "numpy", "--shm-dir", str(tmp_path)) as process:
        loss = remote.remote_loss(FeatureMatching(), process.address)
        value, gradients = jax.value_and_grad(loss)(maps, [2 * one for one in maps])
    assert ways == ["numpy", "numpy"]
    assert np.isfinite(value)
    assert [one.shape for one in gradients] == [(4, 8, 16)] * 2
