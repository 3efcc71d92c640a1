"""Losses under the names of papers and libraries, as messages: each function returns one.

The same name gives different gradients in different places, so a function names its source and
version, has its numbers as defaults, and takes others.  ``docs/presets.md`` is written from here.
A normalizer, where one is named, is the caller's to give to ``compute``: no number that a library
takes from the whole batch of all workers is guessed here.
"""

from lossd.client.presets._distillation import (
    distillation,
    gkd,
)
from lossd.client.presets._policies import (
    cispo,
    dapo,
    dapo_by_prompt,
    dppo,
    dr_grpo,
    dro,
    dual_clip_ppo,
    grpo,
    gspo,
    gspo_token,
    importance_sampling,
    luspo,
    ppo,
    reinforce,
    sapo,
)
from lossd.client.presets._preferences import (
    apo,
    bco,
    cpo,
    discopop,
    dpo,
    exo,
    ipo,
    kto,
    length_normalized_dpo,
    nca,
    orpo,
    robust_dpo,
    simpo,
    slic,
)

__all__ = [
    "apo",
    "bco",
    "cispo",
    "cpo",
    "dapo",
    "dapo_by_prompt",
    "discopop",
    "distillation",
    "dpo",
    "dppo",
    "dr_grpo",
    "dro",
    "dual_clip_ppo",
    "exo",
    "gkd",
    "grpo",
    "gspo",
    "gspo_token",
    "importance_sampling",
    "ipo",
    "kto",
    "length_normalized_dpo",
    "luspo",
    "nca",
    "orpo",
    "ppo",
    "reinforce",
    "robust_dpo",
    "sapo",
    "simpo",
    "slic",
]
