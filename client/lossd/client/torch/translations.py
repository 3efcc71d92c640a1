"""Translates PyTorch's losses to those of lossd.

A translation gives the same values and gradients; where lossd's definition differs in a way that
its parameters cannot express, there is none.  Known differences that remain: a batch of which every
target is ignored is 0 for lossd and NaN for PyTorch, and lossd refuses labels and probabilities out
of range where PyTorch computes on.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from google.protobuf.message import Message
from torch import nn

from lossd import forms, v1
from lossd.client import arguments
from lossd.client.errors import InvalidRequestError
from lossd.client.hints import Reduction
from lossd.client.torch.element_weights import ElementWeights
from lossd.client.torch.tensors import as_tensor
from lossd.v1.losses import Loss

Inputs = tuple[torch.Tensor, ...]


class PreparedInputs(NamedTuple):
    """The loss and the inputs of one call, as lossd takes them.

    Attributes:
        loss: The loss.
        inputs: Its inputs, in order.
        divisor: What the batch is divided by if all of it is kept; None for what the loss would
            divide by.
        is_single: Whether there is one example that had no axis of its own, nor has its loss.
        weights: Those that the module has of its own; None for none.
    """

    loss: Loss
    inputs: Inputs
    divisor: float | None = None
    is_single: bool = False
    weights: ElementWeights | None = None


Prepare = Callable[[Loss, Inputs], PreparedInputs]

_REDUCTIONS: Mapping[str, Reduction] = {
    "mean": "mean",
    "sum": "sum",
    "none": "none",
    "batchmean": "batch_mean",
}


def _as_given(loss: Loss, inputs: Inputs) -> PreparedInputs:
    return PreparedInputs(loss, inputs)


@dataclass(frozen=True, slots=True)
class Translation:
    """A loss, its reduction, and how the inputs of each call are prepared.

    ``prepare`` takes the loss and the inputs of a call.  ``names`` are those of the inputs of
    PyTorch's module.
    """

    loss: Loss
    reduction: Reduction
    prepare: Prepare = _as_given
    names: tuple[str, ...] = ()

    def in_order(
        self, ours: Sequence[str], inputs: tuple[Any, ...], named: Mapping[str, Any]
    ) -> Inputs:
        """Returns all inputs by position, whether PyTorch's names or lossd's were used.

        Raises:
            InvalidRequestError: for inputs that are missing, unknown, given twice or no tensors.
        """
        theirs = dict(zip(ours, self.names, strict=False))
        found = arguments.bind(self.names, inputs, {})
        for name, value in named.items():
            own = theirs.get(name, name)
            if own in found or own not in self.names:
                rule = "given once" if own in found else f"one of {', '.join(self.names)}"
                raise InvalidRequestError(
                    f"inputs must each be {rule}, got {name[:64]!r}", field="inputs"
                )
            found[own] = value
        missing = [name for name in self.names if name not in found]
        if missing:
            raise InvalidRequestError(
                f"inputs must be {', '.join(self.names)}, got none named {missing[0]}",
                field="inputs",
            )
        return tuple(as_tensor(name, found[name]) for name in self.names)


def translated(module: nn.Module) -> Translation:
    """Returns lossd's counterpart of one of PyTorch's losses.

    Raises:
        InvalidRequestError: if there is none with the same values, or if a value is of no use.
    """
    translate = TRANSLATIONS.get(type(module))
    if translate is None:
        names = ", ".join(kind.__name__ for kind in TRANSLATIONS)
        kind = module if isinstance(module, type) else type(module)
        got = f"the class {kind.__name__}" if kind is module else kind.__name__
        raise _untranslatable(f"one of {names}", got)
    try:
        return replace(translate(module), names=_names(module))
    except forms.FormError as error:  # a message refuses values that a module accepts
        raise InvalidRequestError(str(error), field="module") from error


def _names(module: nn.Module) -> tuple[str, ...]:
    return tuple(inspect.signature(module.forward).parameters)


def _reduction(module: Any) -> Reduction:
    found = _REDUCTIONS.get(module.reduction)
    if found is None:
        raise _untranslatable(f"reduced by one of {', '.join(_REDUCTIONS)}", module.reduction)
    return found


def _cross_entropy(module: nn.CrossEntropyLoss) -> Translation:
    loss = v1.CrossEntropy(
        class_axis=1,
        class_weights=_numbers("weight", module.weight),
        ignore_index=module.ignore_index,
        label_smoothing=module.label_smoothing,
    )
    return Translation(loss, _reduction(module), _prepare_classes)


def _nll(module: nn.NLLLoss) -> Translation:
    loss = v1.CrossEntropy(
        prediction_kind=v1.DISTRIBUTION_KIND_LOG_PROBABILITIES,
        class_axis=1,
        class_weights=_numbers("weight", module.weight),
        ignore_index=module.ignore_index,
    )
    return Translation(loss, _reduction(module), _prepare_classes)


def _prepare_classes(loss: Loss, inputs: Inputs) -> PreparedInputs:
    """Ignores an index only where targets are indices, and takes a single axis for the classes."""
    predictions, targets = inputs
    found = copied(loss)
    if predictions.ndim == 1:
        found.class_axis = 0
    if targets.is_floating_point():
        found.ClearField("ignore_index")
    return PreparedInputs(found, inputs)


def _binary(kind: v1.DistributionKind, module: Any) -> Translation:
    weights = getattr(module, "pos_weight", None)
    if weights is not None and weights.ndim > 1:
        raise _untranslatable("without a pos_weight of several axes", f"{list(weights.shape)}")
    positive = None if weights is None else weights.reshape(-1)  # a single number is one for all
    loss = v1.BinaryCrossEntropy(
        prediction_kind=kind, positive_weights=_numbers("pos_weight", positive)
    )
    found = _by_element(module, loss)
    # PyTorch divides by the number of elements, whatever their weights are.
    is_mean = found.reduction == "mean"
    reduction = "batch_mean" if is_mean else found.reduction
    if module.weight is None:
        return replace(found, reduction=reduction)
    weight = _constant("weight", module.weight).clone()
    return Translation(loss, reduction, functools.partial(_weighed, weight, is_mean))


def _weighed(weight: torch.Tensor, is_by_row: bool, loss: Loss, inputs: Inputs) -> PreparedInputs:  # noqa: FBT001 - bound
    """Makes every element an example that has a weight."""
    shape = inputs[0].shape
    try:
        values = weight.broadcast_to(shape)
    except RuntimeError as error:
        raise InvalidRequestError(
            f"weight must have a shape that is broadcast to {list(shape)} of the inputs, "
            f"got {list(weight.shape)}",
            field="module",
        ) from error
    return _each_element(loss, inputs)._replace(weights=ElementWeights(values, is_by_row))


def _by_element(module: Any, loss: Loss) -> Translation:
    """Translates a loss that PyTorch reduces over elements, and lossd over examples."""
    reduction = _reduction(module)
    return Translation(loss, reduction, _all_elements if reduction == "mean" else _each_element)


def _all_elements(loss: Loss, inputs: Inputs) -> PreparedInputs:
    """Leaves the elements to the mean over examples; a single number has no axis of examples."""
    return PreparedInputs(loss, inputs) if inputs[0].ndim else _each_element(loss, inputs)


def _each_element(loss: Loss, inputs: Inputs) -> PreparedInputs:
    """Makes every element an example."""
    found = copied(loss)
    found.batch_dims = inputs[0].ndim
    return PreparedInputs(found, inputs)


def _smooth_l1(module: nn.SmoothL1Loss) -> Translation:
    loss = v1.SmoothL1(beta=module.beta) if module.beta else v1.AbsoluteError()
    return _by_element(module, loss)


def _kl_divergence(module: nn.KLDivLoss) -> Translation:
    kinds = (v1.DISTRIBUTION_KIND_PROBABILITIES, v1.DISTRIBUTION_KIND_LOG_PROBABILITIES)
    loss = v1.KlDivergence(prediction_kind=kinds[1], target_kind=kinds[bool(module.log_target)])
    if module.reduction not in ("batchmean", "mean", "sum"):
        raise _untranslatable("reduced by one of batchmean, mean, sum", module.reduction)
    reduction: Reduction = "sum" if module.reduction == "sum" else "batch_mean"
    return Translation(loss, reduction, functools.partial(_divide, module.reduction))


def _divide(reduction: str, loss: Loss, inputs: Inputs) -> PreparedInputs:
    """Divides by what PyTorch divides by: the first axis, or all elements, if there are any."""
    inputs = _with_an_axis(inputs)
    is_of_loss = reduction == "sum" or (reduction == "batchmean" and inputs[0].ndim == 2)
    size = inputs[0].numel() if reduction == "mean" else len(inputs[0])
    return PreparedInputs(loss, inputs, None if is_of_loss else size or None)


def _with_an_axis(inputs: Inputs) -> Inputs:
    """Makes vectors of single numbers, whose loss is the same."""
    return inputs if inputs[0].ndim else tuple(each.unsqueeze(0) for each in inputs)


def _triplets(module: nn.TripletMarginLoss) -> Translation:
    loss = v1.Triplet(margin=module.margin, p=module.p, eps=module.eps, swap=module.swap)
    return Translation(loss, _reduction(module), _prepare_vectors)


def _prepare_vectors(loss: Loss, inputs: Inputs) -> PreparedInputs:
    return PreparedInputs(loss, _with_an_axis(inputs))


def _poisson(module: nn.PoissonNLLLoss) -> Translation:
    if not module.log_input and module.eps:
        raise _untranslatable("with log_input, or eps=0", f"eps={module.eps:g} on rates")
    return _by_element(module, v1.PoissonNll(log_input=module.log_input, full=module.full))


def _ctc(module: nn.CTCLoss) -> Translation:
    loss = v1.Ctc(
        prediction_kind=v1.DISTRIBUTION_KIND_LOG_PROBABILITIES,
        blank=module.blank,
        zero_infinity=module.zero_infinity,
    )
    return Translation(loss, _reduction(module), _prepare_sequences)


def _prepare_sequences(loss: Loss, inputs: Inputs) -> PreparedInputs:
    """Moves frames after examples, of which there is one if there is no axis of them."""
    predictions, targets, *lengths = inputs
    is_single = predictions.ndim == 2
    if is_single:
        predictions = predictions.unsqueeze(1)
        lengths = [each.reshape(-1) for each in lengths]
    if targets.ndim == 1:
        targets = _padded(targets, lengths[1])
    return PreparedInputs(
        loss, (predictions.transpose(0, 1), targets, *lengths), is_single=is_single
    )


def _padded(targets: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Returns rows of concatenated targets, padded to one length.

    Raises:
        InvalidRequestError: for lengths that are not those of rows of the targets.
    """
    sizes: list[int] = lengths.reshape(-1).tolist()
    are_sizes = not lengths.is_floating_point() and all(size >= 0 for size in sizes)
    if not are_sizes or sum(sizes) != len(targets):
        raise InvalidRequestError(
            f"target_lengths must be integers from 0 that add up to the {len(targets)} "
            f"concatenated targets, got {sizes[:8]}",
            field="target_lengths",
        )
    return nn.utils.rnn.pad_sequence(list(torch.split(targets, sizes)), batch_first=True)


def copied(loss: Message) -> Any:
    """Returns a loss that stays what it is when the other changes."""
    found = type(loss)()
    found.CopyFrom(loss)
    return found


def _numbers(name: str, tensor: torch.Tensor | None) -> list[float] | None:
    found: list[float] | None = None if tensor is None else _constant(name, tensor).tolist()
    return found


def _constant(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Returns a tensor of a module, which the loss cannot be differentiated with respect to."""
    if tensor.requires_grad:
        raise arguments.undifferentiated(name, "detach()")
    return tensor


def _untranslatable(rule: str, got: str) -> InvalidRequestError:
    return InvalidRequestError(f"module must be {rule}, got {got}", field="module")


TRANSLATIONS: Mapping[type[nn.Module], Callable[[Any], Translation]] = MappingProxyType(
    {
        nn.CrossEntropyLoss: _cross_entropy,
        nn.NLLLoss: _nll,
        nn.BCEWithLogitsLoss: functools.partial(_binary, v1.DISTRIBUTION_KIND_LOGITS),
        nn.BCELoss: functools.partial(_binary, v1.DISTRIBUTION_KIND_PROBABILITIES),
        nn.MSELoss: lambda module: _by_element(module, v1.SquaredError()),
        nn.L1Loss: lambda module: _by_element(module, v1.AbsoluteError()),
        nn.SmoothL1Loss: _smooth_l1,
        nn.HuberLoss: lambda module: _by_element(module, v1.Huber(delta=module.delta)),
        nn.KLDivLoss: _kl_divergence,
        nn.PoissonNLLLoss: _poisson,
        nn.GaussianNLLLoss: lambda module: _by_element(
            module, v1.GaussianNll(full=module.full, eps=module.eps)
        ),
        nn.TripletMarginLoss: _triplets,
        nn.CosineEmbeddingLoss: lambda module: Translation(
            v1.CosineEmbedding(margin=module.margin), _reduction(module)
        ),
        nn.CTCLoss: _ctc,
    }
)
