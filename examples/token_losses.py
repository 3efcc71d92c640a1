"""A small transformer learns to sort, by GRPO from rewards or by DPO from pairs of answers.

    pip install '.[demo,torch]'
    python examples/token_losses.py grpo [--loss trl] [--steps 150] [--output grpo.svg]
    python examples/token_losses.py dpo [--steps 150] [--output dpo.svg]

The prompt is four digits, the answer the same digits in ascending order; the reward is the share of
digits that are right, which anybody can verify.  The model is made and trained here: first it
imitates answers of which most are wrong, so that there is something to learn.  Then the losses, and
their gradients with respect to the log-probabilities of tokens, come from a lossd server in a
second process; ``--loss trl`` has TRL's formula in their place, on the same seeds.  The picture has
the reward, the divergence from the model at the beginning, and the share of clipped tokens or the
margin.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from torch import nn

from lossd import v1
from lossd.cli.served import running_server
from lossd.client import LossClient, presets
from lossd.client.torch import RemoteLoss

mpl.use("svg")
from matplotlib import pyplot as plt

Tensor = torch.Tensor
Curves = dict[str, list[float]]
DIGITS, LENGTH, WIDTH = 10, 4, 48
PROMPTS, ANSWERS, MINIBATCHES = 16, 8, 2
START = DIGITS  # a token between prompt and answer


class Transformer(nn.Module):
    """Two layers that see what came before."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(DIGITS + 1, WIDTH)
        self.places = nn.Embedding(2 * LENGTH + 1, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, DIGITS)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the logits of the digit after each token."""
        length = tokens.shape[1]
        later = torch.triu(torch.ones(length, length, dtype=torch.bool), 1)
        seen = self.tokens(tokens) + self.places(torch.arange(length))
        found: Tensor = self.head(self.layers(seen, mask=later))
        return found

    def log_probabilities(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """Returns those of the digits of each answer."""
        logits = self(torch.cat([_started(prompts), answers[:, :-1]], dim=1))[:, LENGTH:]
        return logits.log_softmax(-1).gather(-1, answers[..., None])[..., 0]  # type: ignore[no-any-return]

    @torch.no_grad()
    def sampled(self, prompts: Tensor, random: torch.Generator) -> Tensor:
        """Returns an answer to each prompt."""
        tokens = _started(prompts)
        for _ in range(LENGTH):
            shares = self(tokens)[:, -1].softmax(-1)
            tokens = torch.cat([tokens, torch.multinomial(shares, 1, generator=random)], dim=1)
        return tokens[:, LENGTH + 1 :]


def _started(prompts: Tensor) -> Tensor:
    return torch.cat([prompts, torch.full((len(prompts), 1), START)], dim=1)


def prompts(random: torch.Generator, count: int) -> Tensor:
    """Draws digits."""
    return torch.randint(0, DIGITS, (count, LENGTH), generator=random)


def rewards(given: Tensor, answers: Tensor) -> Tensor:
    """Returns the share of the digits that are where they belong."""
    return (answers == given.sort(dim=1).values).double().mean(dim=1)


def imitated(random: torch.Generator, steps: int) -> Transformer:
    """Returns a model that has seen answers, of whose digits a half are drawn at random."""
    model = Transformer()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(steps):
        given = prompts(random, 128)
        drawn = prompts(random, 128)
        is_right = torch.rand(given.shape, generator=random) < 0.5
        answers = torch.where(is_right, given.sort(dim=1).values, drawn)
        _step(optimizer, -model.log_probabilities(given, answers).mean())
    return model


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


# ------------------------------------------------------------------ rewards

PolicyLoss = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, dict[str, float]]]


def by_lossd(client: LossClient) -> PolicyLoss:
    """Returns GRPO as lossd computes it, with what it says beside."""
    message = presets.grpo()
    message.outputs.extend([v1.POLICY_GRADIENT_OUTPUT_KL, v1.POLICY_GRADIENT_OUTPUT_CLIP_FRACTION])
    criterion = RemoteLoss(message, client)

    def computed(now: Tensor, then: Tensor, first: Tensor, advantages: Tensor) -> Any:
        loss = criterion(
            log_probabilities=now,
            sampling_log_probabilities=then,
            reference_log_probabilities=first,
            advantages=advantages,
        )
        outputs = criterion.last.outputs if criterion.last else {}
        return loss, {
            "KL": float(outputs["kl"].mean()),
            "clipped": float(outputs["clip_fraction"].mean()),
        }

    return computed


def by_trl(now: Tensor, then: Tensor, first: Tensor, advantages: Tensor) -> Any:
    """Returns what TRL 1.16 computes of ``loss_type="grpo"`` with ``beta=0.04``."""
    ratio = torch.exp(now - then)
    gains = ratio * advantages[:, None], ratio.clamp(0.8, 1.2) * advantages[:, None]
    divergence = torch.exp(first - now) - (first - now) - 1
    loss = (0.04 * divergence - torch.min(*gains)).mean(dim=-1).mean()
    clipped = (gains[1] < gains[0]).double().mean()
    return loss, {"KL": float(divergence.detach().mean()), "clipped": float(clipped)}


def learn_from_rewards(
    model: Transformer,
    reference: Transformer,
    loss: PolicyLoss,
    random: torch.Generator,
    steps: int,
) -> Curves:
    """Samples answers, and follows those that are better than others to the same prompt."""
    curves: Curves = defaultdict(list)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(steps):
        given = prompts(random, PROMPTS).repeat_interleave(ANSWERS, 0)
        answers = model.sampled(given, random)
        reward = rewards(given, answers)
        groups = reward.reshape(PROMPTS, ANSWERS)
        spread = groups.std(dim=1, keepdim=True) + 1e-4
        advantages = ((groups - groups.mean(dim=1, keepdim=True)) / spread).reshape(-1).float()
        with torch.no_grad():
            then = model.log_probabilities(given, answers)
            first = reference.log_probabilities(given, answers)
        said: list[dict[str, float]] = []
        for part in torch.randperm(len(given), generator=random).chunk(MINIBATCHES):
            now = model.log_probabilities(given[part], answers[part])
            value, beside = loss(now, then[part], first[part], advantages[part])
            _step(optimizer, value)
            said.append(beside)
        curves["reward"].append(float(reward.mean()))
        for name in ("KL", "clipped"):
            curves[name].append(sum(one[name] for one in said) / len(said))
    return curves


# ------------------------------------------------------------------ pairs


def learn_from_pairs(
    model: Transformer, reference: Transformer, client: LossClient, random: torch.Generator,
    steps: int,
) -> Curves:  # fmt: skip
    """Samples two answers to each prompt, and prefers the better one."""
    message = presets.dpo()
    message.outputs.extend([v1.PREFERENCE_OUTPUT_REWARD_MARGIN, v1.PREFERENCE_OUTPUT_ACCURACY])
    criterion = RemoteLoss(message, client)
    curves: Curves = defaultdict(list)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(steps):
        given = prompts(random, PROMPTS * ANSWERS)
        answers = [model.sampled(given, random) for _ in range(2)]
        reward = [rewards(given, one) for one in answers]
        is_first = reward[0] >= reward[1]
        chosen = torch.where(is_first[:, None], answers[0], answers[1])
        rejected = torch.where(is_first[:, None], answers[1], answers[0])
        sides: dict[str, Tensor] = {"chosen": chosen, "rejected": rejected}
        inputs = {
            f"{s}_log_probabilities": model.log_probabilities(given, a) for s, a in sides.items()
        }
        with torch.no_grad():
            for side, answer in sides.items():
                first = reference.log_probabilities(given, answer)
                inputs[f"{side}_reference_log_probabilities"] = first
        apart = [
            inputs[f"{side}_log_probabilities"] - inputs[f"{side}_reference_log_probabilities"]
            for side in sides
        ]
        is_told = reward[0] != reward[1]  # equal answers tell nothing
        value = criterion(**inputs, mask=is_told)
        _step(optimizer, value)
        outputs = criterion.last.outputs if criterion.last else {}
        curves["reward"].append(float((reward[0].mean() + reward[1].mean()) / 2))
        curves["KL"].append(float(torch.stack(apart).detach().mean()))
        margins = outputs["reward_margin"][is_told.numpy()]
        curves["margin"].append(float(margins.mean()) if margins.size else math.nan)
    return curves


# ------------------------------------------------------------------ the picture


def draw(runs: dict[str, Curves], output: Path) -> None:
    """Draws the curves of some runs, one over the other."""
    names = list(next(iter(runs.values())))
    mpl.rcParams["svg.hashsalt"] = "lossd"  # the same curves are the same file
    figure, axes = plt.subplots(1, len(names), figsize=(9, 2.4), layout="constrained")
    for name, axis in zip(names, axes, strict=True):
        for number, (label, curves) in enumerate(runs.items()):
            axis.plot(curves[name], "-" if number == 0 else ":", label=label, linewidth=1.2)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("step", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0].legend(fontsize=7)
    figure.savefig(output, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Trains, and says how it went."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("method", choices=["grpo", "dpo"])
    parser.add_argument("--loss", choices=["lossd", "trl", "both"], default="lossd", help="of grpo")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--imitation", type=int, default=200, help="steps before")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, metavar="FILE.svg")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs: dict[str, Curves] = {}
    with running_server() as server, LossClient(server.address) as client:
        wanted = ["lossd", "trl"] if arguments.loss == "both" else [arguments.loss]
        for name in wanted:
            torch.manual_seed(arguments.seed)
            random = torch.Generator().manual_seed(arguments.seed)
            reference = imitated(random, arguments.imitation)
            model = Transformer()
            model.load_state_dict(reference.state_dict())
            if arguments.method == "grpo":
                loss = by_lossd(client) if name == "lossd" else by_trl
                curves = learn_from_rewards(model, reference, loss, random, arguments.steps)
            else:
                curves = learn_from_pairs(model, reference, client, random, arguments.steps)
            runs[f"{arguments.method} by {name}"] = curves
            last = max(1, arguments.steps // 5)
            means = [sum(x) / len(x) for x in (curves["reward"][:last], curves["reward"][-last:])]
            print(f"{name}: reward {means[0]:.3f} at first, {means[1]:.3f} at last")
    if arguments.output:
        draw(runs, arguments.output)


if __name__ == "__main__":
    main()
