"""Hugging Face's Trainer with a loss that a lossd server computes, as ``compute_loss_func``.

    pip install '.[demo,torch]' transformers accelerate
    python examples/training/hugging_face.py [--steps 60]

The model is a small GPT-2, made here, that learns to count.
"""

import argparse
import tempfile
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from lossd.cli.served import running_server
from lossd.client.torch import RemoteLoss
from lossd.v1 import CrossEntropy

NUMBERS, LENGTH, IGNORED = 32, 12, -100


class NextToken:
    """The mean loss of each next token, as Trainer asks for it."""

    def __init__(self, address: str) -> None:
        self._criterion = RemoteLoss(CrossEntropy(ignore_index=IGNORED), address)

    def __call__(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Returns the loss; ``num_items_in_batch`` counts the tokens of all micro-batches."""
        logits, following = outputs["logits"][:, :-1], labels[:, 1:]
        count = None if num_items_in_batch is None else float(num_items_in_batch)
        loss: torch.Tensor = self._criterion(logits, following, normalizer=count)
        return loss


def sequences(count: int, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """Makes sequences that count on from a drawn number."""
    drawn = torch.Generator().manual_seed(seed)
    first = torch.randint(0, NUMBERS, (count, 1), generator=drawn)
    numbers = (first + torch.arange(LENGTH)) % NUMBERS
    return [{"input_ids": row, "labels": row} for row in numbers]


def train(address: str, steps: int) -> list[float]:
    """Trains, and returns the loss at each step."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=NUMBERS, n_positions=LENGTH, n_embd=32, n_layer=1, n_head=2,
                   resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder, max_steps=steps, per_device_train_batch_size=16,
                gradient_accumulation_steps=2, learning_rate=1e-2, logging_steps=1, use_cpu=True,
                report_to=[], save_strategy="no", disable_tqdm=True, lr_scheduler_type="constant",
            ),
            train_dataset=sequences(512),
            compute_loss_func=NextToken(address),
        )  # fmt: skip
        trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def main() -> None:
    """Starts a server, trains and prints the first and the last loss."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=60)
    with running_server() as server:
        losses = train(server.address, parser.parse_args().steps)
    print(f"loss: {losses[0]:.3f} at first, {losses[-1]:.3f} at last")


if __name__ == "__main__":
    main()
