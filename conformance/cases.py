"""The vectors: small batches whose right answers are known without lossd."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from conformance import evaluations
from conformance.expected import Asked, answer
from conformance.vector import COMPUTE, STREAM, Encoding, Method, Refused, Suite, Vector
from lossd import chunks, tensors, v1
from lossd.client.requests import build_request
from lossd.losses import LOSSES
from tests.losses.case import Case, Form

Array = npt.NDArray[Any]

LOGITS = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, -2.5], [-0.75, 0.25, 1.5], [1.0, 1.25, 1.0]])
LABELS = np.array([0, 2, 2, 1])
ERRORS = np.array([[0.25, -3.0], [1.5, 0.0], [-0.5, 8.0]])
SHARES = np.array([[1.0, 1, 1, 1], [1, 2, 3, 2]])
LOG_SUM_EXP = v1.CrossEntropy(outputs=["CROSS_ENTROPY_OUTPUT_LOG_SUM_EXP"])
# What a number may be off by, relative to 1 and for a value near 0: a few units of the type.
TOLERANCES = {"float64": (1e-12, 1e-14), "float32": (4e-6, 1e-7)}
ROUNDED = {"float16": (2e-3, 1e-6), "bfloat16": (1.6e-2, 1e-6)}
_BFLOAT16_LIMITS = ml_dtypes.finfo(ml_dtypes.bfloat16)  # type: ignore[no-untyped-call]  # theirs
INTEGERS = ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")


def suite() -> Suite:
    """Returns all that a client has to get right."""
    vectors = [*_of_every_type(), *_asked(), *_special(), *_refused(), *_streamed()]
    return Suite([*_encodings()], [*vectors, *evaluations.vectors()])


# ------------------------------------------------------------------ tensors


def _encodings() -> Iterator[Encoding]:
    floats = [0.0, -0.0, 1.0, -2.5, 0.15625, math.inf, -math.inf]
    for dtype, kind in tensors.type_of_dtype.items():
        if dtype.kind == "b":
            values: list[Any] = [False, True, True]
        elif dtype.kind in "iu":
            limits = np.iinfo(dtype)
            values = [0, 1, int(limits.min), int(limits.max), 97]
        else:
            information: Any = np.finfo(dtype) if dtype.kind == "f" else _BFLOAT16_LIMITS
            values = [*floats, float(information.max), float(information.smallest_subnormal)]
        yield Encoding(v1.DType.Name(kind), values, np.array(values, dtype).tobytes())


# ------------------------------------------------------------------ losses


def _of_every_type() -> Iterator[Vector]:
    for name, (relative, absolute) in {**TOLERANCES, **ROUNDED}.items():
        case = _classes(LOGITS.astype(ml_dtypes.bfloat16 if name == "bfloat16" else name), LABELS)
        vector = _answered(f"cross_entropy_of_{name}", f"Logits of {name}.", case)
        yield replace(vector, relative=relative, absolute=absolute)
    logits = LOGITS[:, :2].astype(np.float32)
    for name in INTEGERS:
        case = _classes(logits, np.array([0, 1, 1, 0]).astype(name))
        yield _answered(f"class_indices_of_{name}", f"Class indices of {name}.", case)


def _asked() -> Iterator[Vector]:
    weights, mask = np.array([2.0, 0.5, 1.0]), np.array([True, True, False])
    case = _errors()
    for name, about, asked in (
        ("sum_with_weights_and_mask", "Weights, a mask and a sum.",
         Asked(reduction="sum", weights=weights, mask=mask)),
        ("mean_with_weights", "A weighted mean.", Asked(weights=weights)),
        ("batch_mean", "A weighted sum by the number of examples.",
         Asked(reduction="batch_mean", weights=weights)),
        ("no_reduction", "No aggregate, and gradients as of the sum.", Asked(reduction="none")),
        ("normalizer_and_cotangent", "A divisor, and an upstream gradient for each example.",
         Asked(normalizer=12.0, cotangent=np.array([1.0, -2.0, 0.25]))),
        ("two_gradients", "Gradients of both inputs.",
         Asked(gradients=("predictions", "targets"))),
        ("no_gradient_and_no_examples", "The aggregate alone.",
         Asked(gradients=(), per_example=False)),
    ):  # fmt: skip
        yield _answered(name, about, case, asked)
    weighted = replace(
        _classes(LOGITS, LABELS),
        parameters={"class_weights": (1.0, 2.0, 0.5), "label_smoothing": 0.125},
    )
    yield _answered("parameters_of_a_loss", "Class weights and label smoothing.", weighted)


def _special() -> Iterator[Vector]:
    pair = {"predictions": np.array([1.0, math.nan]), "targets": np.zeros(2)}
    reply = v1.ComputeLossResponse(
        loss=math.nan, loss_sum=math.nan, weight_sum=2, example_count=2, nonfinite_count=1
    )
    tensors.fill(reply.statuses.indices, np.array([1]))
    tensors.fill(reply.statuses.statuses, np.array([v1.STATUS_NONFINITE], np.uint8))
    tensors.fill(reply.per_example, np.array([1.0, math.nan]))
    tensors.fill(reply.gradients.add(name="predictions").tensors.add(), np.array([1.0, math.nan]))
    about = "An example that is not a number, and its status."
    yield _unary("status_of_an_example", about, v1.SquaredError(), pair, reply)
    yield _sum()
    yield _outputs()
    yield _outputs_of_a_term()
    yield _metrics_beside()
    empty = {"predictions": np.zeros((0, 3)), "targets": np.zeros(0, np.int64)}
    reply = v1.ComputeLossResponse(loss=0)
    tensors.fill(reply.per_example, np.zeros(0))
    tensors.fill(reply.gradients.add(name="predictions").tensors.add(), np.zeros((0, 3)))
    yield _unary("empty_batch", "No example at all.", v1.CrossEntropy(), empty, reply)


def _sum() -> Vector:
    """Half the squared error and twice the absolute error of 3 and -1."""
    inputs = {"predictions": np.array([3.0, -1.0]), "targets": np.zeros(2)}
    terms = [
        v1.WeightedTerm(weight=0.5, loss=v1.LossSpec(squared_error=v1.SquaredError())),
        v1.WeightedTerm(weight=2, loss=v1.LossSpec(absolute_error=v1.AbsoluteError())),
    ]
    reply = v1.ComputeLossResponse(
        loss=6.5,  # 0.5 (9 + 1) / 2 + 2 (3 + 1) / 2
        loss_sum=13,
        weight_sum=2,
        example_count=2,
    )
    # Derivatives of the means: 2 (3, -1) / 2 and (1, -1) / 2.
    for loss, total, norm in ((5, 10, math.sqrt(10)), (2, 4, math.sqrt(0.5))):
        reply.terms.add(
            loss=loss, loss_sum=total, weight_sum=2, example_count=2, gradient_norm=norm
        )
    tensors.fill(reply.per_example, np.array([10.5, 2.5]))
    tensors.fill(reply.gradients.add(name="predictions").tensors.add(), np.array([2.5, -1.5]))
    about = "A weighted sum, and what its terms come to."
    return _unary("weighted_sum", about, v1.WeightedSum(terms=terms), inputs, reply)


def _outputs() -> Vector:
    case = _classes(np.log(SHARES), np.array([0, 3]))
    reply = answer(case, Asked())
    tensors.fill(reply.outputs.add(name="log_sum_exp").tensors.add(), np.log(SHARES.sum(axis=1)))
    about = "What a loss gives beyond: the logarithm of the sum of exponentials."
    return _unary("outputs_of_a_loss", about, LOG_SUM_EXP, case.inputs, reply)


def _outputs_of_a_term() -> Vector:
    """The only term is the loss itself."""
    case = _classes(np.log(SHARES), np.array([0, 3]))
    reply = answer(case, Asked())
    term = reply.terms.add(
        loss=reply.loss,
        loss_sum=reply.loss_sum,
        weight_sum=reply.weight_sum,
        example_count=reply.example_count,
        gradient_norm=float(np.linalg.norm(tensors.read(reply.gradients[0].tensors[0]))),
    )
    tensors.fill(term.outputs.add(name="log_sum_exp").tensors.add(), np.log(SHARES.sum(axis=1)))
    terms = [v1.WeightedTerm(weight=1, loss=v1.LossSpec(cross_entropy=LOG_SUM_EXP))]
    about = "What the loss of a term gives beyond."
    return _unary("outputs_of_a_term", about, v1.WeightedSum(terms=terms), case.inputs, reply)


def _metrics_beside() -> Vector:
    case = _classes(LOGITS, LABELS)
    reply = answer(case, Asked())
    reply.metrics.add(metric="accuracy", value=0.75, example_count=4)  # all but the second
    vector = _answered("metrics_beside_a_loss", "A metric of the same batch.", case)
    asked = _request(case, Asked())
    asked.metrics.add().accuracy.CopyFrom(v1.Accuracy())
    return replace(vector, requests=[asked], replies=[reply])


# ------------------------------------------------------------------ refused


def _refused() -> Iterator[Vector]:
    whole = _request(_classes(LOGITS, LABELS), Asked())
    for name, about, change, refused in (
        ("label_out_of_bounds", "A class that is none.",
         {"targets": np.array([0, 3, 2, 1])},
         Refused("INVALID_ARGUMENT", "INVALID_TENSOR", ["inputs.targets"],
                 {"field": "inputs.targets"})),
        ("lengths_that_differ", "Fewer targets than predictions.",
         {"targets": np.array([0, 1])},
         Refused("INVALID_ARGUMENT", "INVALID_TENSOR", ["inputs.targets.shape"])),
    ):  # fmt: skip
        case = _classes(LOGITS, LABELS).with_inputs(**change)
        yield _refusal(name, about, COMPUTE, [_request(case, Asked())], refused)
    parameter = v1.ComputeLossRequest()
    parameter.CopyFrom(whole)
    parameter.loss.cross_entropy.label_smoothing = 1.5
    yield _refusal(
        "parameter_out_of_bounds", "A parameter that breaks its bounds.", COMPUTE, [parameter],
        Refused("INVALID_ARGUMENT", "INVALID_PARAMETER", ["loss.cross_entropy.label_smoothing"]),
    )  # fmt: skip
    short = v1.ComputeLossRequest()
    short.CopyFrom(whole)
    short.inputs[0].tensors[0].data = short.inputs[0].tensors[0].data[:-1]
    yield _refusal(
        "tensor_without_its_last_byte", "Data that does not fill its shape.", COMPUTE, [short],
        Refused("INVALID_ARGUMENT", "INVALID_TENSOR", ["inputs[0].tensors[0].data"]),
    )  # fmt: skip
    unknown = v1.ComputeLossRequest()
    unknown.CopyFrom(whole)
    unknown.ClearField("loss")
    yield _refusal(
        "no_loss", "No loss, for which there is no default.", COMPUTE, [unknown],
        Refused("UNIMPLEMENTED", "UNKNOWN_LOSS", ["loss"]),
    )  # fmt: skip


# ------------------------------------------------------------------ streams


def _streamed() -> Iterator[Vector]:
    case = _classes(LOGITS.astype(np.float32), LABELS)
    reply = answer(case, Asked())
    relative, absolute = TOLERANCES["float32"]
    vector = Vector(
        "stream_of_a_call", "A call whose tensors come in chunks of 5 bytes.", STREAM,
        [*_in_chunks(_request(case, Asked()))], [reply], None, relative, absolute,
    )  # fmt: skip
    yield vector
    weighted = Asked(weights=np.array([1.0, 0.5, 2.0]), mask=np.array([True, False, True]))
    errors = _errors()
    yield replace(
        vector,
        name="stream_of_two_calls",
        about="Two calls on one stream, answered in order; the second has weights and a mask.",
        requests=[*vector.requests, *_in_chunks(_request(errors, weighted), 7)],
        replies=[reply, answer(errors, weighted)],
    )
    wrong = _request(case.with_inputs(targets=np.array([0, 1, 2, 9])), Asked())
    yield replace(
        vector,
        name="stream_whose_second_call_is_refused",
        about="The first call is answered, the second ends the stream.",
        requests=[*vector.requests, *_in_chunks(wrong)],
        refused=Refused("INVALID_ARGUMENT", "INVALID_TENSOR", ["inputs.targets"]),
    )
    yield _refusal(
        "stream_that_ends_in_a_tensor", "A stream that ends before its last chunk.", STREAM,
        vector.requests[:-1], Refused("INVALID_ARGUMENT", "BROKEN_STREAM", ["part"]),
    )  # fmt: skip


def _in_chunks(request: v1.ComputeLossRequest, size: int = 5) -> Iterator[v1.StreamLossRequest]:
    call = v1.ComputeLossRequest()
    call.CopyFrom(request)
    following: list[bytes] = []
    for tensor in chunks.tensors_of(call):
        data = tensor.data
        tensor.chunks.position, tensor.chunks.size_bytes = len(following), len(data)
        following.append(data)
    yield v1.StreamLossRequest(call=call)
    for data in following:
        for start in range(0, len(data), size):
            yield v1.StreamLossRequest(chunk=data[start : start + size])


# ------------------------------------------------------------------ parts


def _classes(logits: Array, labels: Array) -> Case:
    inputs = {"predictions": logits, "targets": labels}
    return Case(LOSSES["cross_entropy"], {}, Form.CLASSES, inputs)


def _errors() -> Case:
    inputs = {"predictions": ERRORS, "targets": np.zeros_like(ERRORS)}
    return Case(LOSSES["huber"], {"delta": 2.0}, Form.FLOATS, inputs)


def _request(case: Case, asked: Asked) -> v1.ComputeLossRequest:
    message: Message = getattr(v1, case.loss.message)(**case.parameters)
    return build_request(message, case.inputs, **asked.options()).message


def _answered(name: str, about: str, case: Case, asked: Asked | None = None) -> Vector:
    how = asked or Asked()
    precision = "float64" if case.inputs[case.first].dtype == np.float64 else "float32"
    relative, absolute = TOLERANCES[precision]
    requests, replies = [_request(case, how)], [answer(case, how)]
    return Vector(name, about, COMPUTE, requests, replies, None, relative, absolute)


def _unary(
    name: str, about: str, loss: Message, inputs: Mapping[str, Any], reply: Message
) -> Vector:
    relative, absolute = TOLERANCES["float64"]
    request = build_request(loss, inputs).message
    return Vector(name, about, COMPUTE, [request], [reply], None, relative, absolute)


def _refusal(
    name: str, about: str, method: Method, requests: Iterable[Message], refused: Refused
) -> Vector:
    return Vector(name, about, method, list(requests), [], refused)
