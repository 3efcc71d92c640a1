"""One forward pass of a remote loss, with the state for its backward pass."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import torch

from lossd.client import arguments, arrays
from lossd.client.errors import InvalidRequestError
from lossd.client.hints import EmptyPolicy, NonfinitePolicy, Reduction
from lossd.client.mapped import weighed
from lossd.client.result import LossResult
from lossd.client.sync import LossClient
from lossd.client.torch.autograd import Deferred, Differentiate, Scaled
from lossd.client.torch.kept import put_back, taken_out
from lossd.client.torch.learnable import with_numbers
from lossd.client.torch.recording import refuse_recording
from lossd.client.torch.tensors import first_tensor, read, tensors_in, to_array, to_input, to_tensor
from lossd.client.torch.translations import copied
from lossd.client.torch.workers import Divisors, Workers
from lossd.v1 import LossSpec
from lossd.v1.losses import Loss

# What may hold tensors, those first that may need a gradient.
_GIVEN = ("inputs", "parameters", "weights", "mask", "cotangent")
# What the server has no derivative with respect to.
_UNDIFFERENTIATED = ("weights", "mask", "cotangent", "normalizer")


class LossModule(Protocol):
    """The interface of a module for its forward pass."""

    last: LossResult[float | None] | None

    @property
    def client(self) -> LossClient:
        """The client that the module calls with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The attributes of a module when it was called, which may be others in the backward pass."""

    reduction: Reduction
    empty: EmptyPolicy
    nonfinite: NonfinitePolicy
    lint: bool
    gradient_scale: Any
    timeout: float | None

    @classmethod
    def of(cls, module: Any) -> "Settings":
        """Returns those of a module."""
        return cls(**{each.name: getattr(module, each.name) for each in fields(cls)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardPass:
    """The arguments of one call, whose ``value`` is attached to the graph of its inputs.

    ``parameters`` are the numbers of the loss that are trained.
    ``normalizer`` is the caller's; ``divisor`` is that of this batch without one and without a
    mask, where it is not the loss's to say.  ``workers`` are those that compute the whole batch;
    None for this one alone.  ``timeout`` is what the forward pass may still take of the module's.
    """

    module: LossModule
    settings: Settings
    loss: Loss | LossSpec
    inputs: Mapping[str, Any]  # tensors, lists of them, or anything else that NumPy can view
    parameters: Mapping[str, torch.Tensor]
    weights: Any
    mask: Any
    cotangent: Any
    normalizer: float | None
    divisor: float | None = None
    workers: Workers | None = None
    timeout: float | None = None

    def value(self) -> torch.Tensor:
        """Computes the loss.

        Raises:
            LossdError: as ``LossClient.compute``.
        """
        refuse_recording()
        self._refuse_differentiated()
        wanted = tuple(self._wanted()) if torch.is_grad_enabled() else ()
        if self.settings.reduction == "none":
            return self._deferred(wanted)
        compute = functools.partial(self._scalar, wanted)
        value: torch.Tensor = Scaled.apply(  # type: ignore[no-untyped-call]
            compute, *self._tensors()
        )
        return value

    def _deferred(self, wanted: tuple[str, ...]) -> torch.Tensor:
        """Returns the vector, whose gradients are those of what PyTorch keeps of this pass."""
        # By a function of PyTorch even if it keeps nothing, as that refuses to be transformed.
        differentiate, tensors = self._kept(wanted) if wanted else (None, self._tensors())
        value: torch.Tensor = Deferred.apply(  # type: ignore[no-untyped-call]
            self._vector, differentiate, *tensors
        )
        return value

    def _kept(self, wanted: tuple[str, ...]) -> tuple[Differentiate, list[torch.Tensor]]:
        """Returns what computes gradients in the backward pass, and the tensors to keep for it."""
        tensors: list[torch.Tensor] = []
        kept = replace(
            self,
            loss=copied(self.loss),
            timeout=self.settings.timeout,
            **{name: taken_out(getattr(self, name), tensors) for name in _GIVEN},
        )
        return functools.partial(_differentiated, kept, wanted), tensors

    def _refuse_differentiated(self) -> None:
        """Raises InvalidRequestError for what would need a gradient that the server has not."""
        if not torch.is_grad_enabled():
            return
        for name in _UNDIFFERENTIATED:
            if any(one.requires_grad for one in tensors_in(getattr(self, name))):
                raise arguments.undifferentiated(name, "detach()")

    def _tensors(self) -> list[torch.Tensor]:
        """Returns all tensors, those first that may need a gradient."""
        leaves = [leaf for leaves in self._leaves().values() for leaf in leaves]
        return leaves + [
            one for name in _UNDIFFERENTIATED for one in tensors_in(getattr(self, name))
        ]

    def _leaves(self) -> dict[str, list[torch.Tensor]]:
        """Returns the tensors that may need a gradient, by the name of their input or parameter."""
        found = {name: tensors_in(given) for name, given in self.inputs.items()}
        return found | {name: [parameter] for name, parameter in self.parameters.items()}

    def _wanted(self) -> Iterator[str]:
        for name, leaves in self._leaves().items():
            if any(leaf.requires_grad for leaf in leaves):
                yield name

    def _scalar(self, wanted: tuple[str, ...]) -> tuple[torch.Tensor, Any, float]:
        """Returns the loss, its gradients, and the factor that they still lack."""
        settings = self.settings
        scale = _scale(settings.gradient_scale) if wanted else 1.0
        is_alone = self.workers is None
        # What is divided only when all workers have been asked may be too large for float16.
        is_scaled = settings.gradient_scale is not None and is_alone
        compute = functools.partial(
            self._computed,
            wanted,
            cotangent=_times(self.cotangent, scale),
            # Rounding a gradient to float16 before it is scaled would leave mostly zeros.
            widened=() if is_scaled else wanted,
        )
        divisor = self.divisor if self.mask is None else self._kept_divisor()
        if self.workers is None:
            normalizer = divisor if self.normalizer is None else self.normalizer
            result, of_loss, factor = compute(self.loss, normalizer=normalizer), 1.0, 1.0
        else:
            divisors = Divisors(whole=self.normalizer, own=divisor)
            result, of_loss, factor = self.workers.computed(compute, self.loss, divisors)
        loss = self._as_tensor(np.asarray((result.loss or 0.0) * of_loss))
        return loss, self._in_order(result.gradients), factor / scale

    def _kept_divisor(self) -> float | None:
        """Returns the divisor of what the mask keeps; None where that is the loss's to say."""
        if self.divisor is None:
            return None
        mask = arrays.to_array("mask", read("mask", self.mask, _array))
        return self.divisor * np.count_nonzero(mask) / max(mask.size, 1) or None

    def _vector(self) -> torch.Tensor:
        """Returns the weighted loss of each example, as its gradients have the weights in them."""
        values = self._computed((), self.loss, normalizer=self.normalizer).per_example
        if values is None:
            raise InvalidRequestError(
                "reduction must be mean, batch_mean or sum for a loss without losses of single "
                "examples, got none",
                field="reduction",
            )
        self._check_cotangent(values.shape)
        weights = 1 if self.weights is None else np.asarray(_array(self.weights))
        return self._as_tensor(np.asarray(weighed(np.asarray(values), weights)))

    def _check_cotangent(self, examples: tuple[int, ...]) -> None:
        """Refuses a cotangent that the backward pass would spread over the examples, or fail at."""
        shape = () if self.cotangent is None else _as_doubles(self.cotangent).shape
        if shape not in ((), examples):
            raise InvalidRequestError(
                f"cotangent must have the shape {list(examples)} of the examples, "
                f"got {list(shape)}",
                field="cotangent",
            )

    def gradients_for(
        self, wanted: tuple[str, ...], upstream: torch.Tensor
    ) -> list[torch.Tensor | None]:
        """Returns the gradients for an upstream gradient of each example."""
        cotangent = _read_alone(upstream)
        if self.cotangent is not None:
            cotangent = cotangent * _as_doubles(self.cotangent)
        return self._in_order(self._computed(wanted, self.loss, cotangent=cotangent).gradients)

    def _computed(
        self,
        wanted: tuple[str, ...],
        loss: Any,
        *,
        cotangent: Any = None,
        normalizer: float | None = None,
        empty: EmptyPolicy | None = None,
        widened: tuple[str, ...] = (),
    ) -> LossResult[float | None]:
        module, settings = self.module, self.settings
        result: LossResult[float | None] = module.client.compute(
            with_numbers(loss, self.parameters),
            weights=read("weights", self.weights, _array),
            mask=read("mask", self.mask, _array),
            reduction=settings.reduction,
            gradients=wanted,
            per_example=True,
            cotangent=cotangent,
            normalizer=normalizer,
            empty=empty or settings.empty,
            nonfinite=settings.nonfinite,
            lint=settings.lint,
            timeout=self.timeout,
            **{
                name: read(name, given, functools.partial(self._given, widen=name in widened))
                for name, given in self.inputs.items()
            },
        )
        module.last = result
        return result

    def _given(self, given: Any, *, widen: bool) -> Any:
        """Returns an input as the client takes it; lints look at numbers, which takes the host."""
        if isinstance(given, list | tuple):
            return [self._given(one, widen=widen) for one in given]
        if not isinstance(given, torch.Tensor):
            return given
        dtype = torch.float32 if widen and given.dtype == torch.float16 else None
        return to_array(given, dtype) if self.settings.lint else to_input(given, dtype)

    def _in_order(self, gradients: Mapping[str, Any]) -> list[torch.Tensor | None]:
        """Returns a gradient for each leaf, None for those that nobody wants."""
        found: list[torch.Tensor | None] = []
        for name, leaves in self._leaves().items():
            given = gradients.get(name)
            arrays = given if isinstance(given, list | tuple) else [given] * len(leaves)
            found += [
                None if array is None else to_tensor(array, leaf.device)
                for array, leaf in zip(arrays, leaves, strict=True)
            ]
        return found

    def _as_tensor(self, values: Any) -> torch.Tensor:
        """Returns values in the type that the loss is computed in, beside the inputs."""
        tensors = [one for given in self.inputs.values() for one in tensors_in(given)]
        double = any(one.dtype == torch.float64 for one in tensors)
        dtype = torch.float64 if double else torch.float32
        return to_tensor(values, first_tensor(self.inputs.values()).device).to(dtype)


def _differentiated(
    kept: ForwardPass,
    wanted: tuple[str, ...],
    upstream: torch.Tensor,
    tensors: Sequence[torch.Tensor],
) -> list[torch.Tensor | None]:
    """Returns the gradients of a pass that is kept, with tensors where it had them."""
    given = {name: put_back(getattr(kept, name), tensors) for name in _GIVEN}
    return replace(kept, **given).gradients_for(wanted, upstream)


def _read_alone(upstream: torch.Tensor) -> Any:
    """Returns an upstream gradient as an array.

    Raises:
        RuntimeError: if it stands for several at once, which no call takes.
    """
    try:
        return to_array(upstream)
    except RuntimeError as error:
        raise RuntimeError(
            'upstream gradients of reduction="none" must come one at a time, as without '
            f"is_grads_batched, vectorize and vmap, got what cannot be read: {error}"
        ) from error


def _scale(given: Any) -> float:
    """Returns the number that a loss will be multiplied by before it is differentiated.

    Raises:
        InvalidRequestError: if it is no number, or one that cannot be divided by.
    """
    scale = given.get_scale() if hasattr(given, "get_scale") else given
    if isinstance(scale, torch.Tensor | np.ndarray) and math.prod(scale.shape) == 1:
        scale = scale.item()
    found = arguments.number("gradient_scale", scale)
    if found is None:
        return 1.0
    if found == 0 or not math.isfinite(found) or not math.isfinite(1 / found):
        raise InvalidRequestError(
            f"gradient_scale must be finite, as its inverse, got {found}", field="gradient_scale"
        )
    return found


def _times(cotangent: Any, scale: float) -> Any:
    if scale == 1:
        return read("cotangent", cotangent, _array)
    # In float64, as the product may be beyond float16.
    return scale if cotangent is None else _as_doubles(cotangent) * scale


def _as_doubles(cotangent: Any) -> Any:
    return arrays.to_array("cotangent", read("cotangent", cotangent, _array)).astype(np.float64)


def _array(given: Any) -> Any:
    return to_array(given) if isinstance(given, torch.Tensor) else given
