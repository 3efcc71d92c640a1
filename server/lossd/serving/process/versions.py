"""Versions of lossd's libraries, for the build metric, ``GetServerInfo`` and ``lossd doctor``."""

import importlib.metadata
import platform

# The name of a library here, and the distributions that contain it.
_DISTRIBUTIONS = {
    "lossd": ("lossd",),
    "grpc": ("grpcio",),
    "protobuf": ("protobuf",),
    "numpy": ("numpy",),
    "cupy": ("cupy-cuda13x", "cupy-cuda12x", "cupy"),
}


def versions() -> dict[str, str]:
    """Returns the versions of Python and each library, "" for one that is not installed."""
    found = {name: _installed(candidates) for name, candidates in _DISTRIBUTIONS.items()}
    return {"python": platform.python_version(), **found}


def _installed(candidates: tuple[str, ...]) -> str:
    for name in candidates:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""
