"""Distillation: TRL's generalized Jensen-Shannon divergence, whole and of top-K classes."""

from typing import Any

import numpy as np
import pytest

from lossd import v1
from lossd.client import presets
from lossd.engine import Engine
from tests.losses.case import Array
from tests.tokens import run

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.oracle
TOKENS = 4


def drawn(seed: int) -> tuple[Array, Array]:
    student, teacher = np.random.default_rng(seed).normal(0, 2, (2, 3, TOKENS, 6))
    return student, teacher


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_generalized_distillation_is_trls(engine: Engine, beta: float) -> None:
    """Its "batchmean" divides by the sequences and not by their tokens."""
    trainers = pytest.importorskip("trl.experimental.gkd.gkd_trainer", reason="no TRL")
    student, teacher = drawn(5)
    tensor = torch.tensor(student, requires_grad=True)
    loss = trainers.GKDTrainer.generalized_jsd_loss(tensor, torch.tensor(teacher), beta=beta)
    loss.backward()
    found = run(engine, presets.gkd("trl", beta=beta), {"predictions": student, "targets": teacher})
    assert (found.loss or 0) * TOKENS == pytest.approx(loss.item(), rel=1e-12)
    assert tensor.grad is not None
    np.testing.assert_allclose(
        found.gradients["predictions"] * TOKENS, tensor.grad.numpy(), rtol=1e-9, atol=1e-14
    )


def test_trls_distillation_jumps_at_the_ends_of_beta_and_the_interpolated_one_does_not(
    engine: Engine,
) -> None:
    given = dict(zip(("predictions", "targets"), drawn(6), strict=True))

    def of(dialect: Any, beta: float) -> float:
        return run(engine, presets.gkd(dialect, beta=beta), given).loss or 0.0

    for end, near in ((0.0, 1e-9), (1.0, 1 - 1e-9)):
        assert abs(of("trl", end) - of("trl", near)) > 0.1
        assert of("interpolated", end) == pytest.approx(of("interpolated", near), rel=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("has_tail", [True, False])
def test_distillation_of_the_students_top_classes_is_trls(
    engine: Engine, beta: float, *, has_tail: bool
) -> None:
    """With a tail it is TAIL_BUCKET; without one it is WHOLE, of what is given."""
    losses = pytest.importorskip("trl.experimental.sdft.loss_utils", reason="no TRL")
    student, teacher = drawn(7)
    tensor = torch.tensor(student, requires_grad=True)
    costs = losses.compute_topk_self_distillation_loss(
        tensor,
        torch.tensor(teacher),
        distillation_topk=3,
        distillation_alpha=beta,
        distillation_add_tail=has_tail,
    )
    logs = [x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (student, teacher)]
    top = np.argsort(-student, axis=-1)[..., :3]
    some = [np.take_along_axis(x, top, -1) for x in logs]
    message = presets.gkd("trl", beta=beta)
    message.support = (
        v1.DISTILLATION_SUPPORT_TAIL_BUCKET if has_tail else v1.DISTILLATION_SUPPORT_WHOLE
    )
    found = run(engine, message, {"predictions": some[0], "targets": some[1]})
    assert found.loss == pytest.approx(costs.mean().item(), rel=1e-9)
