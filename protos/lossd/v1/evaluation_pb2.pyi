from lossd.v1 import losses_pb2 as _losses_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClassificationTask(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLASSIFICATION_TASK_UNSPECIFIED: _ClassVar[ClassificationTask]
    CLASSIFICATION_TASK_BINARY: _ClassVar[ClassificationTask]
    CLASSIFICATION_TASK_MULTICLASS: _ClassVar[ClassificationTask]
    CLASSIFICATION_TASK_MULTILABEL: _ClassVar[ClassificationTask]

class Average(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AVERAGE_UNSPECIFIED: _ClassVar[Average]
    AVERAGE_MICRO: _ClassVar[Average]
    AVERAGE_MACRO: _ClassVar[Average]
    AVERAGE_WEIGHTED: _ClassVar[Average]
    AVERAGE_NONE: _ClassVar[Average]

class ZeroDivision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ZERO_DIVISION_UNSPECIFIED: _ClassVar[ZeroDivision]
    ZERO_DIVISION_ZERO: _ClassVar[ZeroDivision]
    ZERO_DIVISION_ONE: _ClassVar[ZeroDivision]
    ZERO_DIVISION_EXCLUDE: _ClassVar[ZeroDivision]

class MultilabelAccuracy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MULTILABEL_ACCURACY_UNSPECIFIED: _ClassVar[MultilabelAccuracy]
    MULTILABEL_ACCURACY_EXACT_MATCH: _ClassVar[MultilabelAccuracy]
    MULTILABEL_ACCURACY_ELEMENTWISE: _ClassVar[MultilabelAccuracy]

class Normalization(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NORMALIZATION_UNSPECIFIED: _ClassVar[Normalization]
    NORMALIZATION_NONE: _ClassVar[Normalization]
    NORMALIZATION_TARGETS: _ClassVar[Normalization]
    NORMALIZATION_PREDICTIONS: _ClassVar[Normalization]
    NORMALIZATION_ALL: _ClassVar[Normalization]

class Multiclass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MULTICLASS_UNSPECIFIED: _ClassVar[Multiclass]
    MULTICLASS_ONE_VS_REST: _ClassVar[Multiclass]
    MULTICLASS_ONE_VS_ONE: _ClassVar[Multiclass]

class CalibrationNorm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CALIBRATION_NORM_UNSPECIFIED: _ClassVar[CalibrationNorm]
    CALIBRATION_NORM_L1: _ClassVar[CalibrationNorm]
    CALIBRATION_NORM_L2: _ClassVar[CalibrationNorm]
    CALIBRATION_NORM_MAX: _ClassVar[CalibrationNorm]

class RegressionError(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REGRESSION_ERROR_UNSPECIFIED: _ClassVar[RegressionError]
    REGRESSION_ERROR_MSE: _ClassVar[RegressionError]
    REGRESSION_ERROR_RMSE: _ClassVar[RegressionError]
    REGRESSION_ERROR_MAE: _ClassVar[RegressionError]
    REGRESSION_ERROR_R2: _ClassVar[RegressionError]

class BleuSmoothing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BLEU_SMOOTHING_UNSPECIFIED: _ClassVar[BleuSmoothing]
    BLEU_SMOOTHING_NONE: _ClassVar[BleuSmoothing]
    BLEU_SMOOTHING_FLOOR: _ClassVar[BleuSmoothing]
    BLEU_SMOOTHING_ADD_K: _ClassVar[BleuSmoothing]
    BLEU_SMOOTHING_EXPONENTIAL: _ClassVar[BleuSmoothing]

class BleuTokenizer(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BLEU_TOKENIZER_UNSPECIFIED: _ClassVar[BleuTokenizer]
    BLEU_TOKENIZER_NONE: _ClassVar[BleuTokenizer]
    BLEU_TOKENIZER_MTEVAL_13A: _ClassVar[BleuTokenizer]
    BLEU_TOKENIZER_INTERNATIONAL: _ClassVar[BleuTokenizer]
    BLEU_TOKENIZER_CHARACTER: _ClassVar[BleuTokenizer]
    BLEU_TOKENIZER_CHINESE: _ClassVar[BleuTokenizer]

class TextLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TEXT_LEVEL_UNSPECIFIED: _ClassVar[TextLevel]
    TEXT_LEVEL_CORPUS: _ClassVar[TextLevel]
    TEXT_LEVEL_SENTENCE: _ClassVar[TextLevel]

class TextUnit(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TEXT_UNIT_UNSPECIFIED: _ClassVar[TextUnit]
    TEXT_UNIT_WORDS: _ClassVar[TextUnit]
    TEXT_UNIT_CHARACTERS: _ClassVar[TextUnit]

class RetrievalMeasure(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RETRIEVAL_MEASURE_UNSPECIFIED: _ClassVar[RetrievalMeasure]
    RETRIEVAL_MEASURE_NDCG: _ClassVar[RetrievalMeasure]
    RETRIEVAL_MEASURE_MRR: _ClassVar[RetrievalMeasure]
    RETRIEVAL_MEASURE_MAP: _ClassVar[RetrievalMeasure]
    RETRIEVAL_MEASURE_RECALL: _ClassVar[RetrievalMeasure]

class RetrievalGain(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RETRIEVAL_GAIN_UNSPECIFIED: _ClassVar[RetrievalGain]
    RETRIEVAL_GAIN_LINEAR: _ClassVar[RetrievalGain]
    RETRIEVAL_GAIN_EXPONENTIAL: _ClassVar[RetrievalGain]

class NoRelevant(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NO_RELEVANT_UNSPECIFIED: _ClassVar[NoRelevant]
    NO_RELEVANT_EXCLUDE: _ClassVar[NoRelevant]
    NO_RELEVANT_ZERO: _ClassVar[NoRelevant]
    NO_RELEVANT_ONE: _ClassVar[NoRelevant]
CLASSIFICATION_TASK_UNSPECIFIED: ClassificationTask
CLASSIFICATION_TASK_BINARY: ClassificationTask
CLASSIFICATION_TASK_MULTICLASS: ClassificationTask
CLASSIFICATION_TASK_MULTILABEL: ClassificationTask
AVERAGE_UNSPECIFIED: Average
AVERAGE_MICRO: Average
AVERAGE_MACRO: Average
AVERAGE_WEIGHTED: Average
AVERAGE_NONE: Average
ZERO_DIVISION_UNSPECIFIED: ZeroDivision
ZERO_DIVISION_ZERO: ZeroDivision
ZERO_DIVISION_ONE: ZeroDivision
ZERO_DIVISION_EXCLUDE: ZeroDivision
MULTILABEL_ACCURACY_UNSPECIFIED: MultilabelAccuracy
MULTILABEL_ACCURACY_EXACT_MATCH: MultilabelAccuracy
MULTILABEL_ACCURACY_ELEMENTWISE: MultilabelAccuracy
NORMALIZATION_UNSPECIFIED: Normalization
NORMALIZATION_NONE: Normalization
NORMALIZATION_TARGETS: Normalization
NORMALIZATION_PREDICTIONS: Normalization
NORMALIZATION_ALL: Normalization
MULTICLASS_UNSPECIFIED: Multiclass
MULTICLASS_ONE_VS_REST: Multiclass
MULTICLASS_ONE_VS_ONE: Multiclass
CALIBRATION_NORM_UNSPECIFIED: CalibrationNorm
CALIBRATION_NORM_L1: CalibrationNorm
CALIBRATION_NORM_L2: CalibrationNorm
CALIBRATION_NORM_MAX: CalibrationNorm
REGRESSION_ERROR_UNSPECIFIED: RegressionError
REGRESSION_ERROR_MSE: RegressionError
REGRESSION_ERROR_RMSE: RegressionError
REGRESSION_ERROR_MAE: RegressionError
REGRESSION_ERROR_R2: RegressionError
BLEU_SMOOTHING_UNSPECIFIED: BleuSmoothing
BLEU_SMOOTHING_NONE: BleuSmoothing
BLEU_SMOOTHING_FLOOR: BleuSmoothing
BLEU_SMOOTHING_ADD_K: BleuSmoothing
BLEU_SMOOTHING_EXPONENTIAL: BleuSmoothing
BLEU_TOKENIZER_UNSPECIFIED: BleuTokenizer
BLEU_TOKENIZER_NONE: BleuTokenizer
BLEU_TOKENIZER_MTEVAL_13A: BleuTokenizer
BLEU_TOKENIZER_INTERNATIONAL: BleuTokenizer
BLEU_TOKENIZER_CHARACTER: BleuTokenizer
BLEU_TOKENIZER_CHINESE: BleuTokenizer
TEXT_LEVEL_UNSPECIFIED: TextLevel
TEXT_LEVEL_CORPUS: TextLevel
TEXT_LEVEL_SENTENCE: TextLevel
TEXT_UNIT_UNSPECIFIED: TextUnit
TEXT_UNIT_WORDS: TextUnit
TEXT_UNIT_CHARACTERS: TextUnit
RETRIEVAL_MEASURE_UNSPECIFIED: RetrievalMeasure
RETRIEVAL_MEASURE_NDCG: RetrievalMeasure
RETRIEVAL_MEASURE_MRR: RetrievalMeasure
RETRIEVAL_MEASURE_MAP: RetrievalMeasure
RETRIEVAL_MEASURE_RECALL: RetrievalMeasure
RETRIEVAL_GAIN_UNSPECIFIED: RetrievalGain
RETRIEVAL_GAIN_LINEAR: RetrievalGain
RETRIEVAL_GAIN_EXPONENTIAL: RetrievalGain
NO_RELEVANT_UNSPECIFIED: NoRelevant
NO_RELEVANT_EXCLUDE: NoRelevant
NO_RELEVANT_ZERO: NoRelevant
NO_RELEVANT_ONE: NoRelevant

class MetricSpec(_message.Message):
    __slots__ = ("accuracy", "precision", "recall", "f1", "f_beta", "matthews_correlation", "confusion_matrix", "roc_auc", "average_precision", "log_loss", "brier", "calibration_error", "regression_errors", "bleu", "chrf", "word_error_rate", "perplexity", "retrieval_at_k")
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    RECALL_FIELD_NUMBER: _ClassVar[int]
    F1_FIELD_NUMBER: _ClassVar[int]
    F_BETA_FIELD_NUMBER: _ClassVar[int]
    MATTHEWS_CORRELATION_FIELD_NUMBER: _ClassVar[int]
    CONFUSION_MATRIX_FIELD_NUMBER: _ClassVar[int]
    ROC_AUC_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_PRECISION_FIELD_NUMBER: _ClassVar[int]
    LOG_LOSS_FIELD_NUMBER: _ClassVar[int]
    BRIER_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_ERROR_FIELD_NUMBER: _ClassVar[int]
    REGRESSION_ERRORS_FIELD_NUMBER: _ClassVar[int]
    BLEU_FIELD_NUMBER: _ClassVar[int]
    CHRF_FIELD_NUMBER: _ClassVar[int]
    WORD_ERROR_RATE_FIELD_NUMBER: _ClassVar[int]
    PERPLEXITY_FIELD_NUMBER: _ClassVar[int]
    RETRIEVAL_AT_K_FIELD_NUMBER: _ClassVar[int]
    accuracy: Accuracy
    precision: Precision
    recall: Recall
    f1: F1
    f_beta: FBeta
    matthews_correlation: MatthewsCorrelation
    confusion_matrix: ConfusionMatrix
    roc_auc: RocAuc
    average_precision: AveragePrecision
    log_loss: LogLoss
    brier: Brier
    calibration_error: CalibrationError
    regression_errors: RegressionErrors
    bleu: Bleu
    chrf: Chrf
    word_error_rate: WordErrorRate
    perplexity: Perplexity
    retrieval_at_k: RetrievalAtK
    def __init__(self, accuracy: _Optional[_Union[Accuracy, _Mapping]] = ..., precision: _Optional[_Union[Precision, _Mapping]] = ..., recall: _Optional[_Union[Recall, _Mapping]] = ..., f1: _Optional[_Union[F1, _Mapping]] = ..., f_beta: _Optional[_Union[FBeta, _Mapping]] = ..., matthews_correlation: _Optional[_Union[MatthewsCorrelation, _Mapping]] = ..., confusion_matrix: _Optional[_Union[ConfusionMatrix, _Mapping]] = ..., roc_auc: _Optional[_Union[RocAuc, _Mapping]] = ..., average_precision: _Optional[_Union[AveragePrecision, _Mapping]] = ..., log_loss: _Optional[_Union[LogLoss, _Mapping]] = ..., brier: _Optional[_Union[Brier, _Mapping]] = ..., calibration_error: _Optional[_Union[CalibrationError, _Mapping]] = ..., regression_errors: _Optional[_Union[RegressionErrors, _Mapping]] = ..., bleu: _Optional[_Union[Bleu, _Mapping]] = ..., chrf: _Optional[_Union[Chrf, _Mapping]] = ..., word_error_rate: _Optional[_Union[WordErrorRate, _Mapping]] = ..., perplexity: _Optional[_Union[Perplexity, _Mapping]] = ..., retrieval_at_k: _Optional[_Union[RetrievalAtK, _Mapping]] = ...) -> None: ...

class Accuracy(_message.Message):
    __slots__ = ("task", "prediction_kind", "threshold", "ignore_index", "classes", "top_k", "balanced", "multilabel")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    BALANCED_FIELD_NUMBER: _ClassVar[int]
    MULTILABEL_FIELD_NUMBER: _ClassVar[int]
    task: ClassificationTask
    prediction_kind: _losses_pb2.DistributionKind
    threshold: float
    ignore_index: int
    classes: int
    top_k: int
    balanced: bool
    multilabel: MultilabelAccuracy
    def __init__(self, task: _Optional[_Union[ClassificationTask, str]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, str]] = ..., threshold: _Optional[float] = ..., ignore_index: _Optional[int] = ..., classes: _Optional[int] = ..., top_k: _Optional[int] = ..., balanced: bool = ..., multilabel: _Optional[_Union[MultilabelAccuracy, str]] = ...) -> None: ...

class Precision(_message.Message):
    __slots__ = ("task", "prediction_kind", "threshold", "ignore_index", "classes", "average", "zero_division")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_FIELD_NUMBER: _ClassVar[int]
    ZERO_DIVISION_FIELD_NUMBER: _ClassVar[int]
    task: ClassificationTask
    prediction_kind: _losses_pb2.DistributionKind
    threshold: float
    ignore_index: int
    classes: int
    average: Average
    zero_division: ZeroDivision
    def __init__(self, task: _Optional[_Union[ClassificationTask, str]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, str]] = ..., threshold: _Optional[float] = ..., ignore_index: _Optional[int] = ..., classes: _Optional[int] = ..., average: _Optional[_Union[Average, str]] = ..., zero_division: _Optional[_Union[ZeroDivision, str]] = ...) -> None: ...

class Recall(_message.Message):
    __slots__ = ("task", "prediction_kind", "threshold", "ignore_index", "classes", "average", "zero_division")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_FIELD_NUMBER: _ClassVar[int]
    ZERO_DIVISION_FIELD_NUMBER: _ClassVar[int]
    task: ClassificationTask
    prediction_kind: _losses_pb2.DistributionKind
    threshold: float
    ignore_index: int
    classes: int
    average: Average
    zero_division: ZeroDivision
    def __init__(self, task: _Optional[_Union[ClassificationTask, str]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, str]] = ..., threshold: _Optional[float] = ..., ignore_index: _Optional[int] = ..., classes: _Optional[int] = ..., average: _Optional[_Union[Average, str]] = ..., zero_division: _Optional[_Union[ZeroDivision, str]] = ...) -> None: ...

class F1(_message.Message):
    __slots__ = ("task", "prediction_kind", "threshold", "ignore_index", "classes", "average", "zero_division")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_FIELD_NUMBER: _ClassVar[int]
    ZERO_DIVISION_FIELD_NUMBER: _ClassVar[int]
    task: ClassificationTask
    prediction_kind: _losses_pb2.DistributionKind
    threshold: float
    ignore_index: int
    classes: int
    average: Average
    zero_division: ZeroDivision
    def __init__(self, task: _Optional[_Union[ClassificationTask, str]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, str]] = ..., threshold: _Optional[float] = ..., ignore_index: _Optional[int] = ..., classes: _Optional[int] = ..., average: _Optional[_Union[Average, str]] = ..., zero_division: _Optional[_Union[ZeroDivision, str]] = ...) -> None: ...

class FBeta(_message.Message):
    __slots__ = ("task", "prediction_kind", "threshold", "ignore_index", "classes", "average", "zero_division", "beta")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_FIELD_NUMBER: _ClassVar[int]
    ZERO_DIVISION_FIELD_NUMBER: _ClassVar[int]
    BETA_FIELD_NUMBER: _ClassVar[int]
    task: ClassificationTask
    prediction_kind: _losses_pb2.DistributionKind
    threshold: float
    ignore_index: int
    classes: int
    average: Average
    zero_division: ZeroDivision
    beta: float
    def __init__(self, task: _Optional[_Union[ClassificationTask, str]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, str]] = ..., threshold: _Optional[float] = ..., ignore_index: _Optional[int] = ..., classes: _Optional[int] = ..., average: _Optional[_Union[Average, str]] = ..., zero_division: _Optional[_Union[ZeroDivision, str]] = ..., beta: _Optional[float] = ...) -> None: ...

class MatthewsCorrelation(_message.Message):
    __slots__ = ("task", "prediction_kind", "threshold", "ignore_index", "classes")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    task: ClassificationTask
    prediction_kind: _losses_pb2.DistributionKind
    threshold: float
    ignore_index: int
    classes: int
    def __init__(self, task: _Optional[_Union[ClassificationTask, str]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, str]] = ..., threshold: _Optional[float] = ..., ignore_index: _Optional[int] = ..., classes: _Optional[int] = ...) -> None: ...

class ConfusionMatrix(_message.Message):
    __slots__ = ("task", "prediction_kind", "threshold", "ignore_index", "classes", "normalization")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    NORMALIZATION_FIELD_NUMBER: _ClassVar[int]
    task: ClassificationTask
    prediction_kind: _losses_pb2.DistributionKind
    threshold: float
    ignore_index: int
    classes: int
    normalization: Normalization
    def __init__(self, task: _Optional[_Union[ClassificationTask, str]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, str]] = ..., threshold: _Optional[float] = ..., ignore_index: _Optional[int] = ..., classes: _Optional[int] = ..., normalization: _Optional[_Union[Normalization, str]] = ...) -> None: ...

class RocAuc(_message.Message):
    __slots__ = ("task", "prediction_kind", "ignore_index", "average", "multiclass", "max_fpr")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_FIELD_NUMBER: _ClassVar[int]
    MULTICLASS_FIELD_NUMBER: _ClassVar[int]
    MAX_FPR_FIELD_NUMBER: _ClassVar[int]
    task: ClassificationTask
    prediction_kind: _losses_pb2.DistributionKind
    ignore_index: int
    average: Average
    multiclass: Multiclass
    max_fpr: float
    def __init__(self, task: _Optional[_Union[ClassificationTask, str]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, str]] = ..., ignore_index: _Optional[int] = ..., average: _Optional[_Union[Average, str]] = ..., multiclass: _Optional[_Union[Multiclass, str]] = ..., max_fpr: _Optional[float] = ...) -> None: ...

class AveragePrecision(_message.Message):
    __slots__ = ("task", "prediction_kind", "ignore_index", "average")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_FIELD_NUMBER: _ClassVar[int]
    task: ClassificationTask
    prediction_kind: _losses_pb2.DistributionKind
    ignore_index: int
    average: Average
    def __init__(self, task: _Optional[_Union[ClassificationTask, str]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, str]] = ..., ignore_index: _Optional[int] = ..., average: _Optional[_Union[Average, str]] = ...) -> None: ...

class LogLoss(_message.Message):
    __slots__ = ("task", "prediction_kind", "ignore_index")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    task: ClassificationTask
    prediction_kind: _losses_pb2.DistributionKind
    ignore_index: int
    def __init__(self, task: _Optional[_Union[ClassificationTask, str]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, str]] = ..., ignore_index: _Optional[int] = ...) -> None: ...

class Brier(_message.Message):
    __slots__ = ("task", "prediction_kind", "ignore_index", "scale_by_half")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    SCALE_BY_HALF_FIELD_NUMBER: _ClassVar[int]
    task: ClassificationTask
    prediction_kind: _losses_pb2.DistributionKind
    ignore_index: int
    scale_by_half: bool
    def __init__(self, task: _Optional[_Union[ClassificationTask, str]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, str]] = ..., ignore_index: _Optional[int] = ..., scale_by_half: bool = ...) -> None: ...

class CalibrationError(_message.Message):
    __slots__ = ("task", "prediction_kind", "ignore_index", "bins", "norm")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    BINS_FIELD_NUMBER: _ClassVar[int]
    NORM_FIELD_NUMBER: _ClassVar[int]
    task: ClassificationTask
    prediction_kind: _losses_pb2.DistributionKind
    ignore_index: int
    bins: int
    norm: CalibrationNorm
    def __init__(self, task: _Optional[_Union[ClassificationTask, str]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, str]] = ..., ignore_index: _Optional[int] = ..., bins: _Optional[int] = ..., norm: _Optional[_Union[CalibrationNorm, str]] = ...) -> None: ...

class RegressionErrors(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: RegressionError
    def __init__(self, error: _Optional[_Union[RegressionError, str]] = ...) -> None: ...

class Bleu(_message.Message):
    __slots__ = ("order", "smoothing", "smoothing_value", "effective_order", "tokenizer", "lowercase", "level")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    SMOOTHING_VALUE_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_ORDER_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FIELD_NUMBER: _ClassVar[int]
    LOWERCASE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    order: int
    smoothing: BleuSmoothing
    smoothing_value: float
    effective_order: bool
    tokenizer: BleuTokenizer
    lowercase: bool
    level: TextLevel
    def __init__(self, order: _Optional[int] = ..., smoothing: _Optional[_Union[BleuSmoothing, str]] = ..., smoothing_value: _Optional[float] = ..., effective_order: bool = ..., tokenizer: _Optional[_Union[BleuTokenizer, str]] = ..., lowercase: bool = ..., level: _Optional[_Union[TextLevel, str]] = ...) -> None: ...

class Chrf(_message.Message):
    __slots__ = ("char_order", "word_order", "beta", "lowercase", "whitespace", "level")
    CHAR_ORDER_FIELD_NUMBER: _ClassVar[int]
    WORD_ORDER_FIELD_NUMBER: _ClassVar[int]
    BETA_FIELD_NUMBER: _ClassVar[int]
    LOWERCASE_FIELD_NUMBER: _ClassVar[int]
    WHITESPACE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    char_order: int
    word_order: int
    beta: float
    lowercase: bool
    whitespace: bool
    level: TextLevel
    def __init__(self, char_order: _Optional[int] = ..., word_order: _Optional[int] = ..., beta: _Optional[float] = ..., lowercase: bool = ..., whitespace: bool = ..., level: _Optional[_Union[TextLevel, str]] = ...) -> None: ...

class WordErrorRate(_message.Message):
    __slots__ = ("unit", "lowercase")
    UNIT_FIELD_NUMBER: _ClassVar[int]
    LOWERCASE_FIELD_NUMBER: _ClassVar[int]
    unit: TextUnit
    lowercase: bool
    def __init__(self, unit: _Optional[_Union[TextUnit, str]] = ..., lowercase: bool = ...) -> None: ...

class Perplexity(_message.Message):
    __slots__ = ("prediction_kind", "ignore_index")
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    prediction_kind: _losses_pb2.DistributionKind
    ignore_index: int
    def __init__(self, prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, str]] = ..., ignore_index: _Optional[int] = ...) -> None: ...

class RetrievalAtK(_message.Message):
    __slots__ = ("k", "measure", "gain", "no_relevant")
    K_FIELD_NUMBER: _ClassVar[int]
    MEASURE_FIELD_NUMBER: _ClassVar[int]
    GAIN_FIELD_NUMBER: _ClassVar[int]
    NO_RELEVANT_FIELD_NUMBER: _ClassVar[int]
    k: int
    measure: RetrievalMeasure
    gain: RetrievalGain
    no_relevant: NoRelevant
    def __init__(self, k: _Optional[int] = ..., measure: _Optional[_Union[RetrievalMeasure, str]] = ..., gain: _Optional[_Union[RetrievalGain, str]] = ..., no_relevant: _Optional[_Union[NoRelevant, str]] = ...) -> None: ...
