"""Records of operations, such as ``make_fx`` makes: a call of a server cannot be in one."""

import torch
from torch.fx.experimental.proxy_tensor import get_innermost_proxy_mode

from lossd.client.errors import InvalidRequestError


def refuse_recording() -> None:
    """Raises InvalidRequestError where operations are recorded, of which a call is none.

    The loss of this batch would be a constant of the record.
    """
    if (
        get_innermost_proxy_mode() is not None
        or _is_recorded_before_dispatch()
        or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    ):
        raise InvalidRequestError(
            "loss must be computed outside of what is recorded (make_fx, torch.export, "
            "torch.func.linearize, torch.jit.trace), got a call within it"
        )


def _is_recorded_before_dispatch() -> bool:
    """Returns whether ``make_fx(pre_dispatch=True)`` records, which PyTorch 2.4 tells only here."""
    told = getattr(torch._ops, "_get_dispatch_mode_pre_dispatch", None)  # noqa: SLF001
    key = torch._C._TorchDispatchModeKey.PROXY  # noqa: SLF001
    return told is not None and told(key) is not None
