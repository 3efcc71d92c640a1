from lossd.v1 import evaluation_pb2 as _evaluation_pb2
from lossd.v1 import loss_service_pb2 as _loss_service_pb2
from lossd.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EvaluateRequest(_message.Message):
    """The metrics to evaluate, and the data.

    Args:
        metrics: The metrics, in the order of the results. From 1 to 32, no two equal.
        states: States of earlier evaluations of these metrics. At most 1024.
        return_state: Whether to return the state. Default false.
        batch: The data; unset where only states are merged.
    """
    __slots__ = ("metrics", "states", "return_state", "batch")
    METRICS_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    RETURN_STATE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    metrics: _containers.RepeatedCompositeFieldContainer[_evaluation_pb2.MetricSpec]
    states: _containers.RepeatedScalarFieldContainer[bytes]
    return_state: bool
    batch: EvaluationBatch
    def __init__(self, metrics: _Optional[_Iterable[_Union[_evaluation_pb2.MetricSpec, _Mapping]]] = ..., states: _Optional[_Iterable[bytes]] = ..., return_state: bool = ..., batch: _Optional[_Union[EvaluationBatch, _Mapping]] = ...) -> None: ...

class EvaluationBatch(_message.Message):
    """Predictions, targets, and which examples count. Tensors have their elements in the message
    itself.

    Args:
        weights: One weight for each example, each in [0, inf); unset for 1.
        mask: BOOL, one for each example: true keeps it, false ignores it; unset keeps all.
        inputs: The tensors that the metrics take, each name once. At most 64 tensors in all.
        sequences: The sequences that the metrics take, each name once. At most 64.
    """
    __slots__ = ("weights", "mask", "inputs", "sequences")
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    weights: _tensor_pb2.Tensor
    mask: _tensor_pb2.Tensor
    inputs: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensors]
    sequences: _containers.RepeatedCompositeFieldContainer[NamedSequences]
    def __init__(self, weights: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., mask: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensors, _Mapping]]] = ..., sequences: _Optional[_Iterable[_Union[NamedSequences, _Mapping]]] = ...) -> None: ...

class NamedSequences(_message.Message):
    """Texts, or sequences of token ids, one after another.

    Args:
        name: Name of the input, for example "hypotheses".
        texts: The texts. At most 1048576.
        tokens: Instead of texts: the token ids of all sequences, one after another, integers of any
            type.
        lengths: Number of tokens of each sequence, INT64; with tokens only. At most 1048576.
        counts: Number of sequences of each example, INT64; unset for one each. For references.
    """
    __slots__ = ("name", "texts", "tokens", "lengths", "counts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    tokens: _tensor_pb2.Tensor
    lengths: _tensor_pb2.Tensor
    counts: _tensor_pb2.Tensor
    def __init__(self, name: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ..., tokens: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., lengths: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., counts: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class EvaluateResponse(_message.Message):
    """The results, in the order of the metrics.

    Args:
        results: One result for each metric.
        state: The state of what was evaluated, to be merged with others; empty unless asked for.
            Any server of the same version can read it, and nothing else can.
        server_timing: Where the time went on the server.
    """
    __slots__ = ("results", "state", "server_timing")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIMING_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[_loss_service_pb2.MetricResult]
    state: bytes
    server_timing: _loss_service_pb2.ServerTiming
    def __init__(self, results: _Optional[_Iterable[_Union[_loss_service_pb2.MetricResult, _Mapping]]] = ..., state: _Optional[bytes] = ..., server_timing: _Optional[_Union[_loss_service_pb2.ServerTiming, _Mapping]] = ...) -> None: ...

class EvaluateStreamRequest(_message.Message):
    """One part of an evaluation. The first names the metrics; in the others they are unset. Any part
    may hold states, a batch, and ask for the state.

    Args:
        part: The part.
    """
    __slots__ = ("part",)
    PART_FIELD_NUMBER: _ClassVar[int]
    part: EvaluateRequest
    def __init__(self, part: _Optional[_Union[EvaluateRequest, _Mapping]] = ...) -> None: ...

class EvaluateStreamResponse(_message.Message):
    """The results of all parts.

    Args:
        whole: The results.
    """
    __slots__ = ("whole",)
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    whole: EvaluateResponse
    def __init__(self, whole: _Optional[_Union[EvaluateResponse, _Mapping]] = ...) -> None: ...

class ListMetricsRequest(_message.Message):
    """Asks for the catalogue of metrics."""
    __slots__ = ()
    def __init__(self) -> None: ...

class ListMetricsResponse(_message.Message):
    """The catalogue of metrics.

    Args:
        metrics: One entry for each metric, by name.
    """
    __slots__ = ("metrics",)
    METRICS_FIELD_NUMBER: _ClassVar[int]
    metrics: _containers.RepeatedCompositeFieldContainer[MetricDescription]
    def __init__(self, metrics: _Optional[_Iterable[_Union[MetricDescription, _Mapping]]] = ...) -> None: ...

class MetricDescription(_message.Message):
    """The description of one metric.

    Args:
        name: Name of the member of MetricSpec, for example "roc_auc".
        message: Name of the message, for example "RocAuc".
        summary: One line that says what it measures.
        formula: The formula, as plain text.
        reference: Where it comes from: author, year, section.
        inputs: The inputs, in positional order; none may be left out.
        parameters: The parameters. None has a gradient.
        surrogate: Name of the member of LossSpec to train with in place of the metric, for example
            "pairwise_auc".
    """
    __slots__ = ("name", "message", "summary", "formula", "reference", "inputs", "parameters", "surrogate")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    FORMULA_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SURROGATE_FIELD_NUMBER: _ClassVar[int]
    name: str
    message: str
    summary: str
    formula: str
    reference: str
    inputs: _containers.RepeatedCompositeFieldContainer[MetricInputDescription]
    parameters: _containers.RepeatedCompositeFieldContainer[_loss_service_pb2.ParameterDescription]
    surrogate: str
    def __init__(self, name: _Optional[str] = ..., message: _Optional[str] = ..., summary: _Optional[str] = ..., formula: _Optional[str] = ..., reference: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[MetricInputDescription, _Mapping]]] = ..., parameters: _Optional[_Iterable[_Union[_loss_service_pb2.ParameterDescription, _Mapping]]] = ..., surrogate: _Optional[str] = ...) -> None: ...

class MetricInputDescription(_message.Message):
    """One input of a metric.

    Args:
        name: Its name.
        description: One line that says what it holds.
        shapes: The shapes it may have, for example "(N, ..., C)", or what its sequences are.
        sequences: Whether it is given as sequences, in NamedSequences, and not as a tensor.
    """
    __slots__ = ("name", "description", "shapes", "sequences")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    SHAPES_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    shapes: _containers.RepeatedScalarFieldContainer[str]
    sequences: bool
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., shapes: _Optional[_Iterable[str]] = ..., sequences: bool = ...) -> None: ...
