"""A step of Flax and Optax, compiled by JAX, whose loss a lossd server computes.

pip install '.[demo,jax]' flax optax
python examples/training/flax_optax.py [--steps 100]
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen
from sklearn.datasets import load_digits

from lossd.cli.served import running_server
from lossd.client.jax import remote_loss
from lossd.v1 import CrossEntropy


def train(address: str, steps: int) -> list[float]:
    """Trains a linear model of scikit-learn's 8 by 8 images, and returns the loss at each step."""
    images, labels = load_digits(return_X_y=True)
    features, targets = jnp.asarray(images / 16, jnp.float32), jnp.asarray(labels, jnp.int32)
    model = linen.Dense(10)
    loss_fn = remote_loss(CrossEntropy(label_smoothing=0.1), address)
    optimizer = optax.sgd(0.5)

    @jax.jit
    def step(parameters: Any, state: Any) -> Any:
        loss, gradients = jax.value_and_grad(
            lambda tried: loss_fn(model.apply(tried, features), targets)
        )(parameters)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(parameters, updates), state, loss

    parameters = model.init(jax.random.key(0), features)
    state = optimizer.init(parameters)
    losses = []
    for _ in range(steps):
        parameters, state, loss = step(parameters, state)
        losses.append(float(loss))
    return losses


def main() -> None:
    """Starts a server, trains and prints the first and the last loss."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100)
    with running_server() as server:
        losses = train(server.address, parser.parse_args().steps)
    print(f"loss: {losses[0]:.3f} at first, {losses[-1]:.3f} at last")


if __name__ == "__main__":
    main()
