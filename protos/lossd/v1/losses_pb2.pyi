from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CrossEntropyOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CROSS_ENTROPY_OUTPUT_UNSPECIFIED: _ClassVar[CrossEntropyOutput]
    CROSS_ENTROPY_OUTPUT_LOG_SUM_EXP: _ClassVar[CrossEntropyOutput]
    CROSS_ENTROPY_OUTPUT_TARGET_LOG_PROBABILITY: _ClassVar[CrossEntropyOutput]
    CROSS_ENTROPY_OUTPUT_ENTROPY: _ClassVar[CrossEntropyOutput]
    CROSS_ENTROPY_OUTPUT_PREDICTED_CLASS: _ClassVar[CrossEntropyOutput]

class DistributionKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISTRIBUTION_KIND_UNSPECIFIED: _ClassVar[DistributionKind]
    DISTRIBUTION_KIND_LOGITS: _ClassVar[DistributionKind]
    DISTRIBUTION_KIND_LOG_PROBABILITIES: _ClassVar[DistributionKind]
    DISTRIBUTION_KIND_PROBABILITIES: _ClassVar[DistributionKind]
CROSS_ENTROPY_OUTPUT_UNSPECIFIED: CrossEntropyOutput
CROSS_ENTROPY_OUTPUT_LOG_SUM_EXP: CrossEntropyOutput
CROSS_ENTROPY_OUTPUT_TARGET_LOG_PROBABILITY: CrossEntropyOutput
CROSS_ENTROPY_OUTPUT_ENTROPY: CrossEntropyOutput
CROSS_ENTROPY_OUTPUT_PREDICTED_CLASS: CrossEntropyOutput
DISTRIBUTION_KIND_UNSPECIFIED: DistributionKind
DISTRIBUTION_KIND_LOGITS: DistributionKind
DISTRIBUTION_KIND_LOG_PROBABILITIES: DistributionKind
DISTRIBUTION_KIND_PROBABILITIES: DistributionKind

class LossSpec(_message.Message):
    __slots__ = ("squared_error", "absolute_error", "huber", "cross_entropy", "binary_cross_entropy")
    SQUARED_ERROR_FIELD_NUMBER: _ClassVar[int]
    ABSOLUTE_ERROR_FIELD_NUMBER: _ClassVar[int]
    HUBER_FIELD_NUMBER: _ClassVar[int]
    CROSS_ENTROPY_FIELD_NUMBER: _ClassVar[int]
    BINARY_CROSS_ENTROPY_FIELD_NUMBER: _ClassVar[int]
    squared_error: SquaredError
    absolute_error: AbsoluteError
    huber: Huber
    cross_entropy: CrossEntropy
    binary_cross_entropy: BinaryCrossEntropy
    def __init__(self, squared_error: _Optional[_Union[SquaredError, _Mapping]] = ..., absolute_error: _Optional[_Union[AbsoluteError, _Mapping]] = ..., huber: _Optional[_Union[Huber, _Mapping]] = ..., cross_entropy: _Optional[_Union[CrossEntropy, _Mapping]] = ..., binary_cross_entropy: _Optional[_Union[BinaryCrossEntropy, _Mapping]] = ...) -> None: ...

class SquaredError(_message.Message):
    __slots__ = ("batch_dims",)
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    def __init__(self, batch_dims: _Optional[int] = ...) -> None: ...

class AbsoluteError(_message.Message):
    __slots__ = ("batch_dims",)
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    def __init__(self, batch_dims: _Optional[int] = ...) -> None: ...

class Huber(_message.Message):
    __slots__ = ("batch_dims", "delta")
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    delta: float
    def __init__(self, batch_dims: _Optional[int] = ..., delta: _Optional[float] = ...) -> None: ...

class CrossEntropy(_message.Message):
    __slots__ = ("prediction_kind", "class_weights", "ignore_index", "label_smoothing", "class_axis", "temperature", "class_priors", "prior_strength", "z_loss", "outputs")
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    CLASS_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    LABEL_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    CLASS_AXIS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    CLASS_PRIORS_FIELD_NUMBER: _ClassVar[int]
    PRIOR_STRENGTH_FIELD_NUMBER: _ClassVar[int]
    Z_LOSS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    prediction_kind: DistributionKind
    class_weights: _containers.RepeatedScalarFieldContainer[float]
    ignore_index: int
    label_smoothing: float
    class_axis: int
    temperature: float
    class_priors: _containers.RepeatedScalarFieldContainer[float]
    prior_strength: float
    z_loss: float
    outputs: _containers.RepeatedScalarFieldContainer[CrossEntropyOutput]
    def __init__(self, prediction_kind: _Optional[_Union[DistributionKind, str]] = ..., class_weights: _Optional[_Iterable[float]] = ..., ignore_index: _Optional[int] = ..., label_smoothing: _Optional[float] = ..., class_axis: _Optional[int] = ..., temperature: _Optional[float] = ..., class_priors: _Optional[_Iterable[float]] = ..., prior_strength: _Optional[float] = ..., z_loss: _Optional[float] = ..., outputs: _Optional[_Iterable[_Union[CrossEntropyOutput, str]]] = ...) -> None: ...

class BinaryCrossEntropy(_message.Message):
    __slots__ = ("batch_dims", "prediction_kind", "positive_weights", "label_smoothing")
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    POSITIVE_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    LABEL_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    prediction_kind: DistributionKind
    positive_weights: _containers.RepeatedScalarFieldContainer[float]
    label_smoothing: float
    def __init__(self, batch_dims: _Optional[int] = ..., prediction_kind: _Optional[_Union[DistributionKind, str]] = ..., positive_weights: _Optional[_Iterable[float]] = ..., label_smoothing: _Optional[float] = ...) -> None: ...
