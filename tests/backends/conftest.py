"""Fixtures that tests of backends share."""

from typing import Any

import pytest


@pytest.fixture
def fake() -> Any:
    """The controls of gpulab's fake device."""
    found = pytest.importorskip("gpulab.fake", reason="needs gpulab's fake device")
    if not found.is_active():
        pytest.skip("needs gpulab's fake device")
    return found
