"""A LightningModule whose loss a lossd server computes.

pip install '.[demo,torch]' lightning
python examples/training/lightning_module.py [--epochs 5]
"""

import argparse
from typing import Any

import lightning
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from lossd.cli.served import running_server
from lossd.client.torch import RemoteLoss
from lossd.v1 import CrossEntropy


class Digits(lightning.LightningModule):
    """A linear model of scikit-learn's 8 by 8 images."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.model = torch.nn.Linear(64, 10)
        self.criterion = RemoteLoss(CrossEntropy(label_smoothing=0.1), address)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        """Returns the loss of a batch, whose gradients came with it."""
        del index
        images, labels = batch
        loss: torch.Tensor = self.criterion(self.model(images), labels)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=0.5)


def train(address: str, epochs: int) -> float:
    """Trains, and returns the share of the images that are then recognised."""
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
    module = Digits(address)
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(data, batch_size=128, shuffle=True))
    with torch.no_grad():
        recognised = module.model(data.tensors[0]).argmax(1) == data.tensors[1]
    return float(recognised.float().mean())


def main() -> None:
    """Starts a server, trains and prints what was reached."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=5)
    with running_server() as server:
        print(f"recognised: {train(server.address, parser.parse_args().epochs):.3f}")


if __name__ == "__main__":
    main()
