"""Preferences, desirable answers and rewards: TRL's DPO, CPO, ORPO, KTO and reward trainers."""

from collections import defaultdict
from types import MethodType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lossd import v1
from lossd.client import presets
from lossd.engine import Engine, Result
from tests.losses.case import Array
from tests.tokens import run

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.oracle
ROWS, LENGTH = 5, 7
NAMES = (
    "chosen_log_probabilities", "rejected_log_probabilities",
    "chosen_reference_log_probabilities", "rejected_reference_log_probabilities",
)  # fmt: skip
CHOSEN, REJECTED = NAMES[:2]


def pairs(seed: int) -> dict[str, Array]:
    """Padded tokens of both answers, of which as many count as their lengths say."""
    rng = np.random.default_rng(seed)
    made: dict[str, Array] = {}
    for side in ("chosen", "rejected"):
        now = -rng.exponential(1, (ROWS, LENGTH))
        made[f"{side}_log_probabilities"] = now
        made[f"{side}_reference_log_probabilities"] = now + rng.normal(0, 0.5, now.shape)
        made[f"{side}_lengths"] = rng.integers(1, LENGTH + 1, ROWS)
    return made


def dpo_trainer(kind: str, **settings: Any) -> SimpleNamespace:
    """Returns what TRL's trainer of DPO has when it computes a loss, without model and data."""
    alone = SimpleNamespace(
        device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x, unwrap_model=lambda x: x
    )
    own = {
        "model": SimpleNamespace(training=True),
        "accelerator": alone,
        "aux_loss_enabled": False,
        "ld_alpha": None,
        "precompute_ref_logps": True,
        "f_divergence_type": "reverse_kl",
        "loss_types": [kind],
        "loss_weights": [1.0],
        "beta": 0.1,
        "label_smoothing": 0.0,
        "use_weighting": False,
        "args": SimpleNamespace(discopop_tau=0.05),
        "_metrics": {"train": defaultdict(list)},
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }
    return SimpleNamespace(**{**own, **settings})


def by_dpo_trainer(given: dict[str, Array], kind: str, **settings: Any) -> tuple[float, Any, Any]:
    """The loss of TRL, its gradients with respect to both answers, and what it logs."""
    trainers = pytest.importorskip("trl.trainer.dpo_trainer", reason="TRL is not installed")
    masks = [
        np.arange(LENGTH) < given[f"{side}_lengths"][:, None] for side in ("chosen", "rejected")
    ]
    mask = torch.tensor(np.concatenate(masks))
    leaves = [torch.tensor(given[name], requires_grad=True) for name in NAMES[:2]]
    logs = torch.cat(leaves) * mask
    nothing = torch.zeros_like(logs)
    outputs = SimpleNamespace(
        log_probs=logs, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool()
    )
    trainer = dpo_trainer(kind, **settings)
    first = torch.zeros((2 * ROWS, 1), dtype=torch.bool)  # the prompt, whose tokens do not count
    whole = torch.cat([first, mask], dim=1)
    references = [
        torch.tensor((given[name] * one).sum(axis=1))
        for name, one in zip(NAMES[2:], masks, strict=True)
    ]
    inputs = {
        "input_ids": whole.long(),
        "attention_mask": torch.ones_like(whole).long(),
        "completion_mask": whole.long(),
        "ref_chosen_logps": references[0],
        "ref_rejected_logps": references[1],
    }
    loss = trainers.DPOTrainer._compute_loss(
        trainer, lambda **_: outputs, inputs, return_outputs=False
    )
    loss.backward()
    derivatives = [one.grad.numpy() for one in leaves if one.grad is not None]
    return loss.item(), derivatives, trainer._metrics["train"]


def assert_same(found: Result, value: float, derivatives: Any) -> None:
    assert found.loss == pytest.approx(value, rel=1e-12)
    for name, derivative in zip((CHOSEN, REJECTED), derivatives, strict=True):
        np.testing.assert_allclose(found.gradients[name], derivative, rtol=1e-9, atol=1e-15)


PREFERENCES: dict[str, tuple[Any, dict[str, Any]]] = {
    "sigmoid": (presets.dpo(), {}),
    "sigmoid_norm": (presets.length_normalized_dpo(), {}),
    "hinge": (presets.slic(), {}),
    "ipo": (presets.ipo(dialect="trl"), {}),
    "robust": (presets.robust_dpo(label_smoothing=0.1), {"label_smoothing": 0.1}),
    "exo_pair": (presets.exo(label_smoothing=0.01), {"label_smoothing": 0.01}),
    "nca_pair": (presets.nca(), {}),
    "apo_zero": (presets.apo("zero"), {}),
    "apo_down": (presets.apo("down"), {}),
    "discopop": (presets.discopop(beta=0.1), {}),
}


@pytest.mark.parametrize("kind", PREFERENCES)
def test_preferences_are_trls(engine: Engine, kind: str) -> None:
    message, settings = PREFERENCES[kind]
    given = pairs(1)
    value, derivatives, _ = by_dpo_trainer(given, kind, **settings)
    if kind == "exo_pair":  # it has the smoothing in float32
        found = run(engine, message, given)
        assert found.loss == pytest.approx(value, rel=1e-6)
        for name, derivative in zip((CHOSEN, REJECTED), derivatives, strict=True):
            np.testing.assert_allclose(found.gradients[name], derivative, rtol=1e-6, atol=1e-12)
        return
    assert_same(run(engine, message, given), value, derivatives)


def test_what_trl_logs_of_rewards_lossd_returns(engine: Engine) -> None:
    given = pairs(2)
    _, _, logged = by_dpo_trainer(given, "sigmoid")
    message = presets.dpo()
    message.outputs.extend(
        [
            v1.PREFERENCE_OUTPUT_CHOSEN_REWARD,
            v1.PREFERENCE_OUTPUT_REJECTED_REWARD,
            v1.PREFERENCE_OUTPUT_REWARD_MARGIN,
            v1.PREFERENCE_OUTPUT_ACCURACY,
        ]
    )
    found = run(engine, message, given).outputs
    for mine, theirs in (
        ("chosen_reward", "rewards/chosen"),
        ("rejected_reward", "rewards/rejected"),
        ("reward_margin", "rewards/margins"),
        ("accuracy", "rewards/accuracies"),
    ):
        assert found[mine].mean() == pytest.approx(logged[theirs][0], rel=1e-6), mine


def test_trls_sigmoid_has_no_label_smoothing_and_lossds_has(engine: Engine) -> None:
    """TRL takes the setting and leaves it out, as https://github.com/huggingface/trl/pull/7062
    says of its fused path; cDPO smooths."""
    given = pairs(3)
    smoothed, derivatives, _ = by_dpo_trainer(given, "sigmoid", label_smoothing=0.2)
    assert_same(run(engine, presets.dpo(), given), smoothed, derivatives)
    c, r = (
        ((given[f"{side}_log_probabilities"] - given[f"{side}_reference_log_probabilities"])
         * (np.arange(LENGTH) < given[f"{side}_lengths"][:, None])).sum(axis=1)
        for side in ("chosen", "rejected")
    )  # fmt: skip
    h = 0.1 * (c - r)
    by_hand = (0.8 * np.log1p(np.exp(-h)) + 0.2 * np.log1p(np.exp(h))).mean()
    mine = run(engine, presets.dpo(label_smoothing=0.2), given).loss
    assert mine == pytest.approx(by_hand, rel=1e-12)
    assert abs(by_hand - smoothed) > 1e-3


def test_trls_ipo_divides_by_lengths_and_the_papers_does_not(engine: Engine) -> None:
    given = pairs(4)
    value, _, _ = by_dpo_trainer(given, "ipo")
    paper = run(engine, presets.ipo(), given).loss or 0.0
    assert abs(paper - value) > 0.1
    ones = {name: np.ones(ROWS, np.int64) for name in ("chosen_lengths", "rejected_lengths")}
    single = {**given, **ones}
    value, derivatives, _ = by_dpo_trainer(single, "ipo")
    assert_same(run(engine, presets.ipo(), single), value, derivatives)


def test_trls_bco_pair_has_no_shift_and_the_papers_has(engine: Engine) -> None:
    """Its sum over both answers of pairs is lossd's of all answers with a shift of 0."""
    given = pairs(5)
    value, derivatives, _ = by_dpo_trainer(given, "bco_pair", beta=1.0)
    answers = {
        name: np.concatenate([given[f"{side}_{name}"] for side in ("chosen", "rejected")])
        for name in ("log_probabilities", "reference_log_probabilities", "lengths")
    }
    answers["desirable"] = np.repeat([1, 0], ROWS)
    unshifted = run(engine, presets.bco(beta=1.0, shift=0.0), answers)
    assert (unshifted.loss or 0) * 2 == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(
        unshifted.gradients["log_probabilities"] * 2,
        np.concatenate(derivatives),
        rtol=1e-9,
        atol=1e-15,
    )
    assert abs((run(engine, presets.bco(beta=1.0), answers).loss or 0) * 2 - value) > 1e-4


# ------------------------------------------------------------------ sums, without a reference


def _sums(seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return -rng.exponential(2, 7), -rng.exponential(2, 7)


def _of_sums(chosen: Array, rejected: Array) -> dict[str, Array]:
    lengths = np.ones(len(chosen), np.int64)
    return {
        CHOSEN: chosen, REJECTED: rejected, "chosen_lengths": lengths, "rejected_lengths": lengths,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["simpo", "sigmoid", "hinge", "ipo"])
def test_simpo_and_the_preferences_of_cpo_are_trls(engine: Engine, kind: str) -> None:
    trainers = pytest.importorskip("trl.experimental.cpo.cpo_trainer", reason="no TRL")
    chosen, rejected = _sums(3)
    own = SimpleNamespace(
        alpha=0.0, loss_type=kind, beta=2.0, simpo_gamma=0.5, label_smoothing=0.0,
        accelerator=SimpleNamespace(device="cpu"),
    )  # fmt: skip
    tensors = [torch.tensor(x, requires_grad=True) for x in (chosen, rejected)]
    costs = trainers.CPOTrainer.cpo_loss(own, *tensors)[0]
    costs.mean().backward()
    given = _of_sums(chosen, rejected)
    nothing = {name: np.zeros(7) for name in NAMES[2:]}  # it has no reference to compare with
    message, given = {
        "simpo": (presets.simpo(beta=2.0, gamma=0.5), given),
        "sigmoid": (presets.cpo(beta=2.0, likelihood_weight=0), given),
        "hinge": (presets.slic(beta=2.0), {**given, **nothing}),
        "ipo": (presets.ipo(tau=2.0), {**given, **nothing}),
    }[kind]
    found = run(engine, message, given)
    assert_same(found, costs.mean().item(), [one.grad for one in tensors])


def test_the_odds_ratio_of_orpo_is_trls_and_its_likelihood_is_not(engine: Engine) -> None:
    """TRL's is the mean over all tokens of the batch, the paper's that of a pair."""
    trainers = pytest.importorskip("trl.experimental.orpo.orpo_trainer", reason="no TRL")
    chosen, rejected = _sums(4)
    own = SimpleNamespace(beta=0.1, accelerator=SimpleNamespace(device="cpu"))
    given = [torch.tensor(x) for x in (chosen, rejected)]
    ratios = trainers.ORPOTrainer.odds_ratio_loss(own, *given)[0].numpy()
    found = run(engine, presets.orpo(), _of_sums(chosen, rejected))
    assert found.per_example is not None
    np.testing.assert_allclose(found.per_example, -chosen - ratios, rtol=1e-5)


def by_trainer_without_reference(kind: str, lengths: Array, seed: int) -> tuple[float, Any]:
    """The whole loss of TRL from the logits of a model, and the tokens' log-probabilities."""
    module = pytest.importorskip(f"trl.experimental.{kind}.{kind}_trainer", reason="no TRL")
    trainer: Any = getattr(module, f"{kind.upper()}Trainer")
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(size=(2 * ROWS, LENGTH + 1, 5)))  # behind a prompt of 1 token
    ids = torch.tensor(rng.integers(0, 5, (2 * ROWS, LENGTH + 1)))
    counts = torch.arange(LENGTH + 1) <= torch.tensor(np.tile(lengths, 2))[:, None]
    labels = torch.where(counts, ids, -100)
    labels[:, 0] = -100
    batch = {
        f"{side}_{name}": part
        for name, one in (("input_ids", ids), ("attention_mask", counts), ("labels", labels))
        for side, part in zip(("chosen", "rejected"), one.split(ROWS), strict=True)
    }
    own = SimpleNamespace(
        is_encoder_decoder=False, pad_token_id=0, padding_value=0, aux_loss_enabled=False, beta=0.1,
        loss_type="sigmoid", label_smoothing=0.0, cpo_alpha=1.0, alpha=0.0,
        accelerator=SimpleNamespace(device="cpu", gather_for_metrics=lambda x: x),
        concatenated_inputs=trainer.concatenated_inputs,
        get_batch_logps=trainer.get_batch_logps,
    )  # fmt: skip
    for name in ("concatenated_forward", "odds_ratio_loss", "cpo_loss"):
        if hasattr(trainer, name):
            setattr(own, name, MethodType(getattr(trainer, name), own))
    model = lambda *_, **__: SimpleNamespace(logits=logits)  # noqa: E731 - a stand-in
    loss, _ = trainer.get_batch_loss_metrics(own, model, batch)
    logs = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0].numpy()
    given = {CHOSEN: logs[:ROWS], REJECTED: logs[ROWS:]}
    return loss.item(), given | {"chosen_lengths": lengths, "rejected_lengths": lengths}


LENGTHS = np.array([1, 7, 3, 5, 2])


def _mean_of_tokens(given: dict[str, Array]) -> float:
    """The likelihood of the chosen answers, as TRL takes it."""
    counts = np.arange(LENGTH) < given["chosen_lengths"][:, None]
    return float(-given[CHOSEN][counts].mean())


def test_the_likelihood_of_orpo_is_a_mean_of_the_batchs_tokens_in_trl_and_of_a_pairs_here(
    engine: Engine,
) -> None:
    value, given = by_trainer_without_reference("orpo", LENGTHS, 5)
    loss = run(engine, presets.orpo(), given).loss or 0
    counts = np.arange(LENGTH) < LENGTHS[:, None]
    of_pairs = float(-((given[CHOSEN] * counts).sum(axis=1) / LENGTHS).mean())

    assert value - _mean_of_tokens(given) == pytest.approx(loss - of_pairs, rel=1e-6)
    assert abs(value - loss) > 1e-2
    same, given = by_trainer_without_reference("orpo", np.full(ROWS, 4), 6)
    assert same == pytest.approx(run(engine, presets.orpo(), given).loss, rel=1e-6)


def test_the_likelihood_of_cpo_is_a_mean_of_the_batchs_tokens_in_trl_and_a_sum_of_a_pairs_here(
    engine: Engine,
) -> None:
    value, given = by_trainer_without_reference("cpo", LENGTHS, 7)
    loss, without = (
        run(engine, presets.cpo(beta=0.1, likelihood_weight=weight), given).loss or 0
        for weight in (1, 0)
    )
    counts = np.arange(LENGTH) < LENGTHS[:, None]

    assert value == pytest.approx(without + _mean_of_tokens(given), rel=1e-6)
    assert loss == pytest.approx(without - (given[CHOSEN] * counts).sum(axis=1).mean(), rel=1e-6)
    assert abs(value - loss) > 1e-2


# ------------------------------------------------------------------ answers by themselves


def by_kto_trainer(given: dict[str, Array], **settings: Any) -> tuple[float, Array]:
    trainers = pytest.importorskip("trl.trainer.kto_trainer", reason="TRL is not installed")
    mask = torch.tensor(np.arange(LENGTH) < given["lengths"][:, None])
    leaf = torch.tensor(given["log_probabilities"], requires_grad=True)
    logs = leaf * mask
    nothing = torch.zeros_like(logs)
    outputs = SimpleNamespace(log_probs=logs, entropy=nothing, mean_logits=nothing)
    own = {
        "model": SimpleNamespace(training=True),
        "accelerator": SimpleNamespace(
            device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x
        ),
        "_compute_kl_logps": lambda *_: torch.tensor(given["mismatched_log_probabilities"]),
        "aux_loss_enabled": False,
        "precompute_ref_logps": True,
        "calculate_KL": True,
        "loss_type": "kto",
        "beta": 0.1,
        "desirable_weight": 1.0,
        "undesirable_weight": 1.0,
        "_metrics": {"train": defaultdict(list)},
        "_total_train_tokens": 0,
        "_tp_size": 1,
    }
    first = torch.zeros((len(mask), 1), dtype=torch.bool)
    whole = torch.cat([first, mask], dim=1).long()
    references = (torch.tensor(given["reference_log_probabilities"]) * mask).sum(dim=1)
    inputs = {
        "input_ids": whole,
        "attention_mask": torch.ones_like(whole),
        "completion_mask": whole,
        "label": torch.tensor(given["desirable"]).bool(),
        "ref_logps": references,
        "ref_KL_logps": torch.tensor(given["mismatched_reference_log_probabilities"]),
    }
    trainer = SimpleNamespace(**{**own, **settings})
    loss = trainers.KTOTrainer._compute_loss(
        trainer, lambda **_: outputs, inputs, return_outputs=False
    )
    loss.backward()
    assert leaf.grad is not None
    return loss.item(), leaf.grad.numpy()


def answers(seed: int, ahead: float) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    now = -rng.exponential(1, (ROWS, LENGTH))
    sums = -rng.exponential(5, ROWS)
    return {
        "log_probabilities": now,
        "reference_log_probabilities": now + rng.normal(0, 0.5, now.shape),
        "lengths": rng.integers(1, LENGTH + 1, ROWS),
        "desirable": np.arange(ROWS) % 2,
        "mismatched_log_probabilities": sums,
        "mismatched_reference_log_probabilities": sums - ahead,
    }


@pytest.mark.parametrize("ahead", [2.0, -2.0])  # the baseline is not below 0
def test_kahneman_tversky_optimization_is_trls(engine: Engine, ahead: float) -> None:
    given = answers(6, ahead)
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.5}
    value, derivative = by_kto_trainer(given, **weights)
    found = run(engine, presets.kto(**weights), given)
    assert found.loss == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(
        found.gradients["log_probabilities"], derivative, rtol=1e-9, atol=1e-15
    )


def test_trls_unpaired_apo_zero_is_kto_without_a_baseline(engine: Engine) -> None:
    given = answers(7, 2.0)
    value, derivative = by_kto_trainer(given, loss_type="apo_zero_unpaired")
    left = {name: array for name, array in given.items() if not name.startswith("mismatched")}
    message = presets.kto()
    message.baseline = 0.0
    found = run(engine, message, left)
    assert found.loss == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(
        found.gradients["log_probabilities"], derivative, rtol=1e-9, atol=1e-15
    )


@pytest.mark.parametrize("centering", [None, 0.01])
def test_the_loss_of_rewards_is_trls(engine: Engine, centering: float | None) -> None:
    trainers = pytest.importorskip("trl.trainer.reward_trainer", reason="TRL is not installed")
    rng = np.random.default_rng(8)
    rewards = torch.tensor(rng.normal(0, 2, (2 * ROWS, 1)), requires_grad=True)
    margins = rng.exponential(1, ROWS)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=False),
        args=SimpleNamespace(center_rewards_coefficient=centering),
        accelerator=SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x),
        _total_train_tokens=0,
        _metrics={"eval": defaultdict(list)},
    )
    loss = trainers.RewardTrainer.compute_loss(
        trainer,
        lambda **_: SimpleNamespace(logits=rewards),
        {"margin": torch.tensor(margins)},
    )
    loss.backward()
    chosen, rejected = rewards.detach().numpy().reshape(2, ROWS)
    found = run(
        engine,
        v1.BradleyTerry(centering=centering),
        {"chosen_rewards": chosen, "rejected_rewards": rejected, "margins": margins},
    )
    assert found.loss == pytest.approx(loss.item(), rel=1e-12)
    assert rewards.grad is not None
    derivatives = np.concatenate(
        [found.gradients[f"{side}_rewards"] for side in ("chosen", "rejected")]
    )
    np.testing.assert_allclose(derivatives, rewards.grad.numpy()[:, 0], rtol=1e-10)
