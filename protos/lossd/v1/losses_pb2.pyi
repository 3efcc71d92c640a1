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

class Distance(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISTANCE_UNSPECIFIED: _ClassVar[Distance]
    DISTANCE_EUCLIDEAN: _ClassVar[Distance]
    DISTANCE_SQUARED_EUCLIDEAN: _ClassVar[Distance]
    DISTANCE_COSINE: _ClassVar[Distance]

class Mining(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MINING_UNSPECIFIED: _ClassVar[Mining]
    MINING_ALL: _ClassVar[Mining]
    MINING_HARD: _ClassVar[Mining]
    MINING_SEMI_HARD: _ClassVar[Mining]

class BatchTripletOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BATCH_TRIPLET_OUTPUT_UNSPECIFIED: _ClassVar[BatchTripletOutput]
    BATCH_TRIPLET_OUTPUT_MINED_POSITIVE: _ClassVar[BatchTripletOutput]
    BATCH_TRIPLET_OUTPUT_MINED_NEGATIVE: _ClassVar[BatchTripletOutput]

class PolicyObjective(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POLICY_OBJECTIVE_UNSPECIFIED: _ClassVar[PolicyObjective]
    POLICY_OBJECTIVE_REINFORCE: _ClassVar[PolicyObjective]
    POLICY_OBJECTIVE_IMPORTANCE_SAMPLING: _ClassVar[PolicyObjective]
    POLICY_OBJECTIVE_PPO_CLIP: _ClassVar[PolicyObjective]
    POLICY_OBJECTIVE_DUAL_CLIP: _ClassVar[PolicyObjective]
    POLICY_OBJECTIVE_CISPO: _ClassVar[PolicyObjective]
    POLICY_OBJECTIVE_SAPO: _ClassVar[PolicyObjective]
    POLICY_OBJECTIVE_DRO: _ClassVar[PolicyObjective]
    POLICY_OBJECTIVE_DPPO_TV: _ClassVar[PolicyObjective]
    POLICY_OBJECTIVE_DPPO_KL: _ClassVar[PolicyObjective]

class PolicyRatio(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POLICY_RATIO_UNSPECIFIED: _ClassVar[PolicyRatio]
    POLICY_RATIO_NONE: _ClassVar[PolicyRatio]
    POLICY_RATIO_TOKEN: _ClassVar[PolicyRatio]
    POLICY_RATIO_SEQUENCE: _ClassVar[PolicyRatio]
    POLICY_RATIO_SEQUENCE_TOKEN: _ClassVar[PolicyRatio]

class TokenAggregation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOKEN_AGGREGATION_UNSPECIFIED: _ClassVar[TokenAggregation]
    TOKEN_AGGREGATION_SUM: _ClassVar[TokenAggregation]
    TOKEN_AGGREGATION_TOKEN_MEAN: _ClassVar[TokenAggregation]
    TOKEN_AGGREGATION_SEQUENCE_MEAN: _ClassVar[TokenAggregation]
    TOKEN_AGGREGATION_CONSTANT_LENGTH: _ClassVar[TokenAggregation]
    TOKEN_AGGREGATION_GROUP_MEAN: _ClassVar[TokenAggregation]

class KlEstimator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KL_ESTIMATOR_UNSPECIFIED: _ClassVar[KlEstimator]
    KL_ESTIMATOR_NONE: _ClassVar[KlEstimator]
    KL_ESTIMATOR_K1: _ClassVar[KlEstimator]
    KL_ESTIMATOR_K2: _ClassVar[KlEstimator]
    KL_ESTIMATOR_K3: _ClassVar[KlEstimator]

class RolloutCorrection(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLLOUT_CORRECTION_UNSPECIFIED: _ClassVar[RolloutCorrection]
    ROLLOUT_CORRECTION_NONE: _ClassVar[RolloutCorrection]
    ROLLOUT_CORRECTION_TOKEN_TRUNCATE: _ClassVar[RolloutCorrection]
    ROLLOUT_CORRECTION_TOKEN_MASK: _ClassVar[RolloutCorrection]
    ROLLOUT_CORRECTION_SEQUENCE_TRUNCATE: _ClassVar[RolloutCorrection]
    ROLLOUT_CORRECTION_SEQUENCE_MASK: _ClassVar[RolloutCorrection]

class PolicyGradientOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POLICY_GRADIENT_OUTPUT_UNSPECIFIED: _ClassVar[PolicyGradientOutput]
    POLICY_GRADIENT_OUTPUT_CLIP_FRACTION: _ClassVar[PolicyGradientOutput]
    POLICY_GRADIENT_OUTPUT_RATIO: _ClassVar[PolicyGradientOutput]
    POLICY_GRADIENT_OUTPUT_LARGEST_RATIO: _ClassVar[PolicyGradientOutput]
    POLICY_GRADIENT_OUTPUT_KL: _ClassVar[PolicyGradientOutput]
    POLICY_GRADIENT_OUTPUT_ROLLOUT_GAP: _ClassVar[PolicyGradientOutput]
    POLICY_GRADIENT_OUTPUT_TOKEN_COUNT: _ClassVar[PolicyGradientOutput]
    POLICY_GRADIENT_OUTPUT_RATIO_P05: _ClassVar[PolicyGradientOutput]
    POLICY_GRADIENT_OUTPUT_RATIO_P50: _ClassVar[PolicyGradientOutput]
    POLICY_GRADIENT_OUTPUT_RATIO_P95: _ClassVar[PolicyGradientOutput]
    POLICY_GRADIENT_OUTPUT_SAMPLING_KL: _ClassVar[PolicyGradientOutput]
    POLICY_GRADIENT_OUTPUT_ENTROPY: _ClassVar[PolicyGradientOutput]

class PreferenceObjective(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PREFERENCE_OBJECTIVE_UNSPECIFIED: _ClassVar[PreferenceObjective]
    PREFERENCE_OBJECTIVE_SIGMOID: _ClassVar[PreferenceObjective]
    PREFERENCE_OBJECTIVE_IPO: _ClassVar[PreferenceObjective]
    PREFERENCE_OBJECTIVE_HINGE: _ClassVar[PreferenceObjective]
    PREFERENCE_OBJECTIVE_ROBUST: _ClassVar[PreferenceObjective]
    PREFERENCE_OBJECTIVE_APO_ZERO: _ClassVar[PreferenceObjective]
    PREFERENCE_OBJECTIVE_APO_DOWN: _ClassVar[PreferenceObjective]
    PREFERENCE_OBJECTIVE_EXO: _ClassVar[PreferenceObjective]
    PREFERENCE_OBJECTIVE_NCA: _ClassVar[PreferenceObjective]
    PREFERENCE_OBJECTIVE_DISCOPOP: _ClassVar[PreferenceObjective]
    PREFERENCE_OBJECTIVE_SIMPO: _ClassVar[PreferenceObjective]
    PREFERENCE_OBJECTIVE_ORPO: _ClassVar[PreferenceObjective]
    PREFERENCE_OBJECTIVE_CPO: _ClassVar[PreferenceObjective]

class PreferenceOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PREFERENCE_OUTPUT_UNSPECIFIED: _ClassVar[PreferenceOutput]
    PREFERENCE_OUTPUT_CHOSEN_REWARD: _ClassVar[PreferenceOutput]
    PREFERENCE_OUTPUT_REJECTED_REWARD: _ClassVar[PreferenceOutput]
    PREFERENCE_OUTPUT_REWARD_MARGIN: _ClassVar[PreferenceOutput]
    PREFERENCE_OUTPUT_ACCURACY: _ClassVar[PreferenceOutput]

class KahnemanTverskyOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KAHNEMAN_TVERSKY_OUTPUT_UNSPECIFIED: _ClassVar[KahnemanTverskyOutput]
    KAHNEMAN_TVERSKY_OUTPUT_REWARD: _ClassVar[KahnemanTverskyOutput]
    KAHNEMAN_TVERSKY_OUTPUT_BASELINE: _ClassVar[KahnemanTverskyOutput]

class BinaryClassifierOptimizationOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BINARY_CLASSIFIER_OPTIMIZATION_OUTPUT_UNSPECIFIED: _ClassVar[BinaryClassifierOptimizationOutput]
    BINARY_CLASSIFIER_OPTIMIZATION_OUTPUT_REWARD: _ClassVar[BinaryClassifierOptimizationOutput]
    BINARY_CLASSIFIER_OPTIMIZATION_OUTPUT_SHIFT: _ClassVar[BinaryClassifierOptimizationOutput]

class BradleyTerryOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BRADLEY_TERRY_OUTPUT_UNSPECIFIED: _ClassVar[BradleyTerryOutput]
    BRADLEY_TERRY_OUTPUT_REWARD_MARGIN: _ClassVar[BradleyTerryOutput]
    BRADLEY_TERRY_OUTPUT_ACCURACY: _ClassVar[BradleyTerryOutput]

class ClippedValueOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLIPPED_VALUE_OUTPUT_UNSPECIFIED: _ClassVar[ClippedValueOutput]
    CLIPPED_VALUE_OUTPUT_CLIP_FRACTION: _ClassVar[ClippedValueOutput]

class DistillationDivergence(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISTILLATION_DIVERGENCE_UNSPECIFIED: _ClassVar[DistillationDivergence]
    DISTILLATION_DIVERGENCE_FORWARD_KL: _ClassVar[DistillationDivergence]
    DISTILLATION_DIVERGENCE_REVERSE_KL: _ClassVar[DistillationDivergence]
    DISTILLATION_DIVERGENCE_JENSEN_SHANNON: _ClassVar[DistillationDivergence]
    DISTILLATION_DIVERGENCE_INTERPOLATED_JENSEN_SHANNON: _ClassVar[DistillationDivergence]

class DistillationSupport(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISTILLATION_SUPPORT_UNSPECIFIED: _ClassVar[DistillationSupport]
    DISTILLATION_SUPPORT_WHOLE: _ClassVar[DistillationSupport]
    DISTILLATION_SUPPORT_TAIL_BUCKET: _ClassVar[DistillationSupport]
    DISTILLATION_SUPPORT_TRUNCATED: _ClassVar[DistillationSupport]

class DistillationOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DISTILLATION_OUTPUT_UNSPECIFIED: _ClassVar[DistillationOutput]
    DISTILLATION_OUTPUT_STUDENT_MASS: _ClassVar[DistillationOutput]
    DISTILLATION_OUTPUT_TEACHER_MASS: _ClassVar[DistillationOutput]

class GanObjective(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GAN_OBJECTIVE_UNSPECIFIED: _ClassVar[GanObjective]
    GAN_OBJECTIVE_MINIMAX: _ClassVar[GanObjective]
    GAN_OBJECTIVE_NON_SATURATING: _ClassVar[GanObjective]
    GAN_OBJECTIVE_LEAST_SQUARES: _ClassVar[GanObjective]
    GAN_OBJECTIVE_HINGE: _ClassVar[GanObjective]
    GAN_OBJECTIVE_WASSERSTEIN: _ClassVar[GanObjective]
    GAN_OBJECTIVE_RELATIVISTIC: _ClassVar[GanObjective]
    GAN_OBJECTIVE_RELATIVISTIC_AVERAGE: _ClassVar[GanObjective]

class GradientPenaltyVariant(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GRADIENT_PENALTY_VARIANT_UNSPECIFIED: _ClassVar[GradientPenaltyVariant]
    GRADIENT_PENALTY_VARIANT_WGAN_GP: _ClassVar[GradientPenaltyVariant]
    GRADIENT_PENALTY_VARIANT_R1: _ClassVar[GradientPenaltyVariant]

class EmptyTarget(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EMPTY_TARGET_UNSPECIFIED: _ClassVar[EmptyTarget]
    EMPTY_TARGET_SMOOTH: _ClassVar[EmptyTarget]
    EMPTY_TARGET_SKIP: _ClassVar[EmptyTarget]

class AucSurrogate(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUC_SURROGATE_UNSPECIFIED: _ClassVar[AucSurrogate]
    AUC_SURROGATE_SQUARED_HINGE: _ClassVar[AucSurrogate]
    AUC_SURROGATE_LOGISTIC: _ClassVar[AucSurrogate]

class MulticlassHingeVariant(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MULTICLASS_HINGE_VARIANT_UNSPECIFIED: _ClassVar[MulticlassHingeVariant]
    MULTICLASS_HINGE_VARIANT_CRAMMER_SINGER: _ClassVar[MulticlassHingeVariant]
    MULTICLASS_HINGE_VARIANT_WESTON_WATKINS: _ClassVar[MulticlassHingeVariant]

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
DISTANCE_UNSPECIFIED: Distance
DISTANCE_EUCLIDEAN: Distance
DISTANCE_SQUARED_EUCLIDEAN: Distance
DISTANCE_COSINE: Distance
MINING_UNSPECIFIED: Mining
MINING_ALL: Mining
MINING_HARD: Mining
MINING_SEMI_HARD: Mining
BATCH_TRIPLET_OUTPUT_UNSPECIFIED: BatchTripletOutput
BATCH_TRIPLET_OUTPUT_MINED_POSITIVE: BatchTripletOutput
BATCH_TRIPLET_OUTPUT_MINED_NEGATIVE: BatchTripletOutput
POLICY_OBJECTIVE_UNSPECIFIED: PolicyObjective
POLICY_OBJECTIVE_REINFORCE: PolicyObjective
POLICY_OBJECTIVE_IMPORTANCE_SAMPLING: PolicyObjective
POLICY_OBJECTIVE_PPO_CLIP: PolicyObjective
POLICY_OBJECTIVE_DUAL_CLIP: PolicyObjective
POLICY_OBJECTIVE_CISPO: PolicyObjective
POLICY_OBJECTIVE_SAPO: PolicyObjective
POLICY_OBJECTIVE_DRO: PolicyObjective
POLICY_OBJECTIVE_DPPO_TV: PolicyObjective
POLICY_OBJECTIVE_DPPO_KL: PolicyObjective
POLICY_RATIO_UNSPECIFIED: PolicyRatio
POLICY_RATIO_NONE: PolicyRatio
POLICY_RATIO_TOKEN: PolicyRatio
POLICY_RATIO_SEQUENCE: PolicyRatio
POLICY_RATIO_SEQUENCE_TOKEN: PolicyRatio
TOKEN_AGGREGATION_UNSPECIFIED: TokenAggregation
TOKEN_AGGREGATION_SUM: TokenAggregation
TOKEN_AGGREGATION_TOKEN_MEAN: TokenAggregation
TOKEN_AGGREGATION_SEQUENCE_MEAN: TokenAggregation
TOKEN_AGGREGATION_CONSTANT_LENGTH: TokenAggregation
TOKEN_AGGREGATION_GROUP_MEAN: TokenAggregation
KL_ESTIMATOR_UNSPECIFIED: KlEstimator
KL_ESTIMATOR_NONE: KlEstimator
KL_ESTIMATOR_K1: KlEstimator
KL_ESTIMATOR_K2: KlEstimator
KL_ESTIMATOR_K3: KlEstimator
ROLLOUT_CORRECTION_UNSPECIFIED: RolloutCorrection
ROLLOUT_CORRECTION_NONE: RolloutCorrection
ROLLOUT_CORRECTION_TOKEN_TRUNCATE: RolloutCorrection
ROLLOUT_CORRECTION_TOKEN_MASK: RolloutCorrection
ROLLOUT_CORRECTION_SEQUENCE_TRUNCATE: RolloutCorrection
ROLLOUT_CORRECTION_SEQUENCE_MASK: RolloutCorrection
POLICY_GRADIENT_OUTPUT_UNSPECIFIED: PolicyGradientOutput
POLICY_GRADIENT_OUTPUT_CLIP_FRACTION: PolicyGradientOutput
POLICY_GRADIENT_OUTPUT_RATIO: PolicyGradientOutput
POLICY_GRADIENT_OUTPUT_LARGEST_RATIO: PolicyGradientOutput
POLICY_GRADIENT_OUTPUT_KL: PolicyGradientOutput
POLICY_GRADIENT_OUTPUT_ROLLOUT_GAP: PolicyGradientOutput
POLICY_GRADIENT_OUTPUT_TOKEN_COUNT: PolicyGradientOutput
POLICY_GRADIENT_OUTPUT_RATIO_P05: PolicyGradientOutput
POLICY_GRADIENT_OUTPUT_RATIO_P50: PolicyGradientOutput
POLICY_GRADIENT_OUTPUT_RATIO_P95: PolicyGradientOutput
POLICY_GRADIENT_OUTPUT_SAMPLING_KL: PolicyGradientOutput
POLICY_GRADIENT_OUTPUT_ENTROPY: PolicyGradientOutput
PREFERENCE_OBJECTIVE_UNSPECIFIED: PreferenceObjective
PREFERENCE_OBJECTIVE_SIGMOID: PreferenceObjective
PREFERENCE_OBJECTIVE_IPO: PreferenceObjective
PREFERENCE_OBJECTIVE_HINGE: PreferenceObjective
PREFERENCE_OBJECTIVE_ROBUST: PreferenceObjective
PREFERENCE_OBJECTIVE_APO_ZERO: PreferenceObjective
PREFERENCE_OBJECTIVE_APO_DOWN: PreferenceObjective
PREFERENCE_OBJECTIVE_EXO: PreferenceObjective
PREFERENCE_OBJECTIVE_NCA: PreferenceObjective
PREFERENCE_OBJECTIVE_DISCOPOP: PreferenceObjective
PREFERENCE_OBJECTIVE_SIMPO: PreferenceObjective
PREFERENCE_OBJECTIVE_ORPO: PreferenceObjective
PREFERENCE_OBJECTIVE_CPO: PreferenceObjective
PREFERENCE_OUTPUT_UNSPECIFIED: PreferenceOutput
PREFERENCE_OUTPUT_CHOSEN_REWARD: PreferenceOutput
PREFERENCE_OUTPUT_REJECTED_REWARD: PreferenceOutput
PREFERENCE_OUTPUT_REWARD_MARGIN: PreferenceOutput
PREFERENCE_OUTPUT_ACCURACY: PreferenceOutput
KAHNEMAN_TVERSKY_OUTPUT_UNSPECIFIED: KahnemanTverskyOutput
KAHNEMAN_TVERSKY_OUTPUT_REWARD: KahnemanTverskyOutput
KAHNEMAN_TVERSKY_OUTPUT_BASELINE: KahnemanTverskyOutput
BINARY_CLASSIFIER_OPTIMIZATION_OUTPUT_UNSPECIFIED: BinaryClassifierOptimizationOutput
BINARY_CLASSIFIER_OPTIMIZATION_OUTPUT_REWARD: BinaryClassifierOptimizationOutput
BINARY_CLASSIFIER_OPTIMIZATION_OUTPUT_SHIFT: BinaryClassifierOptimizationOutput
BRADLEY_TERRY_OUTPUT_UNSPECIFIED: BradleyTerryOutput
BRADLEY_TERRY_OUTPUT_REWARD_MARGIN: BradleyTerryOutput
BRADLEY_TERRY_OUTPUT_ACCURACY: BradleyTerryOutput
CLIPPED_VALUE_OUTPUT_UNSPECIFIED: ClippedValueOutput
CLIPPED_VALUE_OUTPUT_CLIP_FRACTION: ClippedValueOutput
DISTILLATION_DIVERGENCE_UNSPECIFIED: DistillationDivergence
DISTILLATION_DIVERGENCE_FORWARD_KL: DistillationDivergence
DISTILLATION_DIVERGENCE_REVERSE_KL: DistillationDivergence
DISTILLATION_DIVERGENCE_JENSEN_SHANNON: DistillationDivergence
DISTILLATION_DIVERGENCE_INTERPOLATED_JENSEN_SHANNON: DistillationDivergence
DISTILLATION_SUPPORT_UNSPECIFIED: DistillationSupport
DISTILLATION_SUPPORT_WHOLE: DistillationSupport
DISTILLATION_SUPPORT_TAIL_BUCKET: DistillationSupport
DISTILLATION_SUPPORT_TRUNCATED: DistillationSupport
DISTILLATION_OUTPUT_UNSPECIFIED: DistillationOutput
DISTILLATION_OUTPUT_STUDENT_MASS: DistillationOutput
DISTILLATION_OUTPUT_TEACHER_MASS: DistillationOutput
GAN_OBJECTIVE_UNSPECIFIED: GanObjective
GAN_OBJECTIVE_MINIMAX: GanObjective
GAN_OBJECTIVE_NON_SATURATING: GanObjective
GAN_OBJECTIVE_LEAST_SQUARES: GanObjective
GAN_OBJECTIVE_HINGE: GanObjective
GAN_OBJECTIVE_WASSERSTEIN: GanObjective
GAN_OBJECTIVE_RELATIVISTIC: GanObjective
GAN_OBJECTIVE_RELATIVISTIC_AVERAGE: GanObjective
GRADIENT_PENALTY_VARIANT_UNSPECIFIED: GradientPenaltyVariant
GRADIENT_PENALTY_VARIANT_WGAN_GP: GradientPenaltyVariant
GRADIENT_PENALTY_VARIANT_R1: GradientPenaltyVariant
EMPTY_TARGET_UNSPECIFIED: EmptyTarget
EMPTY_TARGET_SMOOTH: EmptyTarget
EMPTY_TARGET_SKIP: EmptyTarget
AUC_SURROGATE_UNSPECIFIED: AucSurrogate
AUC_SURROGATE_SQUARED_HINGE: AucSurrogate
AUC_SURROGATE_LOGISTIC: AucSurrogate
MULTICLASS_HINGE_VARIANT_UNSPECIFIED: MulticlassHingeVariant
MULTICLASS_HINGE_VARIANT_CRAMMER_SINGER: MulticlassHingeVariant
MULTICLASS_HINGE_VARIANT_WESTON_WATKINS: MulticlassHingeVariant
DISTRIBUTION_KIND_UNSPECIFIED: DistributionKind
DISTRIBUTION_KIND_LOGITS: DistributionKind
DISTRIBUTION_KIND_LOG_PROBABILITIES: DistributionKind
DISTRIBUTION_KIND_PROBABILITIES: DistributionKind

class LossSpec(_message.Message):
    __slots__ = ("squared_error", "absolute_error", "log_cosh", "huber", "smooth_l1", "quantile", "poisson_nll", "gaussian_nll", "cross_entropy", "binary_cross_entropy", "kl_divergence", "hinge", "multiclass_hinge", "focal", "softmax_focal", "expected_risk", "dice", "jaccard", "tversky", "lovasz_hinge", "lovasz_softmax", "soft_f1", "pairwise_auc", "triplet", "batch_triplet", "contrastive", "cosine_embedding", "info_nce", "nt_xent", "supervised_contrastive", "sigmoid_contrastive", "ctc", "generator_loss", "discriminator_loss", "gradient_penalty", "feature_matching", "perceptual", "lpips", "weighted_sum", "policy_gradient", "preference", "kahneman_tversky", "binary_classifier_optimization", "bradley_terry", "clipped_value", "distillation")
    SQUARED_ERROR_FIELD_NUMBER: _ClassVar[int]
    ABSOLUTE_ERROR_FIELD_NUMBER: _ClassVar[int]
    LOG_COSH_FIELD_NUMBER: _ClassVar[int]
    HUBER_FIELD_NUMBER: _ClassVar[int]
    SMOOTH_L1_FIELD_NUMBER: _ClassVar[int]
    QUANTILE_FIELD_NUMBER: _ClassVar[int]
    POISSON_NLL_FIELD_NUMBER: _ClassVar[int]
    GAUSSIAN_NLL_FIELD_NUMBER: _ClassVar[int]
    CROSS_ENTROPY_FIELD_NUMBER: _ClassVar[int]
    BINARY_CROSS_ENTROPY_FIELD_NUMBER: _ClassVar[int]
    KL_DIVERGENCE_FIELD_NUMBER: _ClassVar[int]
    HINGE_FIELD_NUMBER: _ClassVar[int]
    MULTICLASS_HINGE_FIELD_NUMBER: _ClassVar[int]
    FOCAL_FIELD_NUMBER: _ClassVar[int]
    SOFTMAX_FOCAL_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_RISK_FIELD_NUMBER: _ClassVar[int]
    DICE_FIELD_NUMBER: _ClassVar[int]
    JACCARD_FIELD_NUMBER: _ClassVar[int]
    TVERSKY_FIELD_NUMBER: _ClassVar[int]
    LOVASZ_HINGE_FIELD_NUMBER: _ClassVar[int]
    LOVASZ_SOFTMAX_FIELD_NUMBER: _ClassVar[int]
    SOFT_F1_FIELD_NUMBER: _ClassVar[int]
    PAIRWISE_AUC_FIELD_NUMBER: _ClassVar[int]
    TRIPLET_FIELD_NUMBER: _ClassVar[int]
    BATCH_TRIPLET_FIELD_NUMBER: _ClassVar[int]
    CONTRASTIVE_FIELD_NUMBER: _ClassVar[int]
    COSINE_EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    INFO_NCE_FIELD_NUMBER: _ClassVar[int]
    NT_XENT_FIELD_NUMBER: _ClassVar[int]
    SUPERVISED_CONTRASTIVE_FIELD_NUMBER: _ClassVar[int]
    SIGMOID_CONTRASTIVE_FIELD_NUMBER: _ClassVar[int]
    CTC_FIELD_NUMBER: _ClassVar[int]
    GENERATOR_LOSS_FIELD_NUMBER: _ClassVar[int]
    DISCRIMINATOR_LOSS_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FEATURE_MATCHING_FIELD_NUMBER: _ClassVar[int]
    PERCEPTUAL_FIELD_NUMBER: _ClassVar[int]
    LPIPS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTED_SUM_FIELD_NUMBER: _ClassVar[int]
    POLICY_GRADIENT_FIELD_NUMBER: _ClassVar[int]
    PREFERENCE_FIELD_NUMBER: _ClassVar[int]
    KAHNEMAN_TVERSKY_FIELD_NUMBER: _ClassVar[int]
    BINARY_CLASSIFIER_OPTIMIZATION_FIELD_NUMBER: _ClassVar[int]
    BRADLEY_TERRY_FIELD_NUMBER: _ClassVar[int]
    CLIPPED_VALUE_FIELD_NUMBER: _ClassVar[int]
    DISTILLATION_FIELD_NUMBER: _ClassVar[int]
    squared_error: SquaredError
    absolute_error: AbsoluteError
    log_cosh: LogCosh
    huber: Huber
    smooth_l1: SmoothL1
    quantile: Quantile
    poisson_nll: PoissonNll
    gaussian_nll: GaussianNll
    cross_entropy: CrossEntropy
    binary_cross_entropy: BinaryCrossEntropy
    kl_divergence: KlDivergence
    hinge: Hinge
    multiclass_hinge: MulticlassHinge
    focal: Focal
    softmax_focal: SoftmaxFocal
    expected_risk: ExpectedRisk
    dice: Dice
    jaccard: Jaccard
    tversky: Tversky
    lovasz_hinge: LovaszHinge
    lovasz_softmax: LovaszSoftmax
    soft_f1: SoftF1
    pairwise_auc: PairwiseAuc
    triplet: Triplet
    batch_triplet: BatchTriplet
    contrastive: Contrastive
    cosine_embedding: CosineEmbedding
    info_nce: InfoNce
    nt_xent: NtXent
    supervised_contrastive: SupervisedContrastive
    sigmoid_contrastive: SigmoidContrastive
    ctc: Ctc
    generator_loss: GeneratorLoss
    discriminator_loss: DiscriminatorLoss
    gradient_penalty: GradientPenalty
    feature_matching: FeatureMatching
    perceptual: Perceptual
    lpips: Lpips
    weighted_sum: WeightedSum
    policy_gradient: PolicyGradient
    preference: Preference
    kahneman_tversky: KahnemanTversky
    binary_classifier_optimization: BinaryClassifierOptimization
    bradley_terry: BradleyTerry
    clipped_value: ClippedValue
    distillation: Distillation
    def __init__(self, squared_error: _Optional[_Union[SquaredError, _Mapping]] = ..., absolute_error: _Optional[_Union[AbsoluteError, _Mapping]] = ..., log_cosh: _Optional[_Union[LogCosh, _Mapping]] = ..., huber: _Optional[_Union[Huber, _Mapping]] = ..., smooth_l1: _Optional[_Union[SmoothL1, _Mapping]] = ..., quantile: _Optional[_Union[Quantile, _Mapping]] = ..., poisson_nll: _Optional[_Union[PoissonNll, _Mapping]] = ..., gaussian_nll: _Optional[_Union[GaussianNll, _Mapping]] = ..., cross_entropy: _Optional[_Union[CrossEntropy, _Mapping]] = ..., binary_cross_entropy: _Optional[_Union[BinaryCrossEntropy, _Mapping]] = ..., kl_divergence: _Optional[_Union[KlDivergence, _Mapping]] = ..., hinge: _Optional[_Union[Hinge, _Mapping]] = ..., multiclass_hinge: _Optional[_Union[MulticlassHinge, _Mapping]] = ..., focal: _Optional[_Union[Focal, _Mapping]] = ..., softmax_focal: _Optional[_Union[SoftmaxFocal, _Mapping]] = ..., expected_risk: _Optional[_Union[ExpectedRisk, _Mapping]] = ..., dice: _Optional[_Union[Dice, _Mapping]] = ..., jaccard: _Optional[_Union[Jaccard, _Mapping]] = ..., tversky: _Optional[_Union[Tversky, _Mapping]] = ..., lovasz_hinge: _Optional[_Union[LovaszHinge, _Mapping]] = ..., lovasz_softmax: _Optional[_Union[LovaszSoftmax, _Mapping]] = ..., soft_f1: _Optional[_Union[SoftF1, _Mapping]] = ..., pairwise_auc: _Optional[_Union[PairwiseAuc, _Mapping]] = ..., triplet: _Optional[_Union[Triplet, _Mapping]] = ..., batch_triplet: _Optional[_Union[BatchTriplet, _Mapping]] = ..., contrastive: _Optional[_Union[Contrastive, _Mapping]] = ..., cosine_embedding: _Optional[_Union[CosineEmbedding, _Mapping]] = ..., info_nce: _Optional[_Union[InfoNce, _Mapping]] = ..., nt_xent: _Optional[_Union[NtXent, _Mapping]] = ..., supervised_contrastive: _Optional[_Union[SupervisedContrastive, _Mapping]] = ..., sigmoid_contrastive: _Optional[_Union[SigmoidContrastive, _Mapping]] = ..., ctc: _Optional[_Union[Ctc, _Mapping]] = ..., generator_loss: _Optional[_Union[GeneratorLoss, _Mapping]] = ..., discriminator_loss: _Optional[_Union[DiscriminatorLoss, _Mapping]] = ..., gradient_penalty: _Optional[_Union[GradientPenalty, _Mapping]] = ..., feature_matching: _Optional[_Union[FeatureMatching, _Mapping]] = ..., perceptual: _Optional[_Union[Perceptual, _Mapping]] = ..., lpips: _Optional[_Union[Lpips, _Mapping]] = ..., weighted_sum: _Optional[_Union[WeightedSum, _Mapping]] = ..., policy_gradient: _Optional[_Union[PolicyGradient, _Mapping]] = ..., preference: _Optional[_Union[Preference, _Mapping]] = ..., kahneman_tversky: _Optional[_Union[KahnemanTversky, _Mapping]] = ..., binary_classifier_optimization: _Optional[_Union[BinaryClassifierOptimization, _Mapping]] = ..., bradley_terry: _Optional[_Union[BradleyTerry, _Mapping]] = ..., clipped_value: _Optional[_Union[ClippedValue, _Mapping]] = ..., distillation: _Optional[_Union[Distillation, _Mapping]] = ...) -> None: ...

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

class LogCosh(_message.Message):
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

class SmoothL1(_message.Message):
    __slots__ = ("batch_dims", "beta")
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    BETA_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    beta: float
    def __init__(self, batch_dims: _Optional[int] = ..., beta: _Optional[float] = ...) -> None: ...

class Quantile(_message.Message):
    __slots__ = ("batch_dims", "quantile")
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    QUANTILE_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    quantile: float
    def __init__(self, batch_dims: _Optional[int] = ..., quantile: _Optional[float] = ...) -> None: ...

class PoissonNll(_message.Message):
    __slots__ = ("batch_dims", "log_input", "full")
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    LOG_INPUT_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    log_input: bool
    full: bool
    def __init__(self, batch_dims: _Optional[int] = ..., log_input: bool = ..., full: bool = ...) -> None: ...

class GaussianNll(_message.Message):
    __slots__ = ("batch_dims", "full", "eps")
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    EPS_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    full: bool
    eps: float
    def __init__(self, batch_dims: _Optional[int] = ..., full: bool = ..., eps: _Optional[float] = ...) -> None: ...

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

class KlDivergence(_message.Message):
    __slots__ = ("prediction_kind", "target_kind", "temperature", "scale_by_squared_temperature")
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    TARGET_KIND_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    SCALE_BY_SQUARED_TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    prediction_kind: DistributionKind
    target_kind: DistributionKind
    temperature: float
    scale_by_squared_temperature: bool
    def __init__(self, prediction_kind: _Optional[_Union[DistributionKind, str]] = ..., target_kind: _Optional[_Union[DistributionKind, str]] = ..., temperature: _Optional[float] = ..., scale_by_squared_temperature: bool = ...) -> None: ...

class Hinge(_message.Message):
    __slots__ = ("batch_dims", "margin", "power")
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    margin: float
    power: float
    def __init__(self, batch_dims: _Optional[int] = ..., margin: _Optional[float] = ..., power: _Optional[float] = ...) -> None: ...

class MulticlassHinge(_message.Message):
    __slots__ = ("variant", "margin", "power")
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    variant: MulticlassHingeVariant
    margin: float
    power: float
    def __init__(self, variant: _Optional[_Union[MulticlassHingeVariant, str]] = ..., margin: _Optional[float] = ..., power: _Optional[float] = ...) -> None: ...

class Focal(_message.Message):
    __slots__ = ("batch_dims", "gamma", "alpha")
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    GAMMA_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    gamma: float
    alpha: float
    def __init__(self, batch_dims: _Optional[int] = ..., gamma: _Optional[float] = ..., alpha: _Optional[float] = ...) -> None: ...

class SoftmaxFocal(_message.Message):
    __slots__ = ("gamma", "class_weights")
    GAMMA_FIELD_NUMBER: _ClassVar[int]
    CLASS_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    gamma: float
    class_weights: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, gamma: _Optional[float] = ..., class_weights: _Optional[_Iterable[float]] = ...) -> None: ...

class ExpectedRisk(_message.Message):
    __slots__ = ("alpha",)
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    alpha: float
    def __init__(self, alpha: _Optional[float] = ...) -> None: ...

class Dice(_message.Message):
    __slots__ = ("class_axis", "prediction_kind", "smooth", "empty_target")
    CLASS_AXIS_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    SMOOTH_FIELD_NUMBER: _ClassVar[int]
    EMPTY_TARGET_FIELD_NUMBER: _ClassVar[int]
    class_axis: int
    prediction_kind: DistributionKind
    smooth: float
    empty_target: EmptyTarget
    def __init__(self, class_axis: _Optional[int] = ..., prediction_kind: _Optional[_Union[DistributionKind, str]] = ..., smooth: _Optional[float] = ..., empty_target: _Optional[_Union[EmptyTarget, str]] = ...) -> None: ...

class Jaccard(_message.Message):
    __slots__ = ("class_axis", "prediction_kind", "smooth", "empty_target")
    CLASS_AXIS_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    SMOOTH_FIELD_NUMBER: _ClassVar[int]
    EMPTY_TARGET_FIELD_NUMBER: _ClassVar[int]
    class_axis: int
    prediction_kind: DistributionKind
    smooth: float
    empty_target: EmptyTarget
    def __init__(self, class_axis: _Optional[int] = ..., prediction_kind: _Optional[_Union[DistributionKind, str]] = ..., smooth: _Optional[float] = ..., empty_target: _Optional[_Union[EmptyTarget, str]] = ...) -> None: ...

class Tversky(_message.Message):
    __slots__ = ("class_axis", "prediction_kind", "smooth", "empty_target", "alpha", "beta", "gamma")
    CLASS_AXIS_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    SMOOTH_FIELD_NUMBER: _ClassVar[int]
    EMPTY_TARGET_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    BETA_FIELD_NUMBER: _ClassVar[int]
    GAMMA_FIELD_NUMBER: _ClassVar[int]
    class_axis: int
    prediction_kind: DistributionKind
    smooth: float
    empty_target: EmptyTarget
    alpha: float
    beta: float
    gamma: float
    def __init__(self, class_axis: _Optional[int] = ..., prediction_kind: _Optional[_Union[DistributionKind, str]] = ..., smooth: _Optional[float] = ..., empty_target: _Optional[_Union[EmptyTarget, str]] = ..., alpha: _Optional[float] = ..., beta: _Optional[float] = ..., gamma: _Optional[float] = ...) -> None: ...

class LovaszHinge(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LovaszSoftmax(_message.Message):
    __slots__ = ("class_axis",)
    CLASS_AXIS_FIELD_NUMBER: _ClassVar[int]
    class_axis: int
    def __init__(self, class_axis: _Optional[int] = ...) -> None: ...

class SoftF1(_message.Message):
    __slots__ = ("prediction_kind",)
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    prediction_kind: DistributionKind
    def __init__(self, prediction_kind: _Optional[_Union[DistributionKind, str]] = ...) -> None: ...

class PairwiseAuc(_message.Message):
    __slots__ = ("surrogate", "margin")
    SURROGATE_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    surrogate: AucSurrogate
    margin: float
    def __init__(self, surrogate: _Optional[_Union[AucSurrogate, str]] = ..., margin: _Optional[float] = ...) -> None: ...

class Triplet(_message.Message):
    __slots__ = ("margin", "distance", "p", "swap", "eps")
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_FIELD_NUMBER: _ClassVar[int]
    P_FIELD_NUMBER: _ClassVar[int]
    SWAP_FIELD_NUMBER: _ClassVar[int]
    EPS_FIELD_NUMBER: _ClassVar[int]
    margin: float
    distance: Distance
    p: float
    swap: bool
    eps: float
    def __init__(self, margin: _Optional[float] = ..., distance: _Optional[_Union[Distance, str]] = ..., p: _Optional[float] = ..., swap: bool = ..., eps: _Optional[float] = ...) -> None: ...

class BatchTriplet(_message.Message):
    __slots__ = ("mining", "margin", "distance", "outputs")
    MINING_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    mining: Mining
    margin: float
    distance: Distance
    outputs: _containers.RepeatedScalarFieldContainer[BatchTripletOutput]
    def __init__(self, mining: _Optional[_Union[Mining, str]] = ..., margin: _Optional[float] = ..., distance: _Optional[_Union[Distance, str]] = ..., outputs: _Optional[_Iterable[_Union[BatchTripletOutput, str]]] = ...) -> None: ...

class Contrastive(_message.Message):
    __slots__ = ("margin", "distance")
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_FIELD_NUMBER: _ClassVar[int]
    margin: float
    distance: Distance
    def __init__(self, margin: _Optional[float] = ..., distance: _Optional[_Union[Distance, str]] = ...) -> None: ...

class CosineEmbedding(_message.Message):
    __slots__ = ("margin",)
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    margin: float
    def __init__(self, margin: _Optional[float] = ...) -> None: ...

class InfoNce(_message.Message):
    __slots__ = ("temperature", "symmetric", "normalize", "in_batch_negatives")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    SYMMETRIC_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    IN_BATCH_NEGATIVES_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    symmetric: bool
    normalize: bool
    in_batch_negatives: bool
    def __init__(self, temperature: _Optional[float] = ..., symmetric: bool = ..., normalize: bool = ..., in_batch_negatives: bool = ...) -> None: ...

class NtXent(_message.Message):
    __slots__ = ("temperature", "normalize")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    normalize: bool
    def __init__(self, temperature: _Optional[float] = ..., normalize: bool = ...) -> None: ...

class SupervisedContrastive(_message.Message):
    __slots__ = ("temperature", "normalize")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    normalize: bool
    def __init__(self, temperature: _Optional[float] = ..., normalize: bool = ...) -> None: ...

class SigmoidContrastive(_message.Message):
    __slots__ = ("temperature", "bias", "normalize")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    BIAS_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    bias: float
    normalize: bool
    def __init__(self, temperature: _Optional[float] = ..., bias: _Optional[float] = ..., normalize: bool = ...) -> None: ...

class Ctc(_message.Message):
    __slots__ = ("prediction_kind", "blank", "zero_infinity")
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    BLANK_FIELD_NUMBER: _ClassVar[int]
    ZERO_INFINITY_FIELD_NUMBER: _ClassVar[int]
    prediction_kind: DistributionKind
    blank: int
    zero_infinity: bool
    def __init__(self, prediction_kind: _Optional[_Union[DistributionKind, str]] = ..., blank: _Optional[int] = ..., zero_infinity: bool = ...) -> None: ...

class GeneratorLoss(_message.Message):
    __slots__ = ("objective",)
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    objective: GanObjective
    def __init__(self, objective: _Optional[_Union[GanObjective, str]] = ...) -> None: ...

class DiscriminatorLoss(_message.Message):
    __slots__ = ("objective", "label_smoothing")
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    LABEL_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    objective: GanObjective
    label_smoothing: float
    def __init__(self, objective: _Optional[_Union[GanObjective, str]] = ..., label_smoothing: _Optional[float] = ...) -> None: ...

class GradientPenalty(_message.Message):
    __slots__ = ("variant", "target_norm", "one_sided")
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    TARGET_NORM_FIELD_NUMBER: _ClassVar[int]
    ONE_SIDED_FIELD_NUMBER: _ClassVar[int]
    variant: GradientPenaltyVariant
    target_norm: float
    one_sided: bool
    def __init__(self, variant: _Optional[_Union[GradientPenaltyVariant, str]] = ..., target_norm: _Optional[float] = ..., one_sided: bool = ...) -> None: ...

class FeatureMatching(_message.Message):
    __slots__ = ("layer_weights", "distance", "style_weight")
    LAYER_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_FIELD_NUMBER: _ClassVar[int]
    STYLE_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    layer_weights: _containers.RepeatedScalarFieldContainer[float]
    distance: Distance
    style_weight: float
    def __init__(self, layer_weights: _Optional[_Iterable[float]] = ..., distance: _Optional[_Union[Distance, str]] = ..., style_weight: _Optional[float] = ...) -> None: ...

class Perceptual(_message.Message):
    __slots__ = ("network", "layers", "layer_weights", "distance", "style_weight", "value_range", "replicate_grey")
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    LAYER_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_FIELD_NUMBER: _ClassVar[int]
    STYLE_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    VALUE_RANGE_FIELD_NUMBER: _ClassVar[int]
    REPLICATE_GREY_FIELD_NUMBER: _ClassVar[int]
    network: str
    layers: _containers.RepeatedScalarFieldContainer[str]
    layer_weights: _containers.RepeatedScalarFieldContainer[float]
    distance: Distance
    style_weight: float
    value_range: _containers.RepeatedScalarFieldContainer[float]
    replicate_grey: bool
    def __init__(self, network: _Optional[str] = ..., layers: _Optional[_Iterable[str]] = ..., layer_weights: _Optional[_Iterable[float]] = ..., distance: _Optional[_Union[Distance, str]] = ..., style_weight: _Optional[float] = ..., value_range: _Optional[_Iterable[float]] = ..., replicate_grey: bool = ...) -> None: ...

class Lpips(_message.Message):
    __slots__ = ("network", "value_range", "replicate_grey")
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    VALUE_RANGE_FIELD_NUMBER: _ClassVar[int]
    REPLICATE_GREY_FIELD_NUMBER: _ClassVar[int]
    network: str
    value_range: _containers.RepeatedScalarFieldContainer[float]
    replicate_grey: bool
    def __init__(self, network: _Optional[str] = ..., value_range: _Optional[_Iterable[float]] = ..., replicate_grey: bool = ...) -> None: ...

class WeightedSum(_message.Message):
    __slots__ = ("terms",)
    TERMS_FIELD_NUMBER: _ClassVar[int]
    terms: _containers.RepeatedCompositeFieldContainer[WeightedTerm]
    def __init__(self, terms: _Optional[_Iterable[_Union[WeightedTerm, _Mapping]]] = ...) -> None: ...

class WeightedTerm(_message.Message):
    __slots__ = ("weight", "loss", "input_names")
    class InputNamesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    INPUT_NAMES_FIELD_NUMBER: _ClassVar[int]
    weight: float
    loss: LossSpec
    input_names: _containers.ScalarMap[str, str]
    def __init__(self, weight: _Optional[float] = ..., loss: _Optional[_Union[LossSpec, _Mapping]] = ..., input_names: _Optional[_Mapping[str, str]] = ...) -> None: ...

class PolicyGradient(_message.Message):
    __slots__ = ("objective", "ratio", "aggregation", "sequence_length", "clip_low", "clip_high", "dual_clip", "positive_temperature", "negative_temperature", "quadratic_coefficient", "divergence_threshold", "kl_estimator", "kl_coefficient", "rollout_correction", "rollout_low", "rollout_high", "outputs")
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    RATIO_FIELD_NUMBER: _ClassVar[int]
    AGGREGATION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    CLIP_LOW_FIELD_NUMBER: _ClassVar[int]
    CLIP_HIGH_FIELD_NUMBER: _ClassVar[int]
    DUAL_CLIP_FIELD_NUMBER: _ClassVar[int]
    POSITIVE_TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    QUADRATIC_COEFFICIENT_FIELD_NUMBER: _ClassVar[int]
    DIVERGENCE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    KL_ESTIMATOR_FIELD_NUMBER: _ClassVar[int]
    KL_COEFFICIENT_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_CORRECTION_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_LOW_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_HIGH_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    objective: PolicyObjective
    ratio: PolicyRatio
    aggregation: TokenAggregation
    sequence_length: float
    clip_low: float
    clip_high: float
    dual_clip: float
    positive_temperature: float
    negative_temperature: float
    quadratic_coefficient: float
    divergence_threshold: float
    kl_estimator: KlEstimator
    kl_coefficient: float
    rollout_correction: RolloutCorrection
    rollout_low: float
    rollout_high: float
    outputs: _containers.RepeatedScalarFieldContainer[PolicyGradientOutput]
    def __init__(self, objective: _Optional[_Union[PolicyObjective, str]] = ..., ratio: _Optional[_Union[PolicyRatio, str]] = ..., aggregation: _Optional[_Union[TokenAggregation, str]] = ..., sequence_length: _Optional[float] = ..., clip_low: _Optional[float] = ..., clip_high: _Optional[float] = ..., dual_clip: _Optional[float] = ..., positive_temperature: _Optional[float] = ..., negative_temperature: _Optional[float] = ..., quadratic_coefficient: _Optional[float] = ..., divergence_threshold: _Optional[float] = ..., kl_estimator: _Optional[_Union[KlEstimator, str]] = ..., kl_coefficient: _Optional[float] = ..., rollout_correction: _Optional[_Union[RolloutCorrection, str]] = ..., rollout_low: _Optional[float] = ..., rollout_high: _Optional[float] = ..., outputs: _Optional[_Iterable[_Union[PolicyGradientOutput, str]]] = ...) -> None: ...

class Preference(_message.Message):
    __slots__ = ("objective", "beta", "label_smoothing", "margin", "likelihood_weight", "temperature", "average", "outputs")
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    BETA_FIELD_NUMBER: _ClassVar[int]
    LABEL_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    LIKELIHOOD_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    objective: PreferenceObjective
    beta: float
    label_smoothing: float
    margin: float
    likelihood_weight: float
    temperature: float
    average: bool
    outputs: _containers.RepeatedScalarFieldContainer[PreferenceOutput]
    def __init__(self, objective: _Optional[_Union[PreferenceObjective, str]] = ..., beta: _Optional[float] = ..., label_smoothing: _Optional[float] = ..., margin: _Optional[float] = ..., likelihood_weight: _Optional[float] = ..., temperature: _Optional[float] = ..., average: bool = ..., outputs: _Optional[_Iterable[_Union[PreferenceOutput, str]]] = ...) -> None: ...

class KahnemanTversky(_message.Message):
    __slots__ = ("beta", "desirable_weight", "undesirable_weight", "baseline", "outputs")
    BETA_FIELD_NUMBER: _ClassVar[int]
    DESIRABLE_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    UNDESIRABLE_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    beta: float
    desirable_weight: float
    undesirable_weight: float
    baseline: float
    outputs: _containers.RepeatedScalarFieldContainer[KahnemanTverskyOutput]
    def __init__(self, beta: _Optional[float] = ..., desirable_weight: _Optional[float] = ..., undesirable_weight: _Optional[float] = ..., baseline: _Optional[float] = ..., outputs: _Optional[_Iterable[_Union[KahnemanTverskyOutput, str]]] = ...) -> None: ...

class BinaryClassifierOptimization(_message.Message):
    __slots__ = ("beta", "shift", "outputs")
    BETA_FIELD_NUMBER: _ClassVar[int]
    SHIFT_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    beta: float
    shift: float
    outputs: _containers.RepeatedScalarFieldContainer[BinaryClassifierOptimizationOutput]
    def __init__(self, beta: _Optional[float] = ..., shift: _Optional[float] = ..., outputs: _Optional[_Iterable[_Union[BinaryClassifierOptimizationOutput, str]]] = ...) -> None: ...

class BradleyTerry(_message.Message):
    __slots__ = ("centering", "outputs")
    CENTERING_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    centering: float
    outputs: _containers.RepeatedScalarFieldContainer[BradleyTerryOutput]
    def __init__(self, centering: _Optional[float] = ..., outputs: _Optional[_Iterable[_Union[BradleyTerryOutput, str]]] = ...) -> None: ...

class ClippedValue(_message.Message):
    __slots__ = ("clip_range", "aggregation", "sequence_length", "outputs")
    CLIP_RANGE_FIELD_NUMBER: _ClassVar[int]
    AGGREGATION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    clip_range: float
    aggregation: TokenAggregation
    sequence_length: float
    outputs: _containers.RepeatedScalarFieldContainer[ClippedValueOutput]
    def __init__(self, clip_range: _Optional[float] = ..., aggregation: _Optional[_Union[TokenAggregation, str]] = ..., sequence_length: _Optional[float] = ..., outputs: _Optional[_Iterable[_Union[ClippedValueOutput, str]]] = ...) -> None: ...

class Distillation(_message.Message):
    __slots__ = ("divergence", "support", "aggregation", "sequence_length", "beta", "temperature", "outputs")
    DIVERGENCE_FIELD_NUMBER: _ClassVar[int]
    SUPPORT_FIELD_NUMBER: _ClassVar[int]
    AGGREGATION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    BETA_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    divergence: DistillationDivergence
    support: DistillationSupport
    aggregation: TokenAggregation
    sequence_length: float
    beta: float
    temperature: float
    outputs: _containers.RepeatedScalarFieldContainer[DistillationOutput]
    def __init__(self, divergence: _Optional[_Union[DistillationDivergence, str]] = ..., support: _Optional[_Union[DistillationSupport, str]] = ..., aggregation: _Optional[_Union[TokenAggregation, str]] = ..., sequence_length: _Optional[float] = ..., beta: _Optional[float] = ..., temperature: _Optional[float] = ..., outputs: _Optional[_Iterable[_Union[DistillationOutput, str]]] = ...) -> None: ...
