"""Keeps CuPy from handing its operations to other libraries."""

from typing import Any


def use_no_accelerators(cupy: Any) -> None:
    """Makes CuPy compute every reduction with its own kernels, whatever CUPY_ACCELERATORS says.

    CuPy hands sums and the like to CUB unless it is told not to.  CUB sums in another order, so a
    result would have other bits on a machine whose setting differs from where it was tested; and a
    kernel of CUB takes ten times as long to compile, before the server is ready.  The same code
    must compute everywhere, so this is set here and not by the environment.
    """
    cupy._core.set_reduction_accelerators([])  # noqa: SLF001 - the variable is read at import
    cupy._core.set_routine_accelerators([])  # noqa: SLF001
