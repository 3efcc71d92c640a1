"""Turns arguments into requests: pure, shared by all clients; ``responses`` is the way back.

Nothing here does any input or output.
"""

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain
from types import NoneType
from typing import Any, cast

import numpy as np
from google.protobuf.message import Message

from lossd import tensors, v1
from lossd.client import arguments, cautions, kinds, lints
from lossd.client.arrays import Array, is_several, to_array
from lossd.client.device_arrays import OnDevice, fetched, is_on_device, on_device
from lossd.client.errors import InvalidRequestError
from lossd.client.headers import Encoded, Headers, Kind
from lossd.client.hints import EmptyPolicy, NonfinitePolicy, Reduction
from lossd.framing import WORTHWHILE_BYTES, Framed, Payloads

Locate = Callable[[Array], "v1.SharedMemory | v1.DeviceMemory | None"]
# Copies an array from a device to the host, or refuses it, by its name.
Bring = Callable[[str, OnDevice], Array]
Request = Framed[v1.ComputeLossRequest] | Encoded

# A protobuf message cannot be longer; the rest of a request is small.
MAX_BYTES = 2**31 - 2**20


def build_request(
    loss: object, inputs: Mapping[str, Any], **options: Any
) -> Framed[v1.ComputeLossRequest]:
    """Returns the request for one batch as a message; the arguments are those of ``request_for``.

    Raises:
        InvalidRequestError: as ``request_for``.
    """
    return cast("Framed[v1.ComputeLossRequest]", request_for(None, loss, inputs, **options))


def request_for(
    headers: Headers | None,
    loss: object,
    inputs: Mapping[str, Any],
    *,
    weights: Any = None,
    mask: Any = None,
    reduction: Reduction = "mean",
    gradients: Iterable[str] | v1.GradientSelection | None = None,
    per_example: bool = True,
    cotangent: Any = None,
    normalizer: float | None = None,
    empty: EmptyPolicy = "zero",
    nonfinite: NonfinitePolicy = "propagate",
    place: Locate = lambda _: None,
    bring: Bring = fetched,
    metrics: Sequence[v1.MetricSpec] = (),
    lint: bool = False,
    names: Collection[str] | None = None,
) -> Request:
    """Returns the request for one batch; the arguments are those of ``LossClient.compute``.

    ``names`` are those of the loss's inputs; None where the server has not been asked.
    ``place`` returns where an array lies in memory that is shared; other arrays go into the
    message, those on a device by way of ``bring``.
    ``headers`` are those of the requests before; without any it is a message.

    Raises:
        InvalidRequestError: for an argument that no server could take.
    """
    options: dict[str, Any] = {
        "reduction": reduction,
        "empty": empty,
        "nonfinite": nonfinite,
        "per_example": per_example,
        "normalizer": normalizer,
        "gradients": arguments.selection(gradients),
    }
    beside = arguments.present({"weights": weights, "mask": mask, "cotangent": cotangent})
    given = arguments.present(inputs)
    spec = kinds.spec_of(loss)
    kinds.refuse_parameters(spec, inputs)
    if names is not None:
        arguments.check_names(given, names)
    request = v1.ComputeLossRequest(loss=spec, metrics=metrics, **_checked(options))
    single = {name: _array(name, value) for name, value in beside.items()}
    several = {name: _arrays(spec, name, value) for name, value in given.items()}
    named = [*single.items(), *((name, one) for name in several for one in several[name])]
    arrays = [array for _, array in named]
    cautions.look(spec, several)
    if lint and _are_on_host(arrays):
        lints.look(spec, several, single)
    make = functools.partial(_filled, request, single, several, place, bring)
    asked = () if headers is None or metrics else _asked(loss, **options)
    if headers is None or not asked or not _may_be_kept(arrays):
        return make()
    return headers.made(_kind(asked, named, len(single)), arrays, make)


def known_request(
    headers: Headers,
    loss: object,
    inputs: Mapping[str, Any],
    *,
    weights: Any = None,
    mask: Any = None,
    cotangent: Any = None,
    metrics: Sequence[v1.MetricSpec] = (),
    lint: bool = False,
    **options: Any,
) -> Encoded | None:
    """Returns a request of a known kind, of values that are arrays; None for any other.

    The arguments are those of ``request_for``, all of them.  What the first of its kind was checked
    for is not looked at again.  Arrays of so many axes that their numbers may call for a caution
    are.  It calls few functions, since each is cold when a call begins.
    """
    asked = () if metrics or lint else _asked(loss, **options)
    if not asked:
        return None
    named: list[tuple[str, Array]] = []
    beside = 0
    for values in ({"weights": weights, "mask": mask, "cotangent": cotangent}, inputs):
        beside = len(named)
        for name, array in values.items():
            if array is None:
                continue
            if type(array) is not np.ndarray or array.ndim >= cautions.LEAST_AXES:
                return None
            named.append((name, array))
    return headers.find(_kind(asked, named, beside), [array for _, array in named])


def _asked(
    loss: object,
    *,
    reduction: object,
    empty: object,
    nonfinite: object,
    per_example: object,
    normalizer: object,
    gradients: v1.GradientSelection | None,
) -> Kind:
    """Returns all that a request follows from beside its arrays; nothing where it may be anything.

    Options are as they were given: those that are equal have to be of one type, and the same.
    """
    if type(loss) is not str and not isinstance(loss, Message):
        return ()
    if type(per_example) is not bool or type(normalizer) not in (float, int, NoneType):
        return ()
    if not type(reduction) is type(empty) is type(nonfinite) is str:
        return ()
    return (
        loss if isinstance(loss, str) else (type(loss), loss.SerializeToString()),
        reduction,
        empty,
        nonfinite,
        per_example,
        None if normalizer is None else repr(normalizer),  # 0 and -0 are equal, and 1 and 1.0
        None if gradients is None else gradients.SerializeToString(),
    )


def _kind(asked: Kind, named: Iterable[tuple[str, Array]], beside: int) -> Kind:
    """Returns all that a request follows from but the numbers of its arrays.

    The first ``beside`` of the arrays are no inputs, though one may have such a name.
    """
    kind: list[object] = [asked, beside]
    for name, array in named:
        kind += (name, array.dtype, array.shape)
    return tuple(kind)


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a request as it holds them.

    Raises:
        InvalidRequestError: if one breaks its rule.
    """
    members = {
        "reduction": arguments.reductions,
        "empty": arguments.empty_policies,
        "nonfinite": arguments.nonfinite_policies,
    }
    return {
        **{name: arguments.member(name, known, options[name]) for name, known in members.items()},
        "per_example": arguments.flag("per_example", options["per_example"]),
        "normalizer": arguments.number("normalizer", options["normalizer"]),
        "gradients": options["gradients"],
    }


def _filled(
    request: v1.ComputeLossRequest,
    single: Mapping[str, Array],
    several: Mapping[str, Sequence[Array]],
    place: Locate,
    bring: Bring,
) -> Framed[v1.ComputeLossRequest]:
    """Returns a request with its arrays, or with the places where they lie."""
    fields = [getattr(request, name) for name in single]
    for name, given in several.items():
        named = request.inputs.add(name=name)
        fields += [named.tensors.add() for _ in given]
    arrays = [*single.values(), *chain.from_iterable(several.values())]
    names = [*single, *(name for name, given in several.items() for _ in given)]
    placed = [_placed(*each, place, bring) for each in zip(fields, names, arrays, strict=True)]
    payloads = Payloads.worthwhile(checked_size(a for _, a, where in placed if where is None))
    for tensor, array, where in placed:
        if where is None:
            tensors.fill(tensor, array, payloads)
        else:
            tensors.refer(tensor, array, where)
    return Framed(request, payloads)


def _placed(
    tensor: v1.Tensor, name: str, array: Array, place: Locate, bring: Bring
) -> tuple[v1.Tensor, Array, "v1.SharedMemory | v1.DeviceMemory | None"]:
    """Returns an array with the tensor that tells of it and the place where it lies, if any."""
    where = place(array)
    if where is None and isinstance(array, OnDevice):
        array = bring(name, array)
        where = place(array)
    return tensor, array, where


def _may_be_kept(arrays: Sequence[Array]) -> bool:
    """Returns whether arrays go into one message, with nothing to gain by leaving any out."""
    return _are_on_host(arrays) and sum(array.nbytes for array in arrays) < WORTHWHILE_BYTES


def _are_on_host(arrays: Iterable[Array]) -> bool:
    return not any(isinstance(array, OnDevice) for array in arrays)


def _arrays(spec: v1.LossSpec, name: str, value: Any) -> list[Array]:
    known = functools.partial(kinds.known_inputs, spec)
    with arguments.named_by("loss", name, known, arguments.compute_options):
        return _checked_arrays(spec, name, value)


def _checked_arrays(spec: v1.LossSpec, name: str, value: Any) -> list[Array]:
    if not is_several(value):
        return [_array(name, value)]
    if not kinds.may_be_several(spec, name):
        raise InvalidRequestError(
            f"{name} must be one array, got a list of {len(value)}: "
            f"stack them, for example with numpy.stack({name[:64]})",
            field=name,
        )
    return [_array(f"{name}[{position}]", item) for position, item in enumerate(value)]


def _array(name: str, value: Any) -> Array:
    """Returns a value as an array, or as an ``OnDevice``, which has what a request takes of one."""
    found: Any = on_device(name, value) if is_on_device(value) else to_array(name, value)
    array: Array = found
    return array


def checked_size(arrays: Iterable[Array]) -> int:
    """Returns the bytes of all arrays, which must fit into one message."""
    total = sum(array.nbytes for array in arrays)
    if total > MAX_BYTES:
        raise InvalidRequestError(
            f"tensors must have at most {MAX_BYTES} bytes in all, got {total}", field="inputs"
        )
    return total
