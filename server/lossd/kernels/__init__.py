"""CUDA kernels: the scalar text of a loss in the template of its shape.

``find_text`` picks the text of a request, ``kernel_source`` makes a kernel of it, and the kernel
says how to launch it.  Nothing here needs CuPy or a device.  ``pointwise.cuh``, ``rowwise.cuh``,
``alignments.hpp`` and ``tokens.hpp`` say what a text may use.

The kernels were compiled by NVRTC and executed on the CPU from their unmodified source; they have
never run on hardware.
"""

from lossd.kernels._launch import SHARED_BYTES, Argument, Kind, Launch, typed_arguments
from lossd.kernels._source import Kernel, find_text, is_stored, kernel_source

__all__ = [
    "SHARED_BYTES",
    "Argument",
    "Kernel",
    "Kind",
    "Launch",
    "find_text",
    "is_stored",
    "kernel_source",
    "typed_arguments",
]
