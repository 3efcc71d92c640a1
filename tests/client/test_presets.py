"""Presets that are chosen by a word know it, or say which words they know."""

import inspect
import re
from typing import Any, Literal, get_args, get_origin

import pytest

from lossd.client import presets

# What a preset takes beside its word.
NEEDED: dict[str, dict[str, Any]] = {"cispo": {"high": 4.0}, "dppo": {"threshold": 0.1}}


def words() -> dict[tuple[str, str], tuple[str, ...]]:
    """Returns the words of each parameter of a preset that takes some."""
    return {
        (preset, name): get_args(parameter.annotation)
        for preset in presets.__all__
        for name, parameter in inspect.signature(getattr(presets, preset)).parameters.items()
        if get_origin(parameter.annotation) is Literal
    }


def made(preset: str, name: str, word: object) -> Any:
    return getattr(presets, preset)(**{name: word}, **NEEDED.get(preset, {}))


def test_presets_that_take_a_word_are_found() -> None:
    assert {preset for preset, _ in words()} == {"apo", "cispo", "dppo", "dro", "gkd", "ipo"}


@pytest.mark.parametrize(("preset", "name"), words())
def test_a_preset_knows_its_words_and_no_other(preset: str, name: str) -> None:
    known = words()[preset, name]
    for word in known:
        made(preset, name, word)
    rule = f"{name} must be one of {', '.join(known)}, got "
    for wrong in (known[0].upper(), "ms-swift", "", None, 1, ["paper"]):
        with pytest.raises(ValueError, match=re.escape(rule + repr(wrong))):
            made(preset, name, wrong)
