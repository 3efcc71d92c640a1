"""Signatures in ``help()`` can be read: they name types, and not all that these stand for."""

import contextlib
import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

FRAMEWORKS = {"torch": "torch", "jax": "jax", "seams.trl": "torch", "seams.verl": "torch"}
SUBJECTS = ("boosting", "presets", "seams.tinker", *FRAMEWORKS)
MODULES = ("lossd.client", "lossd.v1", *(f"lossd.client.{name}" for name in SUBJECTS))


def shown(module: Any) -> Iterator[tuple[str, inspect.Signature]]:
    """Yields the signatures of the public functions and methods of a module, as lossd has them."""
    for name in getattr(module, "__all__", vars(module)):
        value = getattr(module, name)
        parts = {name: value}
        if isinstance(value, type):
            parts |= {f"{name}.{key}": part for key, part in vars(value).items()}
        for called, part in parts.items():
            is_ours = str(getattr(part, "__module__", "")).startswith("lossd.")
            if callable(part) and is_ours and not called.startswith("_"):
                with contextlib.suppress(ValueError):  # some of Python's own kinds tell none
                    yield called, inspect.signature(part)


@pytest.mark.parametrize("name", MODULES)
def test_signatures_can_be_read(name: str) -> None:
    needed = FRAMEWORKS.get(name.removeprefix("lossd.client."))
    if needed:
        pytest.importorskip(needed)
    signatures = dict(shown(importlib.import_module(name)))

    assert signatures
    parameters = [
        f"{one.name}: {one.annotation}"
        for found in signatures.values()
        for one in found.parameters.values()
    ]
    assert [one for one in parameters if len(one) > 100] == []
    lines = {called: str(found) for called, found in signatures.items()}
    rooms = {called: max(300, 50 * len(found.parameters)) for called, found in signatures.items()}
    assert {called: line for called, line in lines.items() if len(line) > rooms[called]} == {}
