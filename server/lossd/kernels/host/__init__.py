"""Kernels for the CPU: the scalar text of a loss, compiled when lossd is installed.

The text is the one that CUDA runs; ``pointwise.hpp``, ``rowwise.hpp``, ``regionwise.hpp``,
``classwise.hpp``, ``vectorwise.hpp``, ``sequence.hpp`` and ``tokenwise.hpp`` are its templates
here.  ``counts.hpp`` is no template: it counts for the bodies of sets.  ``tokenwise.hpp`` adds
tokens up besides.
An expression of a text is computed for a block of elements in a loop whose rounds do not know of
each other, of which the compiler makes vectors; sums are taken in sixteen lanes.  So the bits of a
result depend on the row alone: not on the instruction set, the number of threads or the rows beside
it.
"""

from lossd.kernels.host._kernels import (
    HostKernel,
    KernelInput,
    KernelSummary,
    PreparedCall,
    PreparedInput,
    SoftCountsKernel,
)
from lossd.kernels.host._library import Library, NoLibraryError, are_for_here
from lossd.kernels.host._source import HostText, host_texts
from lossd.kernels.host._tokens import SAID, TokenInput, TokenKernel, TokenRows, TokenSums

__all__ = [
    "SAID",
    "HostKernel",
    "HostText",
    "KernelInput",
    "KernelSummary",
    "Library",
    "NoLibraryError",
    "PreparedCall",
    "PreparedInput",
    "SoftCountsKernel",
    "TokenInput",
    "TokenKernel",
    "TokenRows",
    "TokenSums",
    "are_for_here",
    "host_texts",
]
