"""The compiled kernels, for each instruction set that this machine has."""

import shutil

import pytest

from lossd.kernels.host import Library


@pytest.fixture(scope="session")
def library() -> Library:
    """The kernels that were built when this environment was made, which are those of the texts."""
    if shutil.which("c++") is None:
        pytest.skip("there is no C++ compiler")
    return Library()


@pytest.fixture(scope="session")
def variants(library: Library) -> list[Library]:
    """The same for each instruction set that this machine has."""
    return [Library(variant=variant) for variant in library.variants]
