"""The library of compiled kernels: where it is, and whether it can be used here.

It is opened with ctypes, which lets other threads run while a kernel does.
"""

import ctypes
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lossd.kernels._launch import Kind
from lossd.kernels._templates import CLASSWISE
from lossd.kernels.host._calls import MOST_INPUTS
from lossd.kernels.host._kernels import HostKernel, SoftCountsKernel
from lossd.kernels.host._source import TYPES, HostText, digest, signature
from lossd.kernels.host._tokens import TokenSums

LIBRARY = Path(__file__).parent / "_compiled" / "lossd_host.so"

# The options of the compiler for each instruction set of a machine, from the plainest on.
VARIANTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "x86_64": {
        "v2": ("-march=x86-64-v2",),
        "v3": ("-march=x86-64-v3",),
        "v4": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
    },
    "aarch64": {"v0": ()},
}


def are_for_here() -> bool:
    """Returns whether kernels can be compiled for this machine."""
    return sys.platform.startswith("linux") and platform.machine() in VARIANTS


class NoLibraryError(Exception):
    """There are no compiled kernels, and why."""


class Library:
    """The compiled kernels, for one of the instruction sets that this machine has.

    Raises:
        NoLibraryError: if there are none, if they were compiled from other texts, or if the
            machine has not the instructions.
    """

    def __init__(self, path: Path = LIBRARY, variant: str | None = None) -> None:
        if not path.is_file():
            raise NoLibraryError(
                "there is no compiled library beside the package: python -m lossd.kernels.host"
            )
        try:
            self._handle = ctypes.CDLL(str(path))
            self._call_prepared = _call_prepared(path)
            self._handle.lossd_host_digest.restype = ctypes.c_char_p
            compiled = self._handle.lossd_host_digest().decode()
        except (OSError, AttributeError) as error:
            raise NoLibraryError(f"{path} cannot be opened: {error}") from error
        if compiled != digest():
            raise NoLibraryError(
                "they were compiled from other texts: python -m lossd.kernels.host"
            )
        self.variants = _usable_variants(self._handle.lossd_host_level())
        if variant is None and not self.variants:
            raise NoLibraryError("the processor is older than x86-64-v2")
        self.variant = variant or self.variants[-1]

    @property
    def instructions(self) -> str:
        """The instruction set that the kernels are of, in words."""
        machine = platform.machine()
        return machine if self.variant == "v0" else f"{machine}-{self.variant}".replace("_", "-")

    def kernel(self, text: HostText, dtype: np.dtype[Any]) -> HostKernel:
        """Returns the kernel of a text, for float32 or float64."""
        type_name = _type_name(dtype)
        entry = self._entry(text.name, dtype)
        arguments = signature(text, type_name)
        template = text.template
        return HostKernel(
            entry,
            dtype,
            tuple(a.name for a in arguments if a.kind is not Kind.ARRAY),
            tuple(a.name for a in arguments if a.kind is Kind.ARRAY),
            self._call_prepared,
            gives_statuses=template is not None and template.gives_statuses,
            checks_domains=template is not None and template.checks_on_host,
            turns=template is CLASSWISE,
            gradients=text.gradients,
        )

    def soft_counts(self, dtype: np.dtype[Any]) -> SoftCountsKernel:
        """Returns the kernel that counts over all examples, in float32 or float64."""
        return SoftCountsKernel(self._entry("count", dtype), self._entry("slope", dtype), dtype)

    def token_entry(self, text: HostText) -> tuple[Any, tuple[str, ...]]:
        """Returns the entry of a kernel of tokens, and its parameters."""
        names = tuple(a.name for a in signature(text, "double"))
        return self._entry(text.name, np.dtype(np.float64)), names

    def token_sums(self) -> TokenSums:
        """Returns the kernel that adds tokens up."""
        return TokenSums(self._entry("add_up", np.dtype(np.float64)))

    def _entry(self, name: str, dtype: np.dtype[Any]) -> Any:
        entry = getattr(self._handle, f"lossd_host_{self.variant}_{name}_{_type_name(dtype)}")
        entry.argtypes, entry.restype = (ctypes.c_void_p,), ctypes.c_bool
        return entry


def _type_name(dtype: np.dtype[Any]) -> str:
    return next(name for name, known in TYPES.items() if known == dtype)


def _call_prepared(path: Path) -> Any:
    """Returns the function that makes prepared calls.

    They take less time than another thread would to take the interpreter's lock and give it back,
    so it keeps the lock.
    """
    function = ctypes.PyDLL(str(path)).lossd_host_call_prepared
    function.argtypes = (ctypes.c_void_p,) * (MOST_INPUTS + 3)
    function.restype = ctypes.c_double
    return function


def _usable_variants(level: int) -> tuple[str, ...]:
    """Returns the instruction sets of this machine, from the plainest on."""
    known = VARIANTS.get(platform.machine(), {})
    return tuple(name for name in known if int(name[1:]) <= level)
