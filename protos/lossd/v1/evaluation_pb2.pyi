from lossd.v1 import losses_pb2 as _losses_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union
from typing import Literal as _Literal, SupportsFloat as _SupportsFloat, SupportsIndex as _SupportsIndex, TypeAlias as _TypeAlias

_ClassificationTaskName: _TypeAlias = _Literal['BINARY', 'MULTICLASS', 'MULTILABEL', 'CLASSIFICATION_TASK_BINARY', 'CLASSIFICATION_TASK_MULTICLASS', 'CLASSIFICATION_TASK_MULTILABEL']
_AverageName: _TypeAlias = _Literal['MICRO', 'MACRO', 'WEIGHTED', 'NONE', 'AVERAGE_MICRO', 'AVERAGE_MACRO', 'AVERAGE_WEIGHTED', 'AVERAGE_NONE']
_ZeroDivisionName: _TypeAlias = _Literal['ZERO', 'ONE', 'EXCLUDE', 'ZERO_DIVISION_ZERO', 'ZERO_DIVISION_ONE', 'ZERO_DIVISION_EXCLUDE']
_MultilabelAccuracyName: _TypeAlias = _Literal['EXACT_MATCH', 'ELEMENTWISE', 'MULTILABEL_ACCURACY_EXACT_MATCH', 'MULTILABEL_ACCURACY_ELEMENTWISE']
_NormalizationName: _TypeAlias = _Literal['NONE', 'TARGETS', 'PREDICTIONS', 'ALL', 'NORMALIZATION_NONE', 'NORMALIZATION_TARGETS', 'NORMALIZATION_PREDICTIONS', 'NORMALIZATION_ALL']
_MulticlassName: _TypeAlias = _Literal['ONE_VS_REST', 'ONE_VS_ONE', 'MULTICLASS_ONE_VS_REST', 'MULTICLASS_ONE_VS_ONE']
_CalibrationNormName: _TypeAlias = _Literal['L1', 'L2', 'MAX', 'CALIBRATION_NORM_L1', 'CALIBRATION_NORM_L2', 'CALIBRATION_NORM_MAX']
_RegressionErrorName: _TypeAlias = _Literal['MSE', 'RMSE', 'MAE', 'R2', 'REGRESSION_ERROR_MSE', 'REGRESSION_ERROR_RMSE', 'REGRESSION_ERROR_MAE', 'REGRESSION_ERROR_R2']
_BleuSmoothingName: _TypeAlias = _Literal['NONE', 'FLOOR', 'ADD_K', 'EXPONENTIAL', 'BLEU_SMOOTHING_NONE', 'BLEU_SMOOTHING_FLOOR', 'BLEU_SMOOTHING_ADD_K', 'BLEU_SMOOTHING_EXPONENTIAL']
_BleuTokenizerName: _TypeAlias = _Literal['NONE', 'MTEVAL_13A', 'INTERNATIONAL', 'CHARACTER', 'CHINESE', 'BLEU_TOKENIZER_NONE', 'BLEU_TOKENIZER_MTEVAL_13A', 'BLEU_TOKENIZER_INTERNATIONAL', 'BLEU_TOKENIZER_CHARACTER', 'BLEU_TOKENIZER_CHINESE']
_TextLevelName: _TypeAlias = _Literal['CORPUS', 'SENTENCE', 'TEXT_LEVEL_CORPUS', 'TEXT_LEVEL_SENTENCE']
_TextUnitName: _TypeAlias = _Literal['WORDS', 'CHARACTERS', 'TEXT_UNIT_WORDS', 'TEXT_UNIT_CHARACTERS']
_RetrievalMeasureName: _TypeAlias = _Literal['NDCG', 'MRR', 'MAP', 'RECALL', 'RETRIEVAL_MEASURE_NDCG', 'RETRIEVAL_MEASURE_MRR', 'RETRIEVAL_MEASURE_MAP', 'RETRIEVAL_MEASURE_RECALL']
_RetrievalGainName: _TypeAlias = _Literal['LINEAR', 'EXPONENTIAL', 'RETRIEVAL_GAIN_LINEAR', 'RETRIEVAL_GAIN_EXPONENTIAL']
_NoRelevantName: _TypeAlias = _Literal['EXCLUDE', 'ZERO', 'ONE', 'NO_RELEVANT_EXCLUDE', 'NO_RELEVANT_ZERO', 'NO_RELEVANT_ONE']

class _AnyMetric(_message.Message): ...

DESCRIPTOR: _descriptor.FileDescriptor

class ClassificationTask(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """The kind of answer that an example has.

    Members:
        BINARY: Yes or no: predictions and targets of one shape, one element for each example.
        MULTICLASS: One of several classes: scores (N, ..., C) or class indices (N, ...); targets
            (N, ...).
        MULTILABEL: Yes or no for each of several labels: predictions and targets (N, ..., L).
    """
    __slots__ = ()
    CLASSIFICATION_TASK_UNSPECIFIED: _ClassVar[ClassificationTask]
    CLASSIFICATION_TASK_BINARY: _ClassVar[ClassificationTask]
    CLASSIFICATION_TASK_MULTICLASS: _ClassVar[ClassificationTask]
    CLASSIFICATION_TASK_MULTILABEL: _ClassVar[ClassificationTask]

class Average(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """How the numbers of classes or labels become one.

    Members:
        MICRO: From the summed counts of all.
        MACRO: Their mean; over the classes that occur in targets or predictions, or over all
            labels.
        WEIGHTED: Their mean, weighted by how often they occur in the targets; a plain mean if none
            of them does.
        NONE: Not at all: the result has values and no value.
    """
    __slots__ = ()
    AVERAGE_UNSPECIFIED: _ClassVar[Average]
    AVERAGE_MICRO: _ClassVar[Average]
    AVERAGE_MACRO: _ClassVar[Average]
    AVERAGE_WEIGHTED: _ClassVar[Average]
    AVERAGE_NONE: _ClassVar[Average]

class ZeroDivision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """The result of 0 / 0. Where it happened the result has STATUS_UNDEFINED and a reason.

    Members:
        ZERO: 0.
        ONE: 1.
        EXCLUDE: None: such a class is left out of the average.
    """
    __slots__ = ()
    ZERO_DIVISION_UNSPECIFIED: _ClassVar[ZeroDivision]
    ZERO_DIVISION_ZERO: _ClassVar[ZeroDivision]
    ZERO_DIVISION_ONE: _ClassVar[ZeroDivision]
    ZERO_DIVISION_EXCLUDE: _ClassVar[ZeroDivision]

class MultilabelAccuracy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """When the answer to an example with several labels is right.

    Members:
        EXACT_MATCH: All labels are right, or the example is wrong.
        ELEMENTWISE: Each label counts by itself.
    """
    __slots__ = ()
    MULTILABEL_ACCURACY_UNSPECIFIED: _ClassVar[MultilabelAccuracy]
    MULTILABEL_ACCURACY_EXACT_MATCH: _ClassVar[MultilabelAccuracy]
    MULTILABEL_ACCURACY_ELEMENTWISE: _ClassVar[MultilabelAccuracy]

class Normalization(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Divisors of the counts.

    Members:
        NONE: Nothing.
        TARGETS: The sum of each row, of the targets.
        PREDICTIONS: The sum of each column, of the predictions.
        ALL: The sum of all.
    """
    __slots__ = ()
    NORMALIZATION_UNSPECIFIED: _ClassVar[Normalization]
    NORMALIZATION_NONE: _ClassVar[Normalization]
    NORMALIZATION_TARGETS: _ClassVar[Normalization]
    NORMALIZATION_PREDICTIONS: _ClassVar[Normalization]
    NORMALIZATION_ALL: _ClassVar[Normalization]

class Multiclass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """How several classes are compared.

    Members:
        ONE_VS_REST: Each class with all others.
        ONE_VS_ONE: Each pair of classes (Hand and Till, 2001). Without weights.
    """
    __slots__ = ()
    MULTICLASS_UNSPECIFIED: _ClassVar[Multiclass]
    MULTICLASS_ONE_VS_REST: _ClassVar[Multiclass]
    MULTICLASS_ONE_VS_ONE: _ClassVar[Multiclass]

class CalibrationNorm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """How the gaps of the bins become one number.

    Members:
        L1: Their mean, weighted by the bins' weight.
        L2: The root of the mean of their squares.
        MAX: The largest.
    """
    __slots__ = ()
    CALIBRATION_NORM_UNSPECIFIED: _ClassVar[CalibrationNorm]
    CALIBRATION_NORM_L1: _ClassVar[CalibrationNorm]
    CALIBRATION_NORM_L2: _ClassVar[CalibrationNorm]
    CALIBRATION_NORM_MAX: _ClassVar[CalibrationNorm]

class RegressionError(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """An error of a regression.

    Members:
        MSE: Mean squared error.
        RMSE: Its root.
        MAE: Mean absolute error.
        R2: Coefficient of determination.
    """
    __slots__ = ()
    REGRESSION_ERROR_UNSPECIFIED: _ClassVar[RegressionError]
    REGRESSION_ERROR_MSE: _ClassVar[RegressionError]
    REGRESSION_ERROR_RMSE: _ClassVar[RegressionError]
    REGRESSION_ERROR_MAE: _ClassVar[RegressionError]
    REGRESSION_ERROR_R2: _ClassVar[RegressionError]

class BleuSmoothing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """How n-grams without a match are treated (Chen and Cherry, 2014).

    Members:
        NONE: Nothing.
        FLOOR: A small number of matches instead of none.
        ADD_K: A number added to matches and n-grams of order 2 and above.
        EXPONENTIAL: Half a match, then a quarter, and so on.
    """
    __slots__ = ()
    BLEU_SMOOTHING_UNSPECIFIED: _ClassVar[BleuSmoothing]
    BLEU_SMOOTHING_NONE: _ClassVar[BleuSmoothing]
    BLEU_SMOOTHING_FLOOR: _ClassVar[BleuSmoothing]
    BLEU_SMOOTHING_ADD_K: _ClassVar[BleuSmoothing]
    BLEU_SMOOTHING_EXPONENTIAL: _ClassVar[BleuSmoothing]

class BleuTokenizer(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """How text becomes tokens, as sacrebleu does it.

    Members:
        NONE: At white space.
        MTEVAL_13A: As WMT's script mteval-v13a.
        INTERNATIONAL: As mteval-v14, for all scripts.
        CHARACTER: Each character.
        CHINESE: Each Chinese character; the rest as mteval-v13a.
    """
    __slots__ = ()
    BLEU_TOKENIZER_UNSPECIFIED: _ClassVar[BleuTokenizer]
    BLEU_TOKENIZER_NONE: _ClassVar[BleuTokenizer]
    BLEU_TOKENIZER_MTEVAL_13A: _ClassVar[BleuTokenizer]
    BLEU_TOKENIZER_INTERNATIONAL: _ClassVar[BleuTokenizer]
    BLEU_TOKENIZER_CHARACTER: _ClassVar[BleuTokenizer]
    BLEU_TOKENIZER_CHINESE: _ClassVar[BleuTokenizer]

class TextLevel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """The texts that have a score each.

    Members:
        CORPUS: The corpus, from summed counts.
        SENTENCE: Each hypothesis; the value is their mean.
    """
    __slots__ = ()
    TEXT_LEVEL_UNSPECIFIED: _ClassVar[TextLevel]
    TEXT_LEVEL_CORPUS: _ClassVar[TextLevel]
    TEXT_LEVEL_SENTENCE: _ClassVar[TextLevel]

class TextUnit(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """The units of text that are edited.

    Members:
        WORDS: Words, between white space.
        CHARACTERS: Characters, white space included.
    """
    __slots__ = ()
    TEXT_UNIT_UNSPECIFIED: _ClassVar[TextUnit]
    TEXT_UNIT_WORDS: _ClassVar[TextUnit]
    TEXT_UNIT_CHARACTERS: _ClassVar[TextUnit]

class RetrievalMeasure(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """A measure of the first k retrieved documents.

    Members:
        NDCG: Normalised discounted cumulative gain.
        MRR: Mean reciprocal rank of the first relevant document.
        MAP: Mean average precision.
        RECALL: Share of the relevant documents that are found.
    """
    __slots__ = ()
    RETRIEVAL_MEASURE_UNSPECIFIED: _ClassVar[RetrievalMeasure]
    RETRIEVAL_MEASURE_NDCG: _ClassVar[RetrievalMeasure]
    RETRIEVAL_MEASURE_MRR: _ClassVar[RetrievalMeasure]
    RETRIEVAL_MEASURE_MAP: _ClassVar[RetrievalMeasure]
    RETRIEVAL_MEASURE_RECALL: _ClassVar[RetrievalMeasure]

class RetrievalGain(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Gain of a relevance.

    Members:
        LINEAR: The relevance.
        EXPONENTIAL: 2^relevance - 1.
    """
    __slots__ = ()
    RETRIEVAL_GAIN_UNSPECIFIED: _ClassVar[RetrievalGain]
    RETRIEVAL_GAIN_LINEAR: _ClassVar[RetrievalGain]
    RETRIEVAL_GAIN_EXPONENTIAL: _ClassVar[RetrievalGain]

class NoRelevant(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """The result of a query without a relevant document.

    Members:
        EXCLUDE: Nothing.
        ZERO: 0.
        ONE: 1.
    """
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
    """A metric and its parameters. A request with an unset one, or with one that the server does not
    know, is UNIMPLEMENTED; there is no default metric.

    Args:
        accuracy: Share of right answers.
        precision: Share of the predicted positives that are right.
        recall: Share of the positives that are found.
        f1: Harmonic mean of precision and recall.
        f_beta: Weighted harmonic mean of precision and recall.
        matthews_correlation: Matthews correlation coefficient.
        confusion_matrix: Counts of each pair of target and prediction.
        roc_auc: Area under the receiver operating characteristic.
        average_precision: Average precision.
        log_loss: Mean negative log-likelihood.
        brier: Brier score.
        calibration_error: Expected calibration error.
        regression_errors: Errors of a regression.
        bleu: BLEU.
        chrf: chrF.
        word_error_rate: Word error rate.
        perplexity: Perplexity.
        retrieval_at_k: Quality of the first k retrieved.
    """
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

class Accuracy(_AnyMetric):
    """Parameters of accuracy.

    Predictions are scores, floating point, or classes, integer or boolean, in the shapes of the
    task.

    Args:
        task: The kind of answer that an example has. Default: by the shapes and types, MULTICLASS
            where targets lack the last axis of the predictions, or predictions are integers; else
            MULTILABEL with two axes or more, or BINARY. One of:
            "BINARY": Yes or no: predictions and targets of one shape, one element for each example.
            "MULTICLASS": One of several classes: scores (N, ..., C) or class indices (N, ...);
                targets (N, ...).
            "MULTILABEL": Yes or no for each of several labels: predictions and targets (N, ..., L).
        prediction_kind: The kind of the scores. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        threshold: Score above which an answer is yes, rounded to the type of the predictions;
            binary and multilabel. In (-inf, inf). Unset by default: 0 for logits, log 0.5 for log-
            probabilities, 0.5 for probabilities.
        ignore_index: Class index that marks an example as ignored, any integer; not with multilabel
            targets. Unset by default.
        classes: Number of classes, where the predictions are class indices. In [2, 1000000]. Unset
            by default: one more than the largest index.
        top_k: The target counts as found among this many largest scores; of equal scores the lowest
            class comes first. In [1, 1000000]. Default 1.
        balanced: Whether to average over the classes of the targets instead of the examples.
            Default false.
        multilabel: When the answer to an example with several labels is right. Default
            "EXACT_MATCH". One of:
            "EXACT_MATCH": All labels are right, or the example is wrong.
            "ELEMENTWISE": Each label counts by itself.

    Inputs:
        predictions: (N, ...) or (N, ..., C) or (N, ..., L). Scores, or what was decided.
        targets: (N, ...) or (N, ..., L). Class indices, or 0 and 1 of any type.

    Reference: K. H. Brodersen et al., The balanced accuracy and its posterior distribution, 2010.

    ``lossd metrics accuracy`` says more.
    """
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
    def __init__(self, task: _Optional[_Union[ClassificationTask, _ClassificationTaskName]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, _losses_pb2._DistributionKindName]] = ..., threshold: _Optional[_SupportsFloat] = ..., ignore_index: _Optional[_SupportsIndex] = ..., classes: _Optional[_SupportsIndex] = ..., top_k: _Optional[_SupportsIndex] = ..., balanced: bool = ..., multilabel: _Optional[_Union[MultilabelAccuracy, _MultilabelAccuracyName]] = ...) -> None: ...

class Precision(_AnyMetric):
    """Parameters of precision, tp / (tp + fp).

    Args:
        task: The kind of answer that an example has. Default: by the shapes and types, MULTICLASS
            where targets lack the last axis of the predictions, or predictions are integers; else
            MULTILABEL with two axes or more, or BINARY. One of:
            "BINARY": Yes or no: predictions and targets of one shape, one element for each example.
            "MULTICLASS": One of several classes: scores (N, ..., C) or class indices (N, ...);
                targets (N, ...).
            "MULTILABEL": Yes or no for each of several labels: predictions and targets (N, ..., L).
        prediction_kind: The kind of the scores. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        threshold: Score above which an answer is yes, rounded to the type of the predictions;
            binary and multilabel. In (-inf, inf). Unset by default: 0 for logits, log 0.5 for log-
            probabilities, 0.5 for probabilities.
        ignore_index: Class index that marks an example as ignored, any integer; not with multilabel
            targets. Unset by default.
        classes: Number of classes, where the predictions are class indices. In [2, 1000000]. Unset
            by default: one more than the largest index.
        average: How classes or labels become one number; binary: that of class 1. Default "MACRO".
            One of:
            "MICRO": From the summed counts of all.
            "MACRO": Their mean; over the classes that occur in targets or predictions, or over all
                labels.
            "WEIGHTED": Their mean, weighted by how often they occur in the targets; a plain mean if
                none of them does.
            "NONE": Not at all: the result has values and no value.
        zero_division: The result of 0 / 0. Default "ZERO". One of:
            "ZERO": 0.
            "ONE": 1.
            "EXCLUDE": None: such a class is left out of the average.

    Inputs:
        predictions: (N, ...) or (N, ..., C) or (N, ..., L). Scores, or what was decided.
        targets: (N, ...) or (N, ..., L). Class indices, or 0 and 1 of any type.

    Reference: C. J. van Rijsbergen, Information Retrieval, 1979, chapter 7.

    ``lossd metrics precision`` says more.
    """
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
    def __init__(self, task: _Optional[_Union[ClassificationTask, _ClassificationTaskName]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, _losses_pb2._DistributionKindName]] = ..., threshold: _Optional[_SupportsFloat] = ..., ignore_index: _Optional[_SupportsIndex] = ..., classes: _Optional[_SupportsIndex] = ..., average: _Optional[_Union[Average, _AverageName]] = ..., zero_division: _Optional[_Union[ZeroDivision, _ZeroDivisionName]] = ...) -> None: ...

class Recall(_AnyMetric):
    """Parameters of recall, tp / (tp + fn).

    Args:
        task: The kind of answer that an example has. Default: by the shapes and types, MULTICLASS
            where targets lack the last axis of the predictions, or predictions are integers; else
            MULTILABEL with two axes or more, or BINARY. One of:
            "BINARY": Yes or no: predictions and targets of one shape, one element for each example.
            "MULTICLASS": One of several classes: scores (N, ..., C) or class indices (N, ...);
                targets (N, ...).
            "MULTILABEL": Yes or no for each of several labels: predictions and targets (N, ..., L).
        prediction_kind: The kind of the scores. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        threshold: Score above which an answer is yes, rounded to the type of the predictions;
            binary and multilabel. In (-inf, inf). Unset by default: 0 for logits, log 0.5 for log-
            probabilities, 0.5 for probabilities.
        ignore_index: Class index that marks an example as ignored, any integer; not with multilabel
            targets. Unset by default.
        classes: Number of classes, where the predictions are class indices. In [2, 1000000]. Unset
            by default: one more than the largest index.
        average: How classes or labels become one number; binary: that of class 1. Default "MACRO".
            One of:
            "MICRO": From the summed counts of all.
            "MACRO": Their mean; over the classes that occur in targets or predictions, or over all
                labels.
            "WEIGHTED": Their mean, weighted by how often they occur in the targets; a plain mean if
                none of them does.
            "NONE": Not at all: the result has values and no value.
        zero_division: The result of 0 / 0. Default "ZERO". One of:
            "ZERO": 0.
            "ONE": 1.
            "EXCLUDE": None: such a class is left out of the average.

    Inputs:
        predictions: (N, ...) or (N, ..., C) or (N, ..., L). Scores, or what was decided.
        targets: (N, ...) or (N, ..., L). Class indices, or 0 and 1 of any type.

    Reference: C. J. van Rijsbergen, Information Retrieval, 1979, chapter 7.

    ``lossd metrics recall`` says more.
    """
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
    def __init__(self, task: _Optional[_Union[ClassificationTask, _ClassificationTaskName]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, _losses_pb2._DistributionKindName]] = ..., threshold: _Optional[_SupportsFloat] = ..., ignore_index: _Optional[_SupportsIndex] = ..., classes: _Optional[_SupportsIndex] = ..., average: _Optional[_Union[Average, _AverageName]] = ..., zero_division: _Optional[_Union[ZeroDivision, _ZeroDivisionName]] = ...) -> None: ...

class F1(_AnyMetric):
    """Parameters of F1, 2 tp / (2 tp + fp + fn).

    Args:
        task: The kind of answer that an example has. Default: by the shapes and types, MULTICLASS
            where targets lack the last axis of the predictions, or predictions are integers; else
            MULTILABEL with two axes or more, or BINARY. One of:
            "BINARY": Yes or no: predictions and targets of one shape, one element for each example.
            "MULTICLASS": One of several classes: scores (N, ..., C) or class indices (N, ...);
                targets (N, ...).
            "MULTILABEL": Yes or no for each of several labels: predictions and targets (N, ..., L).
        prediction_kind: The kind of the scores. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        threshold: Score above which an answer is yes, rounded to the type of the predictions;
            binary and multilabel. In (-inf, inf). Unset by default: 0 for logits, log 0.5 for log-
            probabilities, 0.5 for probabilities.
        ignore_index: Class index that marks an example as ignored, any integer; not with multilabel
            targets. Unset by default.
        classes: Number of classes, where the predictions are class indices. In [2, 1000000]. Unset
            by default: one more than the largest index.
        average: How classes or labels become one number; binary: that of class 1. Default "MACRO".
            One of:
            "MICRO": From the summed counts of all.
            "MACRO": Their mean; over the classes that occur in targets or predictions, or over all
                labels.
            "WEIGHTED": Their mean, weighted by how often they occur in the targets; a plain mean if
                none of them does.
            "NONE": Not at all: the result has values and no value.
        zero_division: The result of 0 / 0. Default "ZERO". One of:
            "ZERO": 0.
            "ONE": 1.
            "EXCLUDE": None: such a class is left out of the average.

    Inputs:
        predictions: (N, ...) or (N, ..., C) or (N, ..., L). Scores, or what was decided.
        targets: (N, ...) or (N, ..., L). Class indices, or 0 and 1 of any type.

    Reference: C. J. van Rijsbergen, Information Retrieval, 1979, chapter 7.

    ``lossd metrics f1`` says more.
    """
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
    def __init__(self, task: _Optional[_Union[ClassificationTask, _ClassificationTaskName]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, _losses_pb2._DistributionKindName]] = ..., threshold: _Optional[_SupportsFloat] = ..., ignore_index: _Optional[_SupportsIndex] = ..., classes: _Optional[_SupportsIndex] = ..., average: _Optional[_Union[Average, _AverageName]] = ..., zero_division: _Optional[_Union[ZeroDivision, _ZeroDivisionName]] = ...) -> None: ...

class FBeta(_AnyMetric):
    """Parameters of F-beta, (1 + beta^2) tp / ((1 + beta^2) tp + fp + beta^2 fn).

    Args:
        task: The kind of answer that an example has. Default: by the shapes and types, MULTICLASS
            where targets lack the last axis of the predictions, or predictions are integers; else
            MULTILABEL with two axes or more, or BINARY. One of:
            "BINARY": Yes or no: predictions and targets of one shape, one element for each example.
            "MULTICLASS": One of several classes: scores (N, ..., C) or class indices (N, ...);
                targets (N, ...).
            "MULTILABEL": Yes or no for each of several labels: predictions and targets (N, ..., L).
        prediction_kind: The kind of the scores. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        threshold: Score above which an answer is yes, rounded to the type of the predictions;
            binary and multilabel. In (-inf, inf). Unset by default: 0 for logits, log 0.5 for log-
            probabilities, 0.5 for probabilities.
        ignore_index: Class index that marks an example as ignored, any integer; not with multilabel
            targets. Unset by default.
        classes: Number of classes, where the predictions are class indices. In [2, 1000000]. Unset
            by default: one more than the largest index.
        average: How classes or labels become one number; binary: that of class 1. Default "MACRO".
            One of:
            "MICRO": From the summed counts of all.
            "MACRO": Their mean; over the classes that occur in targets or predictions, or over all
                labels.
            "WEIGHTED": Their mean, weighted by how often they occur in the targets; a plain mean if
                none of them does.
            "NONE": Not at all: the result has values and no value.
        zero_division: The result of 0 / 0. Default "ZERO". One of:
            "ZERO": 0.
            "ONE": 1.
            "EXCLUDE": None: such a class is left out of the average.
        beta: How many times recall counts as much as precision. In [0, 1000000]. Default 1.

    Inputs:
        predictions: (N, ...) or (N, ..., C) or (N, ..., L). Scores, or what was decided.
        targets: (N, ...) or (N, ..., L). Class indices, or 0 and 1 of any type.

    Reference: C. J. van Rijsbergen, Information Retrieval, 1979, chapter 7.

    ``lossd metrics f_beta`` says more.
    """
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
    def __init__(self, task: _Optional[_Union[ClassificationTask, _ClassificationTaskName]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, _losses_pb2._DistributionKindName]] = ..., threshold: _Optional[_SupportsFloat] = ..., ignore_index: _Optional[_SupportsIndex] = ..., classes: _Optional[_SupportsIndex] = ..., average: _Optional[_Union[Average, _AverageName]] = ..., zero_division: _Optional[_Union[ZeroDivision, _ZeroDivisionName]] = ..., beta: _Optional[_SupportsFloat] = ...) -> None: ...

class MatthewsCorrelation(_AnyMetric):
    """Parameters of the Matthews correlation coefficient.

    Args:
        task: The kind of answer that an example has. Default: by the shapes and types, MULTICLASS
            where targets lack the last axis of the predictions, or predictions are integers; else
            MULTILABEL with two axes or more, or BINARY. One of:
            "BINARY": Yes or no: predictions and targets of one shape, one element for each example.
            "MULTICLASS": One of several classes: scores (N, ..., C) or class indices (N, ...);
                targets (N, ...).
            "MULTILABEL": Yes or no for each of several labels: predictions and targets (N, ..., L).
        prediction_kind: The kind of the scores. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        threshold: Score above which an answer is yes, rounded to the type of the predictions;
            binary. In (-inf, inf). Unset by default: 0 for logits, log 0.5 for log-probabilities,
            0.5 for probabilities.
        ignore_index: Class index that marks an example as ignored, any integer. Unset by default.
        classes: Number of classes, where the predictions are class indices. In [2, 1000000]. Unset
            by default: one more than the largest index.

    Inputs:
        predictions: (N, ...) or (N, ..., C). Scores, or what was decided.
        targets: (N, ...). Class indices, or 0 and 1 of any type.

    Reference: J. Gorodkin, Comparing two K-category assignments by a K-category correlation
    coefficient, 2004, equation 8.

    ``lossd metrics matthews_correlation`` says more.
    """
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
    def __init__(self, task: _Optional[_Union[ClassificationTask, _ClassificationTaskName]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, _losses_pb2._DistributionKindName]] = ..., threshold: _Optional[_SupportsFloat] = ..., ignore_index: _Optional[_SupportsIndex] = ..., classes: _Optional[_SupportsIndex] = ...) -> None: ...

class ConfusionMatrix(_AnyMetric):
    """Parameters of the confusion matrix: targets by row, predictions by column. At most 2048 classes
    or labels.

    Args:
        task: The kind of answer that an example has. Default: by the shapes and types, MULTICLASS
            where targets lack the last axis of the predictions, or predictions are integers; else
            MULTILABEL with two axes or more, or BINARY. One of:
            "BINARY": Yes or no: predictions and targets of one shape, one element for each example.
            "MULTICLASS": One of several classes: scores (N, ..., C) or class indices (N, ...);
                targets (N, ...).
            "MULTILABEL": Yes or no for each of several labels: predictions and targets (N, ..., L).
        prediction_kind: The kind of the scores. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        threshold: Score above which an answer is yes, rounded to the type of the predictions;
            binary and multilabel. In (-inf, inf). Unset by default: 0 for logits, log 0.5 for log-
            probabilities, 0.5 for probabilities.
        ignore_index: Class index that marks an example as ignored, any integer; not with multilabel
            targets. Unset by default.
        classes: Number of classes, where the predictions are class indices. In [2, 2048]. Unset by
            default: one more than the largest index.
        normalization: Divisor of the counts. Default "NONE". One of:
            "NONE": Nothing.
            "TARGETS": The sum of each row, of the targets.
            "PREDICTIONS": The sum of each column, of the predictions.
            "ALL": The sum of all.

    Inputs:
        predictions: (N, ...) or (N, ..., C) or (N, ..., L). Scores, or what was decided.
        targets: (N, ...) or (N, ..., L). Class indices, or 0 and 1 of any type.

    Reference: S. V. Stehman, Selecting and interpreting measures of accuracy, 1997, section 2.

    ``lossd metrics confusion_matrix`` says more.
    """
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
    def __init__(self, task: _Optional[_Union[ClassificationTask, _ClassificationTaskName]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, _losses_pb2._DistributionKindName]] = ..., threshold: _Optional[_SupportsFloat] = ..., ignore_index: _Optional[_SupportsIndex] = ..., classes: _Optional[_SupportsIndex] = ..., normalization: _Optional[_Union[Normalization, _NormalizationName]] = ...) -> None: ...

class RocAuc(_AnyMetric):
    """Parameters of the area under the receiver operating characteristic.

    Args:
        task: The kind of answer that an example has. Default: by the shapes and types, MULTICLASS
            where targets lack the last axis of the predictions, or predictions are integers; else
            MULTILABEL with two axes or more, or BINARY. One of:
            "BINARY": Yes or no: predictions and targets of one shape, one element for each example.
            "MULTICLASS": One of several classes: scores (N, ..., C) or class indices (N, ...);
                targets (N, ...).
            "MULTILABEL": Yes or no for each of several labels: predictions and targets (N, ..., L).
        prediction_kind: The kind of the scores; it matters for several classes only, where logits
            become probabilities. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        ignore_index: Class index that marks an example as ignored, any integer; not with multilabel
            targets. Unset by default.
        average: How classes or labels become one number. Default "MACRO". One of:
            "MICRO": From the summed counts of all.
            "MACRO": Their mean; over the classes that occur in targets or predictions, or over all
                labels.
            "WEIGHTED": Their mean, weighted by how often they occur in the targets; a plain mean if
                none of them does.
            "NONE": Not at all: the result has values and no value.
        multiclass: How several classes are compared. Default "ONE_VS_REST". One of:
            "ONE_VS_REST": Each class with all others.
            "ONE_VS_ONE": Each pair of classes (Hand and Till, 2001). Without weights.
        max_fpr: Largest false positive rate that counts; the area up to there is standardised after
            McClish. Binary only. In (0, 1]. Unset by default.

    Inputs:
        predictions: (N, ...) or (N, ..., C) or (N, ..., L). Scores.
        targets: (N, ...) or (N, ..., L). Class indices, or 0 and 1 of any type.

    Reference: J. A. Hanley, B. J. McNeil, The meaning and use of the area under a ROC curve, 1982.

    ``lossd metrics roc_auc`` says more.
    """
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
    def __init__(self, task: _Optional[_Union[ClassificationTask, _ClassificationTaskName]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, _losses_pb2._DistributionKindName]] = ..., ignore_index: _Optional[_SupportsIndex] = ..., average: _Optional[_Union[Average, _AverageName]] = ..., multiclass: _Optional[_Union[Multiclass, _MulticlassName]] = ..., max_fpr: _Optional[_SupportsFloat] = ...) -> None: ...

class AveragePrecision(_AnyMetric):
    """Parameters of the average precision.

    Args:
        task: The kind of answer that an example has. Default: by the shapes and types, MULTICLASS
            where targets lack the last axis of the predictions, or predictions are integers; else
            MULTILABEL with two axes or more, or BINARY. One of:
            "BINARY": Yes or no: predictions and targets of one shape, one element for each example.
            "MULTICLASS": One of several classes: scores (N, ..., C) or class indices (N, ...);
                targets (N, ...).
            "MULTILABEL": Yes or no for each of several labels: predictions and targets (N, ..., L).
        prediction_kind: The kind of the scores; it matters for several classes only, where logits
            become probabilities. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        ignore_index: Class index that marks an example as ignored, any integer; not with multilabel
            targets. Unset by default.
        average: How classes or labels become one number. Default "MACRO". One of:
            "MICRO": From the summed counts of all.
            "MACRO": Their mean; over the classes that occur in targets or predictions, or over all
                labels.
            "WEIGHTED": Their mean, weighted by how often they occur in the targets; a plain mean if
                none of them does.
            "NONE": Not at all: the result has values and no value.

    Inputs:
        predictions: (N, ...) or (N, ..., C) or (N, ..., L). Scores.
        targets: (N, ...) or (N, ..., L). Class indices, or 0 and 1 of any type.

    Reference: C. D. Manning, P. Raghavan, H. Schuetze, Introduction to Information Retrieval, 2008,
    section 8.4.

    ``lossd metrics average_precision`` says more.
    """
    __slots__ = ("task", "prediction_kind", "ignore_index", "average")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_FIELD_NUMBER: _ClassVar[int]
    task: ClassificationTask
    prediction_kind: _losses_pb2.DistributionKind
    ignore_index: int
    average: Average
    def __init__(self, task: _Optional[_Union[ClassificationTask, _ClassificationTaskName]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, _losses_pb2._DistributionKindName]] = ..., ignore_index: _Optional[_SupportsIndex] = ..., average: _Optional[_Union[Average, _AverageName]] = ...) -> None: ...

class LogLoss(_AnyMetric):
    """Parameters of the log loss. Probabilities are kept away from 0 and 1 by one rounding error of
    their type.

    Args:
        task: The kind of answer that an example has. Default: by the shapes and types, MULTICLASS
            where targets lack the last axis of the predictions, or predictions are integers; else
            MULTILABEL with two axes or more, or BINARY. One of:
            "BINARY": Yes or no: predictions and targets of one shape, one element for each example.
            "MULTICLASS": One of several classes: scores (N, ..., C) or class indices (N, ...);
                targets (N, ...).
            "MULTILABEL": Yes or no for each of several labels: predictions and targets (N, ..., L).
        prediction_kind: The kind of the scores. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        ignore_index: Class index that marks an example as ignored, any integer. Unset by default.

    Inputs:
        predictions: (N, ...) or (N, ..., C). Scores.
        targets: (N, ...). Class indices, or 0 and 1 of any type.

    Reference: C. M. Bishop, Pattern Recognition and Machine Learning, 2006, equation 4.108.

    ``lossd metrics log_loss`` says more.
    """
    __slots__ = ("task", "prediction_kind", "ignore_index")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    task: ClassificationTask
    prediction_kind: _losses_pb2.DistributionKind
    ignore_index: int
    def __init__(self, task: _Optional[_Union[ClassificationTask, _ClassificationTaskName]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, _losses_pb2._DistributionKindName]] = ..., ignore_index: _Optional[_SupportsIndex] = ...) -> None: ...

class Brier(_AnyMetric):
    """Parameters of the Brier score.

    Args:
        task: The kind of answer that an example has. Default: by the shapes and types, MULTICLASS
            where targets lack the last axis of the predictions, or predictions are integers; else
            MULTILABEL with two axes or more, or BINARY. One of:
            "BINARY": Yes or no: predictions and targets of one shape, one element for each example.
            "MULTICLASS": One of several classes: scores (N, ..., C) or class indices (N, ...);
                targets (N, ...).
            "MULTILABEL": Yes or no for each of several labels: predictions and targets (N, ..., L).
        prediction_kind: The kind of the scores. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        ignore_index: Class index that marks an example as ignored, any integer. Unset by default.
        scale_by_half: Whether to halve the sum over classes, so that the score is in [0, 1]. Unset
            by default: true for a binary task, false for several classes.

    Inputs:
        predictions: (N, ...) or (N, ..., C). Scores.
        targets: (N, ...). Class indices, or 0 and 1 of any type.

    Reference: G. W. Brier, Verification of forecasts expressed in terms of probability, 1950.

    ``lossd metrics brier`` says more.
    """
    __slots__ = ("task", "prediction_kind", "ignore_index", "scale_by_half")
    TASK_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    SCALE_BY_HALF_FIELD_NUMBER: _ClassVar[int]
    task: ClassificationTask
    prediction_kind: _losses_pb2.DistributionKind
    ignore_index: int
    scale_by_half: bool
    def __init__(self, task: _Optional[_Union[ClassificationTask, _ClassificationTaskName]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, _losses_pb2._DistributionKindName]] = ..., ignore_index: _Optional[_SupportsIndex] = ..., scale_by_half: bool = ...) -> None: ...

class CalibrationError(_AnyMetric):
    """Parameters of the calibration error.

    Args:
        task: The kind of answer that an example has. Default: by the shapes and types, MULTICLASS
            where targets lack the last axis of the predictions, or predictions are integers; else
            MULTILABEL with two axes or more, or BINARY. One of:
            "BINARY": Yes or no: predictions and targets of one shape, one element for each example.
            "MULTICLASS": One of several classes: scores (N, ..., C) or class indices (N, ...);
                targets (N, ...).
            "MULTILABEL": Yes or no for each of several labels: predictions and targets (N, ..., L).
        prediction_kind: The kind of the scores. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        ignore_index: Class index that marks an example as ignored, any integer. Unset by default.
        bins: Number of bins of equal width over [0, 1], each including its upper edge, which is
            rounded to the type of probabilities that are given. In [1, 65536]. Default 15.
        norm: How the gaps of the bins become one number. Default "L1". One of:
            "L1": Their mean, weighted by the bins' weight.
            "L2": The root of the mean of their squares.
            "MAX": The largest.

    Inputs:
        predictions: (N, ...) or (N, ..., C). Scores.
        targets: (N, ...). Class indices, or 0 and 1 of any type.

    Reference: C. Guo et al., On calibration of modern neural networks, 2017, section 2.

    ``lossd metrics calibration_error`` says more.
    """
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
    def __init__(self, task: _Optional[_Union[ClassificationTask, _ClassificationTaskName]] = ..., prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, _losses_pb2._DistributionKindName]] = ..., ignore_index: _Optional[_SupportsIndex] = ..., bins: _Optional[_SupportsIndex] = ..., norm: _Optional[_Union[CalibrationNorm, _CalibrationNormName]] = ...) -> None: ...

class RegressionErrors(_AnyMetric):
    """Parameters of the errors of a regression. All of them are returned; one of them is the value.

    Args:
        error: The one that is the value. Default "MSE". One of:
            "MSE": Mean squared error.
            "RMSE": Its root.
            "MAE": Mean absolute error.
            "R2": Coefficient of determination.

    Inputs:
        predictions: (N, ...). What the model says.
        targets: (N, ...). What it should have said.

    Reference: J. O. Rawlings et al., Applied Regression Analysis, 1998, section 1.5.

    ``lossd metrics regression_errors`` says more.
    """
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: RegressionError
    def __init__(self, error: _Optional[_Union[RegressionError, _RegressionErrorName]] = ...) -> None: ...

class Bleu(_AnyMetric):
    """Parameters of BLEU. Text is tokenised; token ids are taken as they are.

    Args:
        order: Longest n-gram that counts. In [1, 16]. Default 4.
        smoothing: How n-grams without a match are treated. Default "EXPONENTIAL". One of:
            "NONE": Nothing.
            "FLOOR": A small number of matches instead of none.
            "ADD_K": A number added to matches and n-grams of order 2 and above.
            "EXPONENTIAL": Half a match, then a quarter, and so on.
        smoothing_value: The number that FLOOR and ADD_K add. In (0, 1000000]. Unset by default: 0.1
            and 1.
        effective_order: Whether to stop at the longest n-grams that a hypothesis has. Default
            false.
        tokenizer: How text becomes tokens. Default "MTEVAL_13A". One of:
            "NONE": At white space.
            "MTEVAL_13A": As WMT's script mteval-v13a.
            "INTERNATIONAL": As mteval-v14, for all scripts.
            "CHARACTER": Each character.
            "CHINESE": Each Chinese character; the rest as mteval-v13a.
        lowercase: Whether case is ignored. Default false.
        level: Whether the whole corpus has one score, or each hypothesis. Default "CORPUS". One of:
            "CORPUS": The corpus, from summed counts.
            "SENTENCE": Each hypothesis; the value is their mean.

    Inputs:
        hypotheses: texts or token ids (N). What the model wrote.
        references: texts or token ids (N, 1 to 64). What it may have written.

    Reference: K. Papineni et al., BLEU: a method for automatic evaluation of machine translation,
    2002; M. Post, A call for clarity in reporting BLEU scores, 2018.

    ``lossd metrics bleu`` says more.
    """
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
    def __init__(self, order: _Optional[_SupportsIndex] = ..., smoothing: _Optional[_Union[BleuSmoothing, _BleuSmoothingName]] = ..., smoothing_value: _Optional[_SupportsFloat] = ..., effective_order: bool = ..., tokenizer: _Optional[_Union[BleuTokenizer, _BleuTokenizerName]] = ..., lowercase: bool = ..., level: _Optional[_Union[TextLevel, _TextLevelName]] = ...) -> None: ...

class Chrf(_AnyMetric):
    """Parameters of chrF; with word_order 2 it is chrF++.

    Args:
        char_order: Longest character n-gram. In [1, 16]. Default 6.
        word_order: Longest word n-gram; 0 for none. In [0, 16]. Default 0.
        beta: How many times recall counts as much as precision. In [0, 1000000]. Default 2.
        lowercase: Whether case is ignored. Default false.
        whitespace: Whether white space counts as characters. Default false.
        level: Whether the whole corpus has one score, or each hypothesis. Default "CORPUS". One of:
            "CORPUS": The corpus, from summed counts.
            "SENTENCE": Each hypothesis; the value is their mean.

    Inputs:
        hypotheses: texts (N). What the model wrote.
        references: texts (N, 1 to 64). What it may have written.

    Reference: M. Popovic, chrF: character n-gram F-score for automatic MT evaluation, 2015; and
    chrF++: words helping character n-grams, 2017.

    ``lossd metrics chrf`` says more.
    """
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
    def __init__(self, char_order: _Optional[_SupportsIndex] = ..., word_order: _Optional[_SupportsIndex] = ..., beta: _Optional[_SupportsFloat] = ..., lowercase: bool = ..., whitespace: bool = ..., level: _Optional[_Union[TextLevel, _TextLevelName]] = ...) -> None: ...

class WordErrorRate(_AnyMetric):
    """Parameters of the word error rate: edits per word of the references. A hypothesis or a reference
    has at most 131,072 words, characters or token ids.

    Args:
        unit: The units that are edited in text; token ids are edited one by one. Default "WORDS".
            One of:
            "WORDS": Words, between white space.
            "CHARACTERS": Characters, white space included.
        lowercase: Whether case is ignored. Default false.

    Inputs:
        hypotheses: texts or token ids (N). What the model wrote.
        references: texts or token ids (N, 1 to 64). What it may have written.

    Reference: V. I. Levenshtein, Binary codes capable of correcting deletions, insertions and
    reversals, 1966.

    ``lossd metrics word_error_rate`` says more.
    """
    __slots__ = ("unit", "lowercase")
    UNIT_FIELD_NUMBER: _ClassVar[int]
    LOWERCASE_FIELD_NUMBER: _ClassVar[int]
    unit: TextUnit
    lowercase: bool
    def __init__(self, unit: _Optional[_Union[TextUnit, _TextUnitName]] = ..., lowercase: bool = ...) -> None: ...

class Perplexity(_AnyMetric):
    """Parameters of the perplexity, exp of the mean negative log-likelihood of a token.

    Args:
        prediction_kind: The kind of numbers in the predictions. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        ignore_index: Class index that marks a token as ignored. Unset by default.

    Inputs:
        predictions: (N, ..., C). A score of each token of the vocabulary.
        targets: (N, ...). The tokens that came.

    Reference: F. Jelinek et al., Perplexity, a measure of the difficulty of speech recognition
    tasks, 1977.

    ``lossd metrics perplexity`` says more.
    """
    __slots__ = ("prediction_kind", "ignore_index")
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    IGNORE_INDEX_FIELD_NUMBER: _ClassVar[int]
    prediction_kind: _losses_pb2.DistributionKind
    ignore_index: int
    def __init__(self, prediction_kind: _Optional[_Union[_losses_pb2.DistributionKind, _losses_pb2._DistributionKindName]] = ..., ignore_index: _Optional[_SupportsIndex] = ...) -> None: ...

class RetrievalAtK(_AnyMetric):
    """Parameters of the quality of the first k retrieved documents. Every measure is returned; one of
    them is the value. The mask tells which documents of a query exist.

    Args:
        k: How many documents of a query count. In [1, 1000000]. Default 10.
        measure: The one that is the value. Default "NDCG". One of:
            "NDCG": Normalised discounted cumulative gain.
            "MRR": Mean reciprocal rank of the first relevant document.
            "MAP": Mean average precision.
            "RECALL": Share of the relevant documents that are found.
        gain: Gain of a relevance in NDCG. Default "LINEAR". One of:
            "LINEAR": The relevance.
            "EXPONENTIAL": 2^relevance - 1.
        no_relevant: The result of a query without a relevant document. Default "EXCLUDE". One of:
            "EXCLUDE": Nothing.
            "ZERO": 0.
            "ONE": 1.

    Inputs:
        predictions: (Q, ..., D). The score of each document.
        targets: (Q, ..., D). Its relevance, 0 or above.

    Reference: K. Jaervelin, J. Kekaelaeinen, Cumulated gain-based evaluation of IR techniques,
    2002; C. D. Manning et al., Introduction to Information Retrieval, 2008, section 8.4.

    ``lossd metrics retrieval_at_k`` says more.
    """
    __slots__ = ("k", "measure", "gain", "no_relevant")
    K_FIELD_NUMBER: _ClassVar[int]
    MEASURE_FIELD_NUMBER: _ClassVar[int]
    GAIN_FIELD_NUMBER: _ClassVar[int]
    NO_RELEVANT_FIELD_NUMBER: _ClassVar[int]
    k: int
    measure: RetrievalMeasure
    gain: RetrievalGain
    no_relevant: NoRelevant
    def __init__(self, k: _Optional[_SupportsIndex] = ..., measure: _Optional[_Union[RetrievalMeasure, _RetrievalMeasureName]] = ..., gain: _Optional[_Union[RetrievalGain, _RetrievalGainName]] = ..., no_relevant: _Optional[_Union[NoRelevant, _NoRelevantName]] = ...) -> None: ...
