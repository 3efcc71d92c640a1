"""The same training with PyTorch's loss and with lossd's: one line changes, the curve does not.

pip install '.[demo,torch]'
python examples/training/same_curve.py [--steps 200] [--dtype float64] [--picture same_curve.svg]
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits

from lossd.cli.served import running_server
from lossd.client.torch import RemoteLoss
from lossd.v1 import CrossEntropy

mpl.use("svg")
from matplotlib import pyplot as plt

BATCH = 64
Curve = npt.NDArray[np.float64]


def train(criterion: Any, steps: int, dtype: torch.dtype = torch.float32) -> Curve:
    """Trains a network of scikit-learn's 8 by 8 images, and returns the loss at each step."""
    torch.manual_seed(0)
    images, labels = (torch.tensor(given) for given in load_digits(return_X_y=True))
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10)
    ).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(steps):
        batch = torch.randint(len(images), (BATCH,))
        loss = criterion(model(images[batch].to(dtype) / 16), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def both(address: str, steps: int, dtype: torch.dtype = torch.float32) -> tuple[Curve, Curve]:
    """Returns the curve with PyTorch's loss, and that with lossd's."""
    theirs = train(torch.nn.CrossEntropyLoss(), steps, dtype)
    return theirs, train(RemoteLoss(CrossEntropy(), address), steps, dtype)


def draw(theirs: Curve, ours: Curve, path: Path) -> None:
    """Draws both curves into one picture."""
    mpl.rcParams["svg.hashsalt"] = "lossd"  # the same curves are the same file
    figure, axes = plt.subplots(figsize=(6, 2.6), layout="constrained")
    axes.plot(theirs, label="nn.CrossEntropyLoss()", linewidth=3, alpha=0.35)
    axes.plot(ours, label="RemoteLoss(CrossEntropy(), address)", linewidth=1)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Starts a server, trains twice and prints how far the curves are apart."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg")
    given = parser.parse_args()
    with running_server() as server:
        theirs, ours = both(server.address, given.steps, getattr(torch, given.dtype))
    apart = np.abs(ours - theirs) / theirs
    print(f"loss: {ours[0]:.4f} at first, {ours[-1]:.4f} at last")
    print(f"relative difference: {apart[0]:.1e} at the first step, {apart.max():.1e} at most")
    if given.picture:
        draw(theirs, ours, given.picture)


if __name__ == "__main__":
    main()
