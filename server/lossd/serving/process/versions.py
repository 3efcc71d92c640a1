"""Versions of what lossd runs on, for the build metric, ``GetServerInfo`` and ``lossd doctor``."""

import importlib.metadata
import platform

# What a library is called here, and the distributions that bring it.
_DISTRIBUTIONS = {
    "lossd": ("lossd",),
    "grpc": ("grpcio",),
    "protobuf": ("protobuf",),
    "numpy": ("numpy",),
    "cupy": ("cupy-cuda13x", "cupy-cuda12x", "cupy"),
}


def versions() -> dict[str, str]:
    """The version of each library, "" where it is not installed, and of Python."""
    found = {name: _installed(candidates) for name, candidates in _DISTRIBUTIONS.items()}
    return {"python": platform.python_version(), **found}


def _installed(candidates: tuple[str, ...]) -> str:
    for name in candidates:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""
