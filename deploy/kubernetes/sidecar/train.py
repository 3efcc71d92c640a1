"""Fits a linear classifier; every loss and its gradient come from the lossd beside it."""

import os

import numpy as np

from lossd.client import LossClient
from lossd.v1 import CrossEntropy


def main() -> None:
    """Trains on three clouds of points, and prints the loss as it falls."""
    random = np.random.default_rng(0)
    centres = np.array([[0, 2], [2, -1], [-2, -1]], np.float32)
    labels = random.integers(0, 3, 600)
    points = centres[labels] + 0.7 * random.standard_normal((600, 2), np.float32)
    weights = np.zeros((2, 3), np.float32)
    with LossClient(os.environ["TRAINER_LOSSD"]) as client:
        for step in range(100):
            result = client.compute(
                CrossEntropy(),
                predictions=points @ weights,
                targets=labels,
                request_id=f"trainer/{step}",
            )
            weights -= points.T @ result.gradients["predictions"]
            if step % 20 == 0:
                print(f"step {step}: loss {result.loss:.4f}", flush=True)
    accuracy = ((points @ weights).argmax(axis=1) == labels).mean()
    print(f"accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main()
