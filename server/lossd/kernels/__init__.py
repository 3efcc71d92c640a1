"""CUDA kernels: the scalar text of a loss in the template of its shape.

``find_text`` picks the text of a request, ``kernel_source`` makes a kernel of it, and the kernel
says how to launch it.  Nothing here needs CuPy or a device.  ``pointwise.cuh``, ``rowwise.cuh``,
``overlaps.hpp``, ``class_overlaps.hpp``, ``vectors.hpp``, ``alignments.hpp`` and ``tokens.hpp`` say
what a text may use.

The kernels are compiled by NVRTC and executed on the CPU from their unmodified source; what ran on
hardware is in docs/performance.md.
"""

from lossd.kernels._domains import Domain
from lossd.kernels._launch import (
    MOST_THREADS,
    SHARED_BYTES,
    Argument,
    Kind,
    Launch,
    typed_arguments,
)
from lossd.kernels._source import (
    NONFINITE,
    OUTSIDE,
    Kernel,
    argument_of,
    checks_domains,
    find_text,
    has_plain_logits,
    is_stored,
    kernel_source,
    number_of,
)
from lossd.kernels._templates import gradients_of, kept_bytes, takes_long

__all__ = [
    "MOST_THREADS",
    "NONFINITE",
    "OUTSIDE",
    "SHARED_BYTES",
    "Argument",
    "Domain",
    "Kernel",
    "Kind",
    "Launch",
    "argument_of",
    "checks_domains",
    "find_text",
    "gradients_of",
    "has_plain_logits",
    "is_stored",
    "kept_bytes",
    "kernel_source",
    "number_of",
    "takes_long",
    "typed_arguments",
]
