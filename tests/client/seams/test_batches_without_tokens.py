"""The same numbers are logged of every micro-batch, also of one of which no token counts.

Libraries reduce them name by name over micro-batches and processes: a name that one of them has not
is an error there, or the process mixes it up with another.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lossd import v1
from lossd.client import LossClient, presets

torch = pytest.importorskip("torch")

ROWS, LENGTH = 2, 3


def asked() -> v1.PolicyGradient:
    message = presets.ppo()
    message.outputs.extend(
        [v1.POLICY_GRADIENT_OUTPUT_CLIP_FRACTION, v1.POLICY_GRADIENT_OUTPUT_SAMPLING_KL]
    )
    return message


def of_verl(client: LossClient, now: Any, then: Any, mask: Any) -> Any:
    seam = pytest.importorskip("lossd.client.seams.verl")
    config = SimpleNamespace(global_batch_info={})
    ones = torch.ones_like(now)
    return seam.policy_loss(client, asked())(then, now, ones, mask, "token-mean", config)


def of_skyrl(client: LossClient, now: Any, then: Any, mask: Any) -> Any:
    seam = pytest.importorskip("lossd.client.seams.skyrl")
    ones = torch.ones_like(now)
    return seam.policy_loss(client, asked())(now, then, ones, loss_mask=mask)


def of_tinker(client: LossClient, now: Any, then: Any, mask: Any) -> Any:
    seam = pytest.importorskip("lossd.client.seams.tinker")
    of_datum = {"logprobs": then, "mask": mask.float(), "advantages": torch.ones_like(now)}

    def numbers(array: Any) -> Any:
        return SimpleNamespace(to_numpy=array.numpy)

    data = [
        SimpleNamespace(loss_fn_inputs={name: numbers(of[row]) for name, of in of_datum.items()})
        for row in range(len(now))
    ]
    message = asked()
    message.outputs.append(v1.POLICY_GRADIENT_OUTPUT_TOKEN_COUNT)
    return seam.custom_loss(client, message, reduction="sum")(data, list(now))


@pytest.mark.parametrize("compute", [of_verl, of_skyrl, of_tinker])
def test_a_batch_without_tokens_has_the_names_of_all_and_the_number_0(
    client: LossClient, compute: Callable[..., Any]
) -> None:
    then = -np.random.default_rng(1).exponential(1, (ROWS, LENGTH))
    now = torch.tensor(then + 0.5)
    found = [
        compute(client, now, torch.tensor(then), torch.full((ROWS, LENGTH), is_kept))
        for is_kept in (True, False)
    ]
    (_, numbers), (loss, none) = found
    assert len(numbers) == 2
    assert all(numbers.values())
    assert loss.item() == 0
    assert none == dict.fromkeys(numbers, 0.0)
