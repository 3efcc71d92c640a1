from lossd.v1 import evaluation_pb2 as _evaluation_pb2
from lossd.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EvaluationState(_message.Message):
    """The states of several metrics. Encoded states joined end to end are a state, too.

    Args:
        metrics: One entry for each metric and part.
    """
    __slots__ = ("metrics",)
    METRICS_FIELD_NUMBER: _ClassVar[int]
    metrics: _containers.RepeatedCompositeFieldContainer[MetricState]
    def __init__(self, metrics: _Optional[_Iterable[_Union[MetricState, _Mapping]]] = ...) -> None: ...

class MetricState(_message.Message):
    """The state of one metric: what it keeps of the data so far.

    Args:
        version: Version of this format: 2.
        metric: The metric, with its parameters.
        task: The task that follows from the inputs; unset where there is none. One of:
            "BINARY": Yes or no: predictions and targets of one shape, one element for each example.
            "MULTICLASS": One of several classes: scores (N, ..., C) or class indices (N, ...);
                targets (N, ...).
            "MULTILABEL": Yes or no for each of several labels: predictions and targets (N, ..., L).
        width: Number of classes, labels or outputs that follows from the inputs; unset where it
            does not.
        example_count: Number of examples that were kept.
        ignored_count: Number of examples that were ignored.
        silent_count: Number of kept examples whose weight is 0.
        nonfinite_count: Number of kept examples whose predictions are not numbers.
        tallies: Exact sums, by name.
        columns: Rows that are kept unchanged, by name of the column.
    """
    __slots__ = ("version", "metric", "task", "width", "example_count", "ignored_count", "silent_count", "nonfinite_count", "tallies", "columns")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    EXAMPLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    IGNORED_COUNT_FIELD_NUMBER: _ClassVar[int]
    SILENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    NONFINITE_COUNT_FIELD_NUMBER: _ClassVar[int]
    TALLIES_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    version: int
    metric: _evaluation_pb2.MetricSpec
    task: _evaluation_pb2.ClassificationTask
    width: int
    example_count: int
    ignored_count: int
    silent_count: int
    nonfinite_count: int
    tallies: _containers.RepeatedCompositeFieldContainer[TallyState]
    columns: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.NamedTensors]
    def __init__(self, version: _Optional[int] = ..., metric: _Optional[_Union[_evaluation_pb2.MetricSpec, _Mapping]] = ..., task: _Optional[_Union[_evaluation_pb2.ClassificationTask, str]] = ..., width: _Optional[int] = ..., example_count: _Optional[int] = ..., ignored_count: _Optional[int] = ..., silent_count: _Optional[int] = ..., nonfinite_count: _Optional[int] = ..., tallies: _Optional[_Iterable[_Union[TallyState, _Mapping]]] = ..., columns: _Optional[_Iterable[_Union[_tensor_pb2.NamedTensors, _Mapping]]] = ...) -> None: ...

class TallyState(_message.Message):
    """An array of exact sums: integers plus multiples of 2^-3381.

    Args:
        name: Its name.
        integers: INT64: the integers.
        indices: INT64: flat indices of the elements that have a fraction, ascending.
        fractions: Their fractions, as signed integers in two's complement, little endian. At most
            900 bytes each.
    """
    __slots__ = ("name", "integers", "indices", "fractions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INTEGERS_FIELD_NUMBER: _ClassVar[int]
    INDICES_FIELD_NUMBER: _ClassVar[int]
    FRACTIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    integers: _tensor_pb2.Tensor
    indices: _tensor_pb2.Tensor
    fractions: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, name: _Optional[str] = ..., integers: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., indices: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., fractions: _Optional[_Iterable[bytes]] = ...) -> None: ...
