"""The step between a remote loss and PyTorch's automatic differentiation."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch

Gradients = Sequence[torch.Tensor | None]
Differentiate = Callable[[torch.Tensor, Sequence[torch.Tensor]], Gradients]
Computed = tuple[torch.Tensor, Gradients, float]


class Scaled(torch.autograd.Function):
    """A value whose gradients were computed with it, and are scaled in the backward pass.

    ``compute`` returns the value, gradients with respect to the first of the tensors that it reads
    (None for those that nobody wants; the other tensors have none), and the factor that they still
    lack.
    """

    @staticmethod
    def forward(ctx: Any, compute: Callable[[], Computed], *tensors: torch.Tensor) -> torch.Tensor:
        """Computes the value and keeps the gradients."""
        value, gradients, factor = compute()
        ctx.factor = factor
        ctx.kept = [gradient is not None for gradient in gradients]
        ctx.count = len(tensors)
        ctx.save_for_backward(*(gradient for gradient in gradients if gradient is not None))
        return value

    @staticmethod
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: torch.Tensor) -> Any:
        """Multiplies the gradients."""
        refuse_second_derivatives()
        saved = iter(ctx.saved_tensors)
        factor = _factor(upstream) * ctx.factor
        found = [_times(next(saved), factor) if kept else None for kept in ctx.kept]
        return None, *found, *[None] * (ctx.count - len(found))


class Deferred(torch.autograd.Function):
    """Values whose gradients are computed when their upstream gradient is known.

    ``compute`` returns the values, ``differentiate`` the gradients for an upstream gradient, with
    respect to the first of the tensors that both read; the others have none.  It gets the tensors
    as they were kept, and has to read those: hooks may have changed the others since.  It is None
    where nobody wants gradients, for which nothing is kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        compute: Callable[[], torch.Tensor],
        differentiate: Differentiate | None,
        *tensors: torch.Tensor,
    ) -> torch.Tensor:
        """Computes the values, and keeps what the gradients will be computed from."""
        if differentiate is not None:
            ctx.differentiate = differentiate
            ctx.count = len(tensors)
            ctx.save_for_backward(*tensors)
        return compute()

    @staticmethod
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: torch.Tensor) -> Any:
        """Computes the gradients."""
        refuse_second_derivatives()
        kept = ctx.saved_tensors  # which raises if one of them was written to since
        gradients = list(ctx.differentiate(upstream, kept))
        return None, None, *gradients, *[None] * (ctx.count - len(gradients))


def refuse_second_derivatives() -> None:
    """Raises RuntimeError where the gradient itself is to be differentiated.

    Only then does PyTorch record the operations of a backward pass.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the gradient of a loss of lossd must not be differentiated again (create_graph=True): "
            "the server computes first derivatives only"
        )


def _factor(upstream: torch.Tensor) -> float | torch.Tensor:
    """Returns an upstream gradient, as a number where it can be read without a wait."""
    if not upstream.is_cuda:
        with contextlib.suppress(RuntimeError):  # several at once (is_grads_batched) are no number
            return float(upstream)
    return upstream


def _times(gradient: torch.Tensor, factor: float | torch.Tensor) -> torch.Tensor:
    if isinstance(factor, float) and factor == 1:
        return gradient  # the usual case: saves a pass over the memory
    return gradient * factor
