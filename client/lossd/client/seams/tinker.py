"""Tinker: the loss of ``forward_backward_custom``, and the weights that stand for its gradient.

Tinker 0.38 runs the model, gives the log-probabilities of each datum to a function, and sends minus
the gradient that PyTorch finds as ``weights`` of its cross-entropy.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from lossd.client.arrays import Array, to_array
from lossd.client.reaching import client_of
from lossd.client.seams._flat import offsets_of, split
from lossd.client.seams._statistics import means_of
from lossd.client.sync import LossClient
from lossd.v1.losses import SingleLoss  # noqa: TC001 - a type hint that may be asked for

CustomLoss = Callable[[Sequence[Any], Sequence[Any]], tuple[Any, dict[str, float]]]

# The inputs of lossd by what the recipes of Tinker call them in a datum.
NAMES: Mapping[str, str] = MappingProxyType(
    {"sampling_log_probabilities": "logprobs", "advantages": "advantages", "token_mask": "mask"}
)


def custom_loss(
    client: str | LossClient,
    loss: "SingleLoss",
    *,
    names: Mapping[str, str] = NAMES,
    **options: Any,
) -> "CustomLoss":
    """Returns a loss function for ``forward_backward_custom``.

        loss_fn = custom_loss(client, presets.cispo("tinker"), reduction="sum")
        future = training_client.forward_backward_custom(data, loss_fn)

    Args:
        client: The client that computes, or the address for one.
        loss: A loss of one input ``log_probabilities``, for example of ``presets``.
        names: What each input of the loss is called among ``loss_fn_inputs``; those that a datum
            has not are left out.  An input has a number for each token, or one for each datum;
            advantages of tokens are refused where there are as many tokens as data, some of which
            have none.
        options: What else ``compute`` takes, as ``reduction`` and ``normalizer``.
    """
    remote = client_of(client, options.get("timeout"))

    def computed(data: Sequence[Any], log_probabilities: Sequence[Any]) -> tuple[Any, Any]:
        given = [_flat(one) for one in log_probabilities]
        offsets = offsets_of([len(one) for one in given])
        inputs: dict[str, Any] = {**_inputs(data, names, offsets), **options}
        result = remote.compute(
            loss,
            log_probabilities=np.concatenate([np.zeros(0, np.float32), *given]),
            offsets=offsets,
            **inputs,
        )
        if result.loss is None:
            raise ValueError("reduction must give one loss, got none")
        if "log_probabilities" not in result.gradients:
            raise ValueError("gradients must have log_probabilities among them, got none")
        gradients = split(result.gradients["log_probabilities"], offsets)
        return _attached(result.loss, log_probabilities, gradients), means_of(result)

    return computed


def weights(gradients: Array, offsets: Array) -> list[Array]:
    """Returns what Tinker's cross-entropy takes for each datum: minus the gradient."""
    return split(-np.asarray(gradients), offsets)


def _flat(tensor: Any) -> Array:
    """Returns the numbers of a tensor of any floating-point type, bfloat16 included."""
    return to_array("log_probabilities", tensor.detach().cpu()).reshape(-1)


def _inputs(data: Sequence[Any], names: Mapping[str, str], offsets: Array) -> dict[str, Any]:
    """Returns the inputs that all data have, one after the other.

    Raises:
        ValueError: for one that is not as long as its log-probabilities, or that some have not, and
            for advantages of tokens that could be those of data.
    """
    found: dict[str, Any] = {}
    for name, theirs in names.items():
        present = [one.loss_fn_inputs[theirs] for one in data if theirs in one.loss_fn_inputs]
        if not present:
            continue
        if len(present) != len(data):
            raise ValueError(f"{theirs} must be in all data or in none, got {len(present)}")
        arrays = [np.asarray(one.to_numpy()).reshape(-1) for one in present]
        flat = np.concatenate(arrays)
        if not _are_one_each(arrays):
            _check_lengths(theirs, arrays, np.diff(offsets))
            if name == "advantages":
                _check_whose(theirs, offsets)
        elif name == "advantages":
            flat = flat[:, None]  # so that they are taken for those of sequences
        found[name] = _flags(theirs, flat) if name == "token_mask" else flat
    return found


def _are_one_each(arrays: Sequence[Array]) -> bool:
    return all(len(array) == 1 for array in arrays)


def _check_lengths(theirs: str, arrays: Sequence[Array], lengths: Array) -> None:
    for array, wanted in zip(arrays, lengths, strict=True):
        if len(array) != wanted:
            raise ValueError(f"{theirs} must have {wanted} numbers, got {len(array)}")


def _check_whose(theirs: str, offsets: Array) -> None:
    """Refuses as many tokens as data, whose numbers would be taken for those of data.

    That is so only where a datum has none; left out it would be missing in means over data.
    """
    if offsets[-1] == len(offsets) - 1:
        raise ValueError(
            f"{theirs} must be one for each datum where some have no tokens and there are as many "
            f"tokens as data, got {offsets[-1]} of tokens: leave out the data without tokens"
        )


def _flags(theirs: str, flat: Array) -> Array:
    """Returns numbers that are 0 and 1 as booleans.

    Raises:
        ValueError: for another number, which would be no weight.
    """
    wrong = np.flatnonzero((flat != 0) & (flat != 1))
    if len(wrong):
        raise ValueError(f"{theirs} must be 0 or 1 for each token, got {flat[wrong[0]]:g}")
    return flat.astype(np.bool_)


def _attached(value: float, tensors: Sequence[Any], gradients: Sequence[Array]) -> Any:
    """Returns a tensor with the given value and gradients with respect to some tensors."""
    torch: Any = importlib.import_module("torch")
    autograd: Any = importlib.import_module("lossd.client.torch.autograd")

    class Known(torch.autograd.Function):  # type: ignore[misc]
        """A value and gradients that were computed elsewhere."""

        @staticmethod
        def forward(_ctx: Any, *_given: Any) -> Any:
            return torch.tensor(value, dtype=torch.float64)

        @staticmethod
        def backward(_ctx: Any, upstream: Any) -> Any:
            autograd.refuse_second_derivatives()
            derivatives = (
                torch.tensor(gradient.reshape(tuple(one.shape))).to(one)
                for one, gradient in zip(tensors, gradients, strict=True)
            )
            return tuple(derivative * upstream.to(derivative) for derivative in derivatives)

    return Known.apply(*tensors)
