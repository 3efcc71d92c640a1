"""The examples for training frameworks run, and train as those frameworks do alone."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.end_to_end.conftest import serve

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "training"

# Frameworks warn of each other's next versions.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve("--backend", "numpy", "--threads", "2") as process:
        yield process.address


def example(name: str, *needed: str) -> Any:
    """The module of an example, where what it needs is installed."""
    for each in needed:
        pytest.importorskip(each)
    spec = importlib.util.spec_from_file_location(f"examples_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_lightning(address: str) -> None:
    assert example("lightning_module", "torch", "lightning").train(address, epochs=4) > 0.8


def test_hugging_face_trains_as_with_its_own_loss(address: str) -> None:
    module = example("hugging_face", "torch", "transformers", "accelerate")
    ours = module.train(address, steps=4)
    module.NextToken = lambda _: None  # Trainer takes the loss of the model
    np.testing.assert_allclose(ours, module.train(address, steps=4), rtol=1e-4)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_keras(backend: str) -> None:
    for each in ("keras", backend):
        if importlib.util.find_spec(each) is None:
            pytest.skip(f"there is no {each}")
    done = subprocess.run(
        [sys.executable, str(FOLDER / "keras_loss.py"), "--epochs", "3"],
        env={**os.environ, "KERAS_BACKEND": backend},  # read when Keras is imported
        check=True,
        capture_output=True,
        text=True,
    )
    assert float(done.stdout.split()[-1]) > 0.8


def test_flax_and_optax(address: str) -> None:
    losses = example("flax_optax", "jax", "flax", "optax").train(address, steps=20)
    assert losses[-1] < 0.7 * losses[0]


def test_boosting(address: str) -> None:
    found = example("boosting", "xgboost", "lightgbm").scores(address, trees=10)
    assert len(found) == 4
    assert min(found.values()) > 0.95


def test_scikit_learn(address: str) -> None:
    found = example("scikit_learn", "sklearn").search(address)
    assert found.best_score_ > 0.9


def test_the_curve_is_that_of_pytorchs_own_loss(address: str) -> None:
    module = example("same_curve", "torch", "sklearn", "matplotlib")
    theirs, ours = module.both(address, steps=60, dtype=module.torch.float32)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)

    theirs, ours = module.both(address, steps=150, dtype=module.torch.float64)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    assert ours[-10:].mean() < 0.2 * ours[0]  # it is training that is compared
