"""Keeps CuPy from computing otherwise than it was tested, whatever the environment says."""

from typing import Any

import numpy as np

# Read by cuBLAS: 0 forbids products in TF32 to whoever asks for them, 1 takes it for all.
TF32_VARIABLE = "NVIDIA_TF32_OVERRIDE"


def use_no_accelerators(cupy: Any) -> None:
    """Makes CuPy compute every reduction with its own kernels, whatever CUPY_ACCELERATORS says.

    CuPy hands sums and the like to CUB unless it is told not to.  CUB sums in another order, so a
    result would have other bits on a machine whose setting differs from where it was tested; and a
    kernel of CUB takes ten times as long to compile, before the server is ready.  The same code
    must compute everywhere, so this is set here and not by the environment.
    """
    cupy._core.set_reduction_accelerators([])  # noqa: SLF001 - the variable is read at import
    cupy._core.set_routine_accelerators([])  # noqa: SLF001


def use_no_tf32(cupy: Any) -> None:
    """Makes CuPy ask for products of float32 in float32, whatever CUPY_TF32 says.

    TF32 has 10 bits of a number's 23, so that products would have the digits of float16.
    """
    usual = cupy._core._routines_linalg.COMPUTE_TYPE_DEFAULT  # noqa: SLF001
    cupy._core.set_compute_type(np.float32, usual)  # noqa: SLF001 - or the variable is looked at
