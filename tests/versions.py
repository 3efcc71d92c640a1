"""Versions of libraries: some tests are of what the oldest ones have not."""

from importlib.metadata import version

from packaging.version import Version


def is_older(library: str, than: str) -> bool:
    """Returns whether the library that is installed comes before a version."""
    return Version(version(library)) < Version(than)
