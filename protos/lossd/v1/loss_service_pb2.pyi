from google.protobuf import duration_pb2 as _duration_pb2
from lossd.v1 import evaluation_pb2 as _evaluation_pb2
from lossd.v1 import losses_pb2 as _losses_pb2
from lossd.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Reduction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """How the losses of the examples become one number. With v the loss of an example, s its weight
    and d the loss's own denominator: the class weight where targets are class indices; of a
    sequence the number of its tokens under "TOKEN_MEAN", and its share of its group under
    "GROUP_MEAN"; else 1:

    Members:
        MEAN: sum(s v) / sum(s d) over the kept examples.
        BATCH_MEAN: sum(s v) / number of kept examples.
        SUM: sum(s v).
        NONE: No aggregate; gradients are those of the sum.
    """
    __slots__ = ()
    REDUCTION_UNSPECIFIED: _ClassVar[Reduction]
    REDUCTION_MEAN: _ClassVar[Reduction]
    REDUCTION_BATCH_MEAN: _ClassVar[Reduction]
    REDUCTION_SUM: _ClassVar[Reduction]
    REDUCTION_NONE: _ClassVar[Reduction]

class EmptyPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """How to answer when no example is kept, or all kept weights are 0.

    Members:
        ZERO: A loss of 0.
        NAN: A loss of NaN.
        ERROR: INVALID_ARGUMENT.
    """
    __slots__ = ()
    EMPTY_POLICY_UNSPECIFIED: _ClassVar[EmptyPolicy]
    EMPTY_POLICY_ZERO: _ClassVar[EmptyPolicy]
    EMPTY_POLICY_NAN: _ClassVar[EmptyPolicy]
    EMPTY_POLICY_ERROR: _ClassVar[EmptyPolicy]

class NonfinitePolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """How to treat kept examples whose loss or gradient is not finite.

    Members:
        PROPAGATE: Return them as they are.
        ZERO: Return 0 for their loss and gradients; they still count as examples.
        ERROR: INVALID_ARGUMENT.
    """
    __slots__ = ()
    NONFINITE_POLICY_UNSPECIFIED: _ClassVar[NonfinitePolicy]
    NONFINITE_POLICY_PROPAGATE: _ClassVar[NonfinitePolicy]
    NONFINITE_POLICY_ZERO: _ClassVar[NonfinitePolicy]
    NONFINITE_POLICY_ERROR: _ClassVar[NonfinitePolicy]

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Why the result of an example, or of a whole set, is special.

    Members:
        NONFINITE: Its loss or a returned gradient is NaN or infinite.
        INFEASIBLE: No alignment exists.
        ZERO_NORM: An embedding is the zero vector.
        NO_POSITIVE: It has no positive to be compared with.
        EMPTY_TARGET: Its target is empty.
        UNDEFINED: The quantity is not defined for this input.
    """
    __slots__ = ()
    STATUS_UNSPECIFIED: _ClassVar[Status]
    STATUS_NONFINITE: _ClassVar[Status]
    STATUS_INFEASIBLE: _ClassVar[Status]
    STATUS_ZERO_NORM: _ClassVar[Status]
    STATUS_NO_POSITIVE: _ClassVar[Status]
    STATUS_EMPTY_TARGET: _ClassVar[Status]
    STATUS_UNDEFINED: _ClassVar[Status]

class Differentiability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Whether the gradient with respect to an input can be returned.

    Members:
        NONE: It cannot.
        ON_REQUEST: If it is asked for.
        DEFAULT: By default, unless the request selects otherwise.
    """
    __slots__ = ()
    DIFFERENTIABILITY_UNSPECIFIED: _ClassVar[Differentiability]
    DIFFERENTIABILITY_NONE: _ClassVar[Differentiability]
    DIFFERENTIABILITY_ON_REQUEST: _ClassVar[Differentiability]
    DIFFERENTIABILITY_DEFAULT: _ClassVar[Differentiability]
REDUCTION_UNSPECIFIED: Reduction
REDUCTION_MEAN: Reduction
REDUCTION_BATCH_MEAN: Reduction
REDUCTION_SUM: Reduction
REDUCTION_NONE: Reduction
EMPTY_POLICY_UNSPECIFIED: EmptyPolicy
EMPTY_POLICY_ZERO: EmptyPolicy
EMPTY_POLICY_NAN: EmptyPolicy
EMPTY_POLICY_ERROR: EmptyPolicy
NONFINITE_POLICY_UNSPECIFIED: NonfinitePolicy
NONFINITE_POLICY_PROPAGATE: NonfinitePolicy
NONFINITE_POLICY_ZERO: NonfinitePolicy
NONFINITE_POLICY_ERROR: NonfinitePolicy
STATUS_UNSPECIFIED: Status
STATUS_NONFINITE: Status
STATUS_INFEASIBLE: Status
STATUS_ZERO_NORM: Status
STATUS_NO_POSITIVE: Status
STATUS_EMPTY_TARGET: Status
STATUS_UNDEFINED: Status
DIFFERENTIABILITY_UNSPECIFIED: Differentiability
DIFFERENTIABILITY_NONE: Differentiability
DIFFERENTIABILITY_ON_REQUEST: Differentiability
DIFFERENTIABILITY_DEFAULT: Differentiability

class ComputeLossRequest(_message.Message):
    """One batch and what to compute from it.

    Args:
        loss: The loss and its parameters.
        reduction: How the losses of the examples become one number. Default REDUCTION_MEAN. One of:
            "MEAN": sum(s v) / sum(s d) over the kept examples.
            "BATCH_MEAN": sum(s v) / number of kept examples.
            "SUM": sum(s v).
            "NONE": No aggregate; gradients are those of the sum.
        normalizer: Divisor in place of the one that a mean would use. In (0, inf). Only with the
            two means. The same normalizer for all parts of a batch makes their losses and gradients
            add up.
        gradients: Which gradients to return; unset for those that the loss declares as default.
        per_example: Whether to return the loss of each example. Default true.
        empty: How to answer when no example is kept. Default EMPTY_POLICY_ZERO. One of:
            "ZERO": A loss of 0.
            "NAN": A loss of NaN.
            "ERROR": INVALID_ARGUMENT.
        nonfinite: How to treat examples whose loss or gradient is not finite. Default
            NONFINITE_POLICY_PROPAGATE. One of:
            "PROPAGATE": Return them as they are.
            "ZERO": Return 0 for their loss and gradients; they still count as examples.
            "ERROR": INVALID_ARGUMENT.
        reply: Where the server may put the arrays of the reply, each at a multiple of 64 bytes;
            arrays that do not fit come in the message. If unset, all come in the message. Until the
            reply has arrived, or the segment is detached and its calls have ended, the server may
            write anywhere in the region.
        device: How the call uses the memory of a device; unset where it does not.
        metrics: Metrics of the same batch, each different, at most 32. They take the request's own
            predictions, targets, weights and mask, and the loss's parameters hold for them too:
            examples with its ignore index are ignored, classes lie on its class axis, and a metric
            whose task or prediction kind is unset takes the loss's. Not with a token mask or
            lengths, which leave out elements that metrics would count.
        weights: One weight for each example, of any type, each in [0, inf) and with a finite sum;
            unset for 1.
        mask: BOOL, one for each example: true keeps it, false ignores it; unset keeps all.
        cotangent: Upstream gradient: a single number or one for each example, of any type; unset
            for 1. It scales the gradients, never the loss.
        inputs: The inputs that the loss declares, each once. At most 64 tensors in all.
    """
    __slots__ = ("loss", "reduction", "normalizer", "gradients", "per_example", "empty", "nonfinite", "reply", "device", "metrics", "weights", "mask", "cotangent", "inputs")
    LOSS_FIELD_NUMBER: _ClassVar[int]
    REDUCTION_FIELD_NUMBER: _ClassVar[int]
    NORMALIZER_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    PER_EXAMPLE_FIELD_NUMBER: _ClassVar[int]
    EMPTY_FIELD_NUMBER: _ClassVar[int]
    NONFINITE_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    COTANGENT_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    loss: _losses_pb2.LossSpec
    reduction: Reduction
    normalizer: float
    gradients: GradientSelection
    per_example: bool
    empty: EmptyPolicy
    nonfinite: NonfinitePolicy
    reply: SharedMemoryRegion
    device: DeviceUse
    metrics: _containers.RepeatedCompositeFieldContainer[_evaluation_pb2.MetricSpec]
    weights: _tensor_pb2.Tensor
    mask: _tensor_pb2.Tensor
    cotangent: _tensor_pb2.Tensor
    inputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensors]
    def __init__(self, loss: _Optional[_Union[_losses_pb2.LossSpec, _Mapping]] = ..., reduction: _Optional[_Union[Reduction, str]] = ..., normalizer: _Optional[float] = ..., gradients: _Optional[_Union[GradientSelection, _Mapping]] = ..., per_example: bool = ..., empty: _Optional[_Union[EmptyPolicy, str]] = ..., nonfinite: _Optional[_Union[NonfinitePolicy, str]] = ..., reply: _Optional[_Union[SharedMemoryRegion, _Mapping]] = ..., device: _Optional[_Union[DeviceUse, _Mapping]] = ..., metrics: _Optional[_Iterable[_Union[_evaluation_pb2.MetricSpec, _Mapping]]] = ..., weights: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., mask: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., cotangent: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensors, _Mapping]]] = ...) -> None: ...

class StreamLossRequest(_message.Message):
    """A call, or a chunk of its tensors.

    Args:
        call: A call. Tensors may be announced as Chunks, and are nowhere else; shared memory and
            device memory, also for the reply, go with ComputeLoss.
        chunk: The next bytes of the tensors that were announced, of one of them and at least one
            byte. 1 MiB is fast; a chunk may be as long as a message.
    """
    __slots__ = ("call", "chunk")
    CALL_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    call: ComputeLossRequest
    chunk: bytes
    def __init__(self, call: _Optional[_Union[ComputeLossRequest, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class StreamLossResponse(_message.Message):
    """A result, or a chunk of its tensors.

    Args:
        result: The result of the next call. Tensors may be announced as Chunks.
        chunk: The next bytes of the tensors that were announced, of one of them and at least one
            byte.
    """
    __slots__ = ("result", "chunk")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    result: ComputeLossResponse
    chunk: bytes
    def __init__(self, result: _Optional[_Union[ComputeLossResponse, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class SharedMemoryRegion(_message.Message):
    """A part of a segment of shared memory.

    Args:
        start: Where it begins.
        size: Its size in bytes.
    """
    __slots__ = ("start", "size")
    START_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    start: _tensor_pb2.SharedMemory
    size: int
    def __init__(self, start: _Optional[_Union[_tensor_pb2.SharedMemory, _Mapping]] = ..., size: _Optional[int] = ...) -> None: ...

class DeviceUse(_message.Message):
    """How a call uses the memory of a device.

    Args:
        reply: Where the server may place gradients with respect to inputs that are in device
            memory, each at a multiple of 256 bytes; others go where they would go without. Unset
            for none.
        reply_size: Bytes there.
        ready_event: For cudaIpcOpenEventHandle: 64 bytes. The server reads no device memory before
            the event, as it was recorded last before the call, is complete. Unset for memory that
            is ready.
    """
    __slots__ = ("reply", "reply_size", "ready_event")
    REPLY_FIELD_NUMBER: _ClassVar[int]
    REPLY_SIZE_FIELD_NUMBER: _ClassVar[int]
    READY_EVENT_FIELD_NUMBER: _ClassVar[int]
    reply: _tensor_pb2.DeviceMemory
    reply_size: int
    ready_event: bytes
    def __init__(self, reply: _Optional[_Union[_tensor_pb2.DeviceMemory, _Mapping]] = ..., reply_size: _Optional[int] = ..., ready_event: _Optional[bytes] = ...) -> None: ...

class GradientSelection(_message.Message):
    """The inputs and parameters whose gradients are wanted.

    Args:
        inputs: Names of differentiable inputs and parameters, for example "queries" and
            "temperature"; empty for no gradient at all. A parameter of a term of a WeightedSum has
            the index of the term in its name, counted from 0, for example "terms[0].temperature".
    """
    __slots__ = ("inputs",)
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, inputs: _Optional[_Iterable[str]] = ...) -> None: ...

class ComputeLossResponse(_message.Message):
    """The result of one batch.

    Args:
        loss: The aggregate; unset under REDUCTION_NONE.
        loss_sum: Numerator of the requested reduction: the weighted sum over the kept examples. For
            a loss of a set, which is no sum, the loss itself.
        weight_sum: Sum over the kept examples of weight times the loss's own denominator, whatever
            the reduction.
        example_count: Number of examples that were kept.
        ignored_count: Number of examples that were masked, have the ignore index or are skipped by
            the loss.
        nonfinite_count: Number of kept examples whose loss or returned gradient is not finite.
        status: Status of the whole: of losses of a set, and of gradients that belong to no example.
            One of:
            "NONFINITE": Its loss or a returned gradient is NaN or infinite.
            "INFEASIBLE": No alignment exists.
            "ZERO_NORM": An embedding is the zero vector.
            "NO_POSITIVE": It has no positive to be compared with.
            "EMPTY_TARGET": Its target is empty.
            "UNDEFINED": The quantity is not defined for this input.
        backend: The backend that computed: "numpy" or "cupy".
        server_timing: Where the time went on the server.
        transport: How tensors travelled: "device_memory" if one did so in either direction, else
            "shared_memory" if one did so, "grpc" otherwise.
        metrics: One result for each metric of the request, in the order of the request.
        terms: The result of each term of a WeightedSum, in their order.
        statuses: Statuses of single examples; unset where no example has one.
        per_example: The loss of each example, shaped like the examples: FLOAT64 where an input is
            FLOAT64, or where the weights or priors of classes among the parameters are so large or
            small that it is computed in it, FLOAT32 otherwise. Weights of examples are not
            included; an ignored example has 0. Unset for losses of a set.
        gradients: The gradients of the reduced loss, each with the shape and type of its input; a
            single FLOAT64 if it is with respect to a parameter.
        outputs: Further outputs that the loss's parameters ask for, each shaped like the examples.
            An example that is ignored or has weight 0 has 0, or -1 where the outputs are indices of
            examples. Those of a WeightedSum are in its terms.
    """
    __slots__ = ("loss", "loss_sum", "weight_sum", "example_count", "ignored_count", "nonfinite_count", "status", "backend", "server_timing", "transport", "metrics", "terms", "statuses", "per_example", "gradients", "outputs")
    LOSS_FIELD_NUMBER: _ClassVar[int]
    LOSS_SUM_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_SUM_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    IGNORED_COUNT_FIELD_NUMBER: _ClassVar[int]
    NONFINITE_COUNT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIMING_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    PER_EXAMPLE_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    loss: float
    loss_sum: float
    weight_sum: float
    example_count: int
    ignored_count: int
    nonfinite_count: int
    status: Status
    backend: str
    server_timing: ServerTiming
    transport: str
    metrics: _containers.RepeatedCompositeFieldContainer[MetricResult]
    terms: _containers.RepeatedCompositeFieldContainer[TermResult]
    statuses: ExampleStatuses
    per_example: _tensor_pb2.Tensor
    gradients: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensors]
    outputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensors]
    def __init__(self, loss: _Optional[float] = ..., loss_sum: _Optional[float] = ..., weight_sum: _Optional[float] = ..., example_count: _Optional[int] = ..., ignored_count: _Optional[int] = ..., nonfinite_count: _Optional[int] = ..., status: _Optional[_Union[Status, str]] = ..., backend: _Optional[str] = ..., server_timing: _Optional[_Union[ServerTiming, _Mapping]] = ..., transport: _Optional[str] = ..., metrics: _Optional[_Iterable[_Union[MetricResult, _Mapping]]] = ..., terms: _Optional[_Iterable[_Union[TermResult, _Mapping]]] = ..., statuses: _Optional[_Union[ExampleStatuses, _Mapping]] = ..., per_example: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., gradients: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensors, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensors, _Mapping]]] = ...) -> None: ...

class MetricResult(_message.Message):
    """The result of one metric.

    Args:
        metric: Name of the member of MetricSpec, for example "roc_auc".
        value: The number; unset where it is not defined, or where there are values only.
        status: STATUS_UNDEFINED or STATUS_NONFINITE where the number is special. One of:
            "NONFINITE": Its loss or a returned gradient is NaN or infinite.
            "INFEASIBLE": No alignment exists.
            "ZERO_NORM": An embedding is the zero vector.
            "NO_POSITIVE": It has no positive to be compared with.
            "EMPTY_TARGET": Its target is empty.
            "UNDEFINED": The quantity is not defined for this input.
        reason: Why it is, for example "targets hold no negative"; empty without a status.
        example_count: Number of examples that were kept.
        ignored_count: Number of examples that were masked or have the ignore index.
        signature: Settings that a text score was computed with, in sacrebleu's words; empty for
            other metrics.
        values: FLOAT64: the number of each class, label, output or hypothesis; NaN where it is not
            defined, and for a hypothesis that is masked.
        outputs: FLOAT64: further outputs of the metric, one tensor each.
    """
    __slots__ = ("metric", "value", "status", "reason", "example_count", "ignored_count", "signature", "values", "outputs")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    IGNORED_COUNT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    metric: str
    value: float
    status: Status
    reason: str
    example_count: int
    ignored_count: int
    signature: str
    values: _tensor_pb2.Tensor
    outputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensors]
    def __init__(self, metric: _Optional[str] = ..., value: _Optional[float] = ..., status: _Optional[_Union[Status, str]] = ..., reason: _Optional[str] = ..., example_count: _Optional[int] = ..., ignored_count: _Optional[int] = ..., signature: _Optional[str] = ..., values: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., outputs: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensors, _Mapping]]] = ...) -> None: ...

class TermResult(_message.Message):
    """The result of one term of a sum, before its weight.

    Args:
        loss: The aggregate.
        loss_sum: As in ComputeLossResponse, of this term.
        weight_sum: As in ComputeLossResponse, of this term.
        example_count: As in ComputeLossResponse, of this term.
        ignored_count: As in ComputeLossResponse, of this term.
        nonfinite_count: As in ComputeLossResponse, of this term.
        status: Status of the whole: of losses of a set, and of gradients that belong to no example.
            One of:
            "NONFINITE": Its loss or a returned gradient is NaN or infinite.
            "INFEASIBLE": No alignment exists.
            "ZERO_NORM": An embedding is the zero vector.
            "NO_POSITIVE": It has no positive to be compared with.
            "EMPTY_TARGET": Its target is empty.
            "UNDEFINED": The quantity is not defined for this input.
        gradient_norm: Euclidean length of its gradient with respect to all inputs whose gradients
            were asked for, taken together.
        outputs: As in ComputeLossResponse, of this term.
    """
    __slots__ = ("loss", "loss_sum", "weight_sum", "example_count", "ignored_count", "nonfinite_count", "status", "gradient_norm", "outputs")
    LOSS_FIELD_NUMBER: _ClassVar[int]
    LOSS_SUM_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_SUM_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    IGNORED_COUNT_FIELD_NUMBER: _ClassVar[int]
    NONFINITE_COUNT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_NORM_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    loss: float
    loss_sum: float
    weight_sum: float
    example_count: int
    ignored_count: int
    nonfinite_count: int
    status: Status
    gradient_norm: float
    outputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensors]
    def __init__(self, loss: _Optional[float] = ..., loss_sum: _Optional[float] = ..., weight_sum: _Optional[float] = ..., example_count: _Optional[int] = ..., ignored_count: _Optional[int] = ..., nonfinite_count: _Optional[int] = ..., status: _Optional[_Union[Status, str]] = ..., gradient_norm: _Optional[float] = ..., outputs: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensors, _Mapping]]] = ...) -> None: ...

class ExampleStatuses(_message.Message):
    """Statuses of single examples, as two tensors of one length.

    Args:
        indices: INT64: flat indices of the examples, ascending.
        statuses: UINT8: the number of the Status of each.
    """
    __slots__ = ("indices", "statuses")
    INDICES_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    indices: _tensor_pb2.Tensor
    statuses: _tensor_pb2.Tensor
    def __init__(self, indices: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., statuses: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class ServerTiming(_message.Message):
    """Time spent on the server, phase by phase.

    Args:
        decode: Parsing the request and checking it.
        queue: Waiting for a slot to compute.
        compute: Computing.
        receive: Waiting for the bytes of the request.
        evaluate: Computing the metrics that were asked for beside a loss; unset without any.
    """
    __slots__ = ("decode", "queue", "compute", "receive", "evaluate")
    DECODE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_FIELD_NUMBER: _ClassVar[int]
    RECEIVE_FIELD_NUMBER: _ClassVar[int]
    EVALUATE_FIELD_NUMBER: _ClassVar[int]
    decode: _duration_pb2.Duration
    queue: _duration_pb2.Duration
    compute: _duration_pb2.Duration
    receive: _duration_pb2.Duration
    evaluate: _duration_pb2.Duration
    def __init__(self, decode: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., queue: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., compute: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., receive: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., evaluate: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ListLossesRequest(_message.Message):
    """Asks for the catalogue."""
    __slots__ = ()
    def __init__(self) -> None: ...

class ListLossesResponse(_message.Message):
    """The catalogue.

    Args:
        losses: One entry for each loss, by name.
    """
    __slots__ = ("losses",)
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    losses: _containers.RepeatedCompositeFieldContainer[LossDescription]
    def __init__(self, losses: _Optional[_Iterable[_Union[LossDescription, _Mapping]]] = ...) -> None: ...

class LossDescription(_message.Message):
    """The description of one loss.

    Args:
        name: Name of the member of LossSpec, for example "cross_entropy".
        message: Name of the message, for example "CrossEntropy".
        summary: One line that says what it computes.
        formula: The formula, as plain text.
        reference: Where it comes from: author, year, section.
        inputs: The inputs, in positional order.
        parameters: The parameters.
    """
    __slots__ = ("name", "message", "summary", "formula", "reference", "inputs", "parameters")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    FORMULA_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    message: str
    summary: str
    formula: str
    reference: str
    inputs: _containers.RepeatedCompositeFieldContainer[InputDescription]
    parameters: _containers.RepeatedCompositeFieldContainer[ParameterDescription]
    def __init__(self, name: _Optional[str] = ..., message: _Optional[str] = ..., summary: _Optional[str] = ..., formula: _Optional[str] = ..., reference: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[InputDescription, _Mapping]]] = ..., parameters: _Optional[_Iterable[_Union[ParameterDescription, _Mapping]]] = ...) -> None: ...

class InputDescription(_message.Message):
    """One input of a loss.

    Args:
        name: Its name.
        description: One line that says what it holds.
        shapes: The shapes it may have, for example "(N, ..., C)".
        dtypes: The element types it may have. Any of:
            "BOOL": One byte for each element, 0 or 1.
            "UINT8": Unsigned integer of 8 bits.
            "UINT16": Unsigned integer of 16 bits.
            "UINT32": Unsigned integer of 32 bits.
            "UINT64": Unsigned integer of 64 bits.
            "INT8": Signed integer of 8 bits.
            "INT16": Signed integer of 16 bits.
            "INT32": Signed integer of 32 bits.
            "INT64": Signed integer of 64 bits.
            "FLOAT16": IEEE 754 binary16.
            "BFLOAT16": The upper half of an IEEE 754 binary32.
            "FLOAT32": IEEE 754 binary32.
            "FLOAT64": IEEE 754 binary64.
        differentiability: Whether its gradient can be returned. One of:
            "NONE": It cannot.
            "ON_REQUEST": If it is asked for.
            "DEFAULT": By default, unless the request selects otherwise.
        optional: Whether it may be left out.
    """
    __slots__ = ("name", "description", "shapes", "dtypes", "differentiability", "optional")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    SHAPES_FIELD_NUMBER: _ClassVar[int]
    DTYPES_FIELD_NUMBER: _ClassVar[int]
    DIFFERENTIABILITY_FIELD_NUMBER: _ClassVar[int]
    OPTIONAL_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    shapes: _containers.RepeatedScalarFieldContainer[str]
    dtypes: _containers.RepeatedScalarFieldContainer[_tensor_pb2.DType]
    differentiability: Differentiability
    optional: bool
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., shapes: _Optional[_Iterable[str]] = ..., dtypes: _Optional[_Iterable[_Union[_tensor_pb2.DType, str]]] = ..., differentiability: _Optional[_Union[Differentiability, str]] = ..., optional: bool = ...) -> None: ...

class ParameterDescription(_message.Message):
    """One parameter of a loss or of a metric.

    Args:
        name: Its name, as in the message of the loss or the metric.
        type: Its type: "double", "int64" for any whole number, "bool", "string" or the name of an
            enum; "repeated" and one of these for a list.
        default: The default, as text; empty for unset, "required" where there is none.
        bounds: The legal values, as text, for example "(0, inf)".
        differentiability: Whether the gradient with respect to it can be returned, under its name,
            as one FLOAT64. One of:
            "NONE": It cannot.
            "ON_REQUEST": If it is asked for.
            "DEFAULT": By default, unless the request selects otherwise.
    """
    __slots__ = ("name", "type", "default", "bounds", "differentiability")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    BOUNDS_FIELD_NUMBER: _ClassVar[int]
    DIFFERENTIABILITY_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    default: str
    bounds: str
    differentiability: Differentiability
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., default: _Optional[str] = ..., bounds: _Optional[str] = ..., differentiability: _Optional[_Union[Differentiability, str]] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    """Asks for versions, backends and limits."""
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    """The server's versions, backends and limits.

    Args:
        version: Version of lossd.
        backend: The backend that computes: "numpy" or "cupy".
        backend_reason: Why it was chosen, for example why no GPU is used.
        device: The device that computes, in words.
        libraries: Versions of the libraries in use.
        limits: Limits of requests.
        transports: The ways that tensors can travel: "grpc", and "shared_memory" and
            "device_memory" where they are offered.
        shared_memory: How memory can be shared; unset where it is not offered.
        networks: The networks that losses of images can use, by name.
        device_memory: Where device memory can be shared; unset where it is not offered.
        routes: Where the losses of each shape are computed, where the server chose; empty where the
            operator wants one backend for all.
    """
    __slots__ = ("version", "backend", "backend_reason", "device", "libraries", "limits", "transports", "shared_memory", "networks", "device_memory", "routes")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    BACKEND_REASON_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    LIBRARIES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    TRANSPORTS_FIELD_NUMBER: _ClassVar[int]
    SHARED_MEMORY_FIELD_NUMBER: _ClassVar[int]
    NETWORKS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_MEMORY_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    version: str
    backend: str
    backend_reason: str
    device: str
    libraries: _containers.RepeatedCompositeFieldContainer[LibraryVersion]
    limits: Limits
    transports: _containers.RepeatedScalarFieldContainer[str]
    shared_memory: SharedMemoryOffer
    networks: _containers.RepeatedCompositeFieldContainer[NetworkDescription]
    device_memory: DeviceMemoryOffer
    routes: _containers.RepeatedCompositeFieldContainer[Route]
    def __init__(self, version: _Optional[str] = ..., backend: _Optional[str] = ..., backend_reason: _Optional[str] = ..., device: _Optional[str] = ..., libraries: _Optional[_Iterable[_Union[LibraryVersion, _Mapping]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., transports: _Optional[_Iterable[str]] = ..., shared_memory: _Optional[_Union[SharedMemoryOffer, _Mapping]] = ..., networks: _Optional[_Iterable[_Union[NetworkDescription, _Mapping]]] = ..., device_memory: _Optional[_Union[DeviceMemoryOffer, _Mapping]] = ..., routes: _Optional[_Iterable[_Union[Route, _Mapping]]] = ...) -> None: ...

class Route(_message.Message):
    """Where the losses of one shape are computed, and why.

    Args:
        shape: The shape, for example "rowwise".
        losses: Names of the losses, as in LossDescription.
        backend: The backend for tensors of the host: "numpy" or "cupy".
        device_backend: The backend for tensors that are in device memory.
        reason: The reason, in words.
    """
    __slots__ = ("shape", "losses", "backend", "device_backend", "reason")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    DEVICE_BACKEND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    shape: str
    losses: _containers.RepeatedScalarFieldContainer[str]
    backend: str
    device_backend: str
    reason: str
    def __init__(self, shape: _Optional[str] = ..., losses: _Optional[_Iterable[str]] = ..., backend: _Optional[str] = ..., device_backend: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class DeviceMemoryOffer(_message.Message):
    """Devices whose memory a client that uses the same one can share with the server.

    Args:
        device_uuids: The UUID of each of them: 16 bytes, as CUDA tells them.
        bytes: Bytes that the server allocates at the same time, for all clients.
    """
    __slots__ = ("device_uuids", "bytes")
    DEVICE_UUIDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    device_uuids: _containers.RepeatedScalarFieldContainer[bytes]
    bytes: int
    def __init__(self, device_uuids: _Optional[_Iterable[bytes]] = ..., bytes: _Optional[int] = ...) -> None: ...

class NetworkDescription(_message.Message):
    """A network that the operator has installed.

    Args:
        name: Its name in requests.
        architecture: Its architecture, for example "vgg16"; "sequential" for one without a name.
        channels: Channels of the images that it takes.
        layers: Names of its layers, in order.
        lpips_layers: Names of the layers that it has linear heads for; empty where Lpips cannot use
            it.
        sha256: SHA-256 of the file of its weights, in hexadecimal.
    """
    __slots__ = ("name", "architecture", "channels", "layers", "lpips_layers", "sha256")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    LPIPS_LAYERS_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    name: str
    architecture: str
    channels: int
    layers: _containers.RepeatedScalarFieldContainer[str]
    lpips_layers: _containers.RepeatedScalarFieldContainer[str]
    sha256: str
    def __init__(self, name: _Optional[str] = ..., architecture: _Optional[str] = ..., channels: _Optional[int] = ..., layers: _Optional[_Iterable[str]] = ..., lpips_layers: _Optional[_Iterable[str]] = ..., sha256: _Optional[str] = ...) -> None: ...

class SharedMemoryOffer(_message.Message):
    """A directory whose files a client on the same host can share with the server.

    Args:
        directory: Absolute path of the directory, as the server sees it.
        beacon: Name of a file in it.
        beacon_content: The content of that file: a client that reads the same content sees the same
            directory.
        segment_bytes: How many bytes of segments the server accepts at a time, all together.
        segments: How many segments the server accepts at a time.
    """
    __slots__ = ("directory", "beacon", "beacon_content", "segment_bytes", "segments")
    DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    BEACON_FIELD_NUMBER: _ClassVar[int]
    BEACON_CONTENT_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    directory: str
    beacon: str
    beacon_content: bytes
    segment_bytes: int
    segments: int
    def __init__(self, directory: _Optional[str] = ..., beacon: _Optional[str] = ..., beacon_content: _Optional[bytes] = ..., segment_bytes: _Optional[int] = ..., segments: _Optional[int] = ...) -> None: ...

class LibraryVersion(_message.Message):
    """A library and its version.

    Args:
        name: Name of the distribution.
        version: Its version.
    """
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class Limits(_message.Message):
    """Limits of requests.

    Args:
        message_size_bytes: Bytes of one request. A reply may be larger, as one with many metrics
            is.
        tensors: Tensors of one request.
        axes: Axes of one tensor.
        concurrent_calls: How many calls are served at a time.
        inflight_bytes: Bytes of all requests in flight.
        network_bytes: Bytes that one image may take inside a network.
    """
    __slots__ = ("message_size_bytes", "tensors", "axes", "concurrent_calls", "inflight_bytes", "network_bytes")
    MESSAGE_SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TENSORS_FIELD_NUMBER: _ClassVar[int]
    AXES_FIELD_NUMBER: _ClassVar[int]
    CONCURRENT_CALLS_FIELD_NUMBER: _ClassVar[int]
    INFLIGHT_BYTES_FIELD_NUMBER: _ClassVar[int]
    NETWORK_BYTES_FIELD_NUMBER: _ClassVar[int]
    message_size_bytes: int
    tensors: int
    axes: int
    concurrent_calls: int
    inflight_bytes: int
    network_bytes: int
    def __init__(self, message_size_bytes: _Optional[int] = ..., tensors: _Optional[int] = ..., axes: _Optional[int] = ..., concurrent_calls: _Optional[int] = ..., inflight_bytes: _Optional[int] = ..., network_bytes: _Optional[int] = ...) -> None: ...
