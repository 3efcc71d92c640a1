"""A loss of Keras 3 that a lossd server computes, with PyTorch or JAX behind Keras.

pip install '.[demo,torch]' keras        # or '.[demo,jax]'
KERAS_BACKEND=torch python examples/training/keras_loss.py [--epochs 5]
"""

import argparse
from collections.abc import Callable
from typing import Any

import keras
from sklearn.datasets import load_digits

from lossd.cli.served import running_server
from lossd.v1.losses import CrossEntropy, Loss


def remote(loss: Loss, address: str) -> Callable[..., Any]:
    """Returns a differentiable function of predictions and targets for the backend of Keras."""
    if keras.backend.backend() == "torch":
        from lossd.client.torch import RemoteLoss  # noqa: PLC0415 - one backend is installed

        return RemoteLoss(loss, address)
    from lossd.client.jax import remote_loss  # noqa: PLC0415 - one backend is installed

    return remote_loss(loss, address)


def keras_loss(loss: Loss, address: str) -> Callable[[Any, Any], Any]:
    """Returns a loss over class indices for ``Model.compile(loss=...)``.

    Keras gives targets first, and has made floating-point numbers of them.
    """
    compute = remote(loss, address)

    def value(targets: Any, predictions: Any) -> Any:
        return compute(predictions, keras.ops.cast(targets, "int32"))

    return value


def train(address: str, epochs: int) -> dict[str, list[float]]:
    """Trains a linear model of scikit-learn's 8 by 8 images, and returns its history."""
    keras.utils.set_random_seed(0)
    images, labels = load_digits(return_X_y=True)
    model = keras.Sequential([keras.layers.Input((64,)), keras.layers.Dense(10)])
    model.compile(
        optimizer=keras.optimizers.SGD(0.5),
        loss=keras_loss(CrossEntropy(label_smoothing=0.1), address),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="recognised")],
    )
    history: dict[str, list[float]] = model.fit(
        images / 16, labels, batch_size=128, epochs=epochs, verbose=0
    ).history
    return history


def main() -> None:
    """Starts a server, trains and prints what was reached."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=5)
    with running_server() as server:
        history = train(server.address, parser.parse_args().epochs)
    print(f"recognised: {history['recognised'][-1]:.3f}")


if __name__ == "__main__":
    main()
