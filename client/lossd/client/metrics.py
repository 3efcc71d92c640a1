"""Turns arguments into evaluation requests and responses into results: pure, for both clients.

Nothing here does any input or output.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

from lossd import tensors, v1
from lossd.client import arguments, hints, kinds
from lossd.client.arrays import Array, to_array
from lossd.client.errors import InvalidRequestError
from lossd.client.requests import checked_size
from lossd.client.responses import reading
from lossd.client.result import MetricResult
from lossd.framing import Framed

_SEQUENCES = ("hypotheses", "references")
_INPUTS = hints.EvaluateArguments.__annotations__.keys() - set(arguments.evaluate_options)


def spec_of(metric: object) -> v1.MetricSpec:
    """Returns the spec that holds a metric, which a name gives too, or the spec itself.

    Raises:
        InvalidRequestError: if it is no message that a spec can hold, for example a loss.
    """
    if isinstance(metric, str):
        metric = kinds.metric_named(metric)
    found = kinds.wrapped(v1.MetricSpec, metric)
    if found is not None:
        return found
    got = f"the class {metric.__name__}" if isinstance(metric, type) else type(metric).__name__
    raise InvalidRequestError(
        f"metric must be a message of MetricSpec or its name, as F1() or 'f1', got {got}",
        field="metrics",
    )


def listed(metrics: object) -> list[v1.MetricSpec]:
    """Returns the specs of one metric or of a list of them.

    Raises:
        InvalidRequestError: if one is no metric, or none is given.
    """
    if not isinstance(metrics, list | tuple):
        return [spec_of(metrics)]
    if not metrics:
        raise InvalidRequestError("metrics must be at least one, got none", field="metrics")
    return [spec_of(metric) for metric in metrics]


def beside(metrics: object) -> Sequence[v1.MetricSpec]:
    """Returns the specs of the metrics that go with a loss, of which there may be none.

    Raises:
        InvalidRequestError: if one is no metric.
    """
    is_none = metrics is None or (isinstance(metrics, list | tuple) and not metrics)
    return () if is_none else listed(metrics)


def build_request(
    metrics: Sequence[v1.MetricSpec],
    inputs: Mapping[str, Any],
    *,
    weights: Any = None,
    mask: Any = None,
    states: Iterable[bytes] = (),
    return_state: bool = False,
) -> v1.EvaluateRequest:
    """Returns a request, or a part of a stream; without any data it holds no batch.

    Raises:
        InvalidRequestError: for an argument that no server could take.
    """
    request = v1.EvaluateRequest(
        metrics=metrics,
        states=_states(states),
        return_state=arguments.flag("return_state", return_state),
    )
    extras = {"weights": weights, "mask": mask}
    single = {name: to_array(name, value) for name, value in extras.items() if value is not None}
    arrays = {
        name: _array(name, value)
        for name, value in inputs.items()
        if name not in _SEQUENCES and value is not None
    }
    checked_size([*single.values(), *arrays.values()])
    for name, array in single.items():
        tensors.fill(getattr(request.batch, name), array)
    for name, array in arrays.items():
        tensors.fill(request.batch.inputs.add(name=name).tensors.add(), array)
    for name in _SEQUENCES:
        if inputs.get(name) is not None:
            _fill_sequences(request.batch.sequences.add(name=name), name, inputs[name])
    return request


def filled(request: v1.EvaluateRequest, rule: str) -> v1.EvaluateRequest:
    """Returns a request that has a batch or states.

    Raises:
        InvalidRequestError: if it has neither, with the rule that says what it needs.
    """
    if not request.HasField("batch") and not request.states:
        raise InvalidRequestError(f"inputs must be given{rule}, got none", field="inputs")
    return request


def evaluate_request(
    metrics: object,
    inputs: Mapping[str, Any],
    *,
    weights: Any,
    mask: Any,
    states: Iterable[bytes],
) -> v1.EvaluateRequest:
    """Returns the request of ``evaluate``.

    Raises:
        InvalidRequestError: for an argument that no server could take, or without any.
    """
    request = build_request(listed(metrics), inputs, weights=weights, mask=mask, states=states)
    return filled(request, ", or states of evaluations")


def opening(metrics: Sequence[object], *, return_state: bool) -> tuple[v1.EvaluateRequest, bool]:
    """Returns the first part of an evaluation, and whether it has a single result.

    Raises:
        InvalidRequestError: if one is no metric, or none is given.
    """
    asked = metrics[0] if len(metrics) == 1 else metrics
    first = build_request(listed(asked), {}, return_state=return_state)
    return first, not isinstance(asked, list | tuple)


def _array(name: str, value: Any) -> Array:
    if _holds_texts(value) and name in _INPUTS:
        raise InvalidRequestError(
            f"{name} must hold numbers, got texts, which {' and '.join(_SEQUENCES)} may hold",
            field=name,
        )
    with arguments.named_by("metric", name, lambda: _INPUTS, arguments.evaluate_options):
        return to_array(name, value)


def _holds_texts(value: Any) -> bool:
    """Returns whether a value is a text, or a list that begins with one at any depth."""
    for _ in range(tensors.MAX_AXES):  # a list may be within itself
        if not isinstance(value, list | tuple) or not value:
            break
        value = value[0]
    return isinstance(value, str)


def _states(states: object) -> list[bytes]:
    if isinstance(states, bytes | str) or not isinstance(states, Iterable):
        got = "one" if isinstance(states, bytes | str) else type(states).__name__
        raise InvalidRequestError(f"states must be a list of bytes, got {got}", field="states")
    found = list(states)
    for state in found:
        if not isinstance(state, bytes):
            raise InvalidRequestError(
                f"states must hold bytes, got {type(state).__name__}", field="states"
            )
    return found


def _fill_sequences(message: v1.NamedSequences, name: str, value: Any) -> None:
    groups = {
        f"{name}[{position}]": _group(name, f"{name}[{position}]", one)
        for position, one in enumerate(_items(name, name, value))
    }
    flat = {
        thing if name == "hypotheses" else f"{thing}[{position}]": sequence
        for thing, group in groups.items()
        for position, sequence in enumerate(group)
    }
    if any(isinstance(sequence, str) for sequence in flat.values()):
        message.texts.extend(_text(name, thing, sequence) for thing, sequence in flat.items())
    else:
        arrays = [_tokens(name, thing, sequence) for thing, sequence in flat.items()]
        tokens = np.concatenate([np.zeros(0, np.int64), *arrays])
        tensors.fill(message.tokens, tokens)
        tensors.fill(message.lengths, np.array([len(array) for array in arrays], np.int64))
    if name == "references":
        counts = [len(group) for group in groups.values()]
        tensors.fill(message.counts, np.array(counts, np.int64))


def _items(name: str, thing: str, value: Any) -> list[Any]:
    is_list = hasattr(value, "__len__") and hasattr(value, "__iter__")
    if not is_list or isinstance(value, str | bytes | Mapping | AbstractSet):
        raise InvalidRequestError(
            f"{thing} must be a list of texts or of sequences of token ids, got {value!r:.64}",
            field=name,
        )
    # Items of pyarrow are objects of its own.
    found: list[Any] = value.to_pylist() if hasattr(value, "to_pylist") else list(value)
    return found


def _group(name: str, thing: str, value: Any) -> list[Any]:
    """Returns the sequences of one example: a single text or sequence of ids counts as one."""
    if isinstance(value, str) or name == "hypotheses":
        return [value]
    items = _items(name, thing, value)
    is_one = _is_token(items[0]) if items else hasattr(value, "dtype")
    return [value] if is_one else items


def _is_token(value: Any) -> bool:
    """Returns whether it is a number, or an array without axes, such as an item of a tensor."""
    return isinstance(value, int | np.integer) or getattr(value, "ndim", 1) == 0


def _text(name: str, thing: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRequestError(
            f"{thing} must be a text as others are, got {value!r:.64}", field=name
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"{thing} must be a text without half of a surrogate pair, got {value!r:.64}",
            field=name,
        ) from error
    return value


def _tokens(name: str, thing: str, value: Any) -> Any:
    _items(name, thing, value)  # it is a list, at least
    if _holds_texts(value):
        raise InvalidRequestError(
            f"{thing} must be a text or a sequence of token ids, got a list of texts: join words "
            "with spaces",
            field=name,
        )
    array = to_array(thing, value)
    if not array.size and array.ndim == 1:  # an empty list has no type
        return np.zeros(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InvalidRequestError(
            f"{thing} must be a text or a sequence of token ids, got {array.dtype} of {array.ndim} "
            "axes",
            field=name,
        )
    return array.astype(np.int64)


def read_results(framed: Framed[v1.EvaluateResponse]) -> list[MetricResult]:
    """Returns the results that a response holds; their arrays are read-only views.

    Raises:
        ServerError: if a tensor in it breaks the contract.
    """
    with reading(framed.payloads) as read:
        return [read.metric(result) for result in framed.message.results]
