from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union
from typing import Literal as _Literal, SupportsFloat as _SupportsFloat, SupportsIndex as _SupportsIndex, TypeAlias as _TypeAlias

_CrossEntropyOutputName: _TypeAlias = _Literal['LOG_SUM_EXP', 'TARGET_LOG_PROBABILITY', 'ENTROPY', 'PREDICTED_CLASS', 'CROSS_ENTROPY_OUTPUT_LOG_SUM_EXP', 'CROSS_ENTROPY_OUTPUT_TARGET_LOG_PROBABILITY', 'CROSS_ENTROPY_OUTPUT_ENTROPY', 'CROSS_ENTROPY_OUTPUT_PREDICTED_CLASS']
_DistanceName: _TypeAlias = _Literal['EUCLIDEAN', 'SQUARED_EUCLIDEAN', 'COSINE', 'DISTANCE_EUCLIDEAN', 'DISTANCE_SQUARED_EUCLIDEAN', 'DISTANCE_COSINE']
_MiningName: _TypeAlias = _Literal['ALL', 'HARD', 'SEMI_HARD', 'MINING_ALL', 'MINING_HARD', 'MINING_SEMI_HARD']
_BatchTripletOutputName: _TypeAlias = _Literal['MINED_POSITIVE', 'MINED_NEGATIVE', 'BATCH_TRIPLET_OUTPUT_MINED_POSITIVE', 'BATCH_TRIPLET_OUTPUT_MINED_NEGATIVE']
_PolicyObjectiveName: _TypeAlias = _Literal['REINFORCE', 'IMPORTANCE_SAMPLING', 'PPO_CLIP', 'DUAL_CLIP', 'CISPO', 'SAPO', 'DRO', 'DPPO_TV', 'DPPO_KL', 'POLICY_OBJECTIVE_REINFORCE', 'POLICY_OBJECTIVE_IMPORTANCE_SAMPLING', 'POLICY_OBJECTIVE_PPO_CLIP', 'POLICY_OBJECTIVE_DUAL_CLIP', 'POLICY_OBJECTIVE_CISPO', 'POLICY_OBJECTIVE_SAPO', 'POLICY_OBJECTIVE_DRO', 'POLICY_OBJECTIVE_DPPO_TV', 'POLICY_OBJECTIVE_DPPO_KL']
_PolicyRatioName: _TypeAlias = _Literal['NONE', 'TOKEN', 'SEQUENCE', 'SEQUENCE_TOKEN', 'POLICY_RATIO_NONE', 'POLICY_RATIO_TOKEN', 'POLICY_RATIO_SEQUENCE', 'POLICY_RATIO_SEQUENCE_TOKEN']
_TokenAggregationName: _TypeAlias = _Literal['SUM', 'TOKEN_MEAN', 'SEQUENCE_MEAN', 'CONSTANT_LENGTH', 'GROUP_MEAN', 'TOKEN_AGGREGATION_SUM', 'TOKEN_AGGREGATION_TOKEN_MEAN', 'TOKEN_AGGREGATION_SEQUENCE_MEAN', 'TOKEN_AGGREGATION_CONSTANT_LENGTH', 'TOKEN_AGGREGATION_GROUP_MEAN']
_KlEstimatorName: _TypeAlias = _Literal['NONE', 'K1', 'K2', 'K3', 'KL_ESTIMATOR_NONE', 'KL_ESTIMATOR_K1', 'KL_ESTIMATOR_K2', 'KL_ESTIMATOR_K3']
_RolloutCorrectionName: _TypeAlias = _Literal['NONE', 'TOKEN_TRUNCATE', 'TOKEN_MASK', 'SEQUENCE_TRUNCATE', 'SEQUENCE_MASK', 'ROLLOUT_CORRECTION_NONE', 'ROLLOUT_CORRECTION_TOKEN_TRUNCATE', 'ROLLOUT_CORRECTION_TOKEN_MASK', 'ROLLOUT_CORRECTION_SEQUENCE_TRUNCATE', 'ROLLOUT_CORRECTION_SEQUENCE_MASK']
_PolicyGradientOutputName: _TypeAlias = _Literal['CLIP_FRACTION', 'RATIO', 'LARGEST_RATIO', 'KL', 'ROLLOUT_GAP', 'TOKEN_COUNT', 'RATIO_P05', 'RATIO_P50', 'RATIO_P95', 'SAMPLING_KL', 'ENTROPY', 'POLICY_GRADIENT_OUTPUT_CLIP_FRACTION', 'POLICY_GRADIENT_OUTPUT_RATIO', 'POLICY_GRADIENT_OUTPUT_LARGEST_RATIO', 'POLICY_GRADIENT_OUTPUT_KL', 'POLICY_GRADIENT_OUTPUT_ROLLOUT_GAP', 'POLICY_GRADIENT_OUTPUT_TOKEN_COUNT', 'POLICY_GRADIENT_OUTPUT_RATIO_P05', 'POLICY_GRADIENT_OUTPUT_RATIO_P50', 'POLICY_GRADIENT_OUTPUT_RATIO_P95', 'POLICY_GRADIENT_OUTPUT_SAMPLING_KL', 'POLICY_GRADIENT_OUTPUT_ENTROPY']
_PreferenceObjectiveName: _TypeAlias = _Literal['SIGMOID', 'IPO', 'HINGE', 'ROBUST', 'APO_ZERO', 'APO_DOWN', 'EXO', 'NCA', 'DISCOPOP', 'SIMPO', 'ORPO', 'CPO', 'PREFERENCE_OBJECTIVE_SIGMOID', 'PREFERENCE_OBJECTIVE_IPO', 'PREFERENCE_OBJECTIVE_HINGE', 'PREFERENCE_OBJECTIVE_ROBUST', 'PREFERENCE_OBJECTIVE_APO_ZERO', 'PREFERENCE_OBJECTIVE_APO_DOWN', 'PREFERENCE_OBJECTIVE_EXO', 'PREFERENCE_OBJECTIVE_NCA', 'PREFERENCE_OBJECTIVE_DISCOPOP', 'PREFERENCE_OBJECTIVE_SIMPO', 'PREFERENCE_OBJECTIVE_ORPO', 'PREFERENCE_OBJECTIVE_CPO']
_PreferenceOutputName: _TypeAlias = _Literal['CHOSEN_REWARD', 'REJECTED_REWARD', 'REWARD_MARGIN', 'ACCURACY', 'PREFERENCE_OUTPUT_CHOSEN_REWARD', 'PREFERENCE_OUTPUT_REJECTED_REWARD', 'PREFERENCE_OUTPUT_REWARD_MARGIN', 'PREFERENCE_OUTPUT_ACCURACY']
_KahnemanTverskyOutputName: _TypeAlias = _Literal['REWARD', 'BASELINE', 'KAHNEMAN_TVERSKY_OUTPUT_REWARD', 'KAHNEMAN_TVERSKY_OUTPUT_BASELINE']
_BinaryClassifierOptimizationOutputName: _TypeAlias = _Literal['REWARD', 'SHIFT', 'BINARY_CLASSIFIER_OPTIMIZATION_OUTPUT_REWARD', 'BINARY_CLASSIFIER_OPTIMIZATION_OUTPUT_SHIFT']
_BradleyTerryOutputName: _TypeAlias = _Literal['REWARD_MARGIN', 'ACCURACY', 'BRADLEY_TERRY_OUTPUT_REWARD_MARGIN', 'BRADLEY_TERRY_OUTPUT_ACCURACY']
_ClippedValueOutputName: _TypeAlias = _Literal['CLIP_FRACTION', 'CLIPPED_VALUE_OUTPUT_CLIP_FRACTION']
_DistillationDivergenceName: _TypeAlias = _Literal['FORWARD_KL', 'REVERSE_KL', 'JENSEN_SHANNON', 'INTERPOLATED_JENSEN_SHANNON', 'DISTILLATION_DIVERGENCE_FORWARD_KL', 'DISTILLATION_DIVERGENCE_REVERSE_KL', 'DISTILLATION_DIVERGENCE_JENSEN_SHANNON', 'DISTILLATION_DIVERGENCE_INTERPOLATED_JENSEN_SHANNON']
_DistillationSupportName: _TypeAlias = _Literal['WHOLE', 'TAIL_BUCKET', 'TRUNCATED', 'DISTILLATION_SUPPORT_WHOLE', 'DISTILLATION_SUPPORT_TAIL_BUCKET', 'DISTILLATION_SUPPORT_TRUNCATED']
_DistillationOutputName: _TypeAlias = _Literal['STUDENT_MASS', 'TEACHER_MASS', 'DISTILLATION_OUTPUT_STUDENT_MASS', 'DISTILLATION_OUTPUT_TEACHER_MASS']
_GanObjectiveName: _TypeAlias = _Literal['MINIMAX', 'NON_SATURATING', 'LEAST_SQUARES', 'HINGE', 'WASSERSTEIN', 'RELATIVISTIC', 'RELATIVISTIC_AVERAGE', 'GAN_OBJECTIVE_MINIMAX', 'GAN_OBJECTIVE_NON_SATURATING', 'GAN_OBJECTIVE_LEAST_SQUARES', 'GAN_OBJECTIVE_HINGE', 'GAN_OBJECTIVE_WASSERSTEIN', 'GAN_OBJECTIVE_RELATIVISTIC', 'GAN_OBJECTIVE_RELATIVISTIC_AVERAGE']
_GradientPenaltyVariantName: _TypeAlias = _Literal['WGAN_GP', 'R1', 'GRADIENT_PENALTY_VARIANT_WGAN_GP', 'GRADIENT_PENALTY_VARIANT_R1']
_EmptyTargetName: _TypeAlias = _Literal['SMOOTH', 'SKIP', 'EMPTY_TARGET_SMOOTH', 'EMPTY_TARGET_SKIP']
_AucSurrogateName: _TypeAlias = _Literal['SQUARED_HINGE', 'LOGISTIC', 'AUC_SURROGATE_SQUARED_HINGE', 'AUC_SURROGATE_LOGISTIC']
_MulticlassHingeVariantName: _TypeAlias = _Literal['CRAMMER_SINGER', 'WESTON_WATKINS', 'MULTICLASS_HINGE_VARIANT_CRAMMER_SINGER', 'MULTICLASS_HINGE_VARIANT_WESTON_WATKINS']
_DistributionKindName: _TypeAlias = _Literal['LOGITS', 'LOG_PROBABILITIES', 'PROBABILITIES', 'DISTRIBUTION_KIND_LOGITS', 'DISTRIBUTION_KIND_LOG_PROBABILITIES', 'DISTRIBUTION_KIND_PROBABILITIES']

class _SingleLoss(_message.Message): ...

DESCRIPTOR: _descriptor.FileDescriptor

class CrossEntropyOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Further outputs of cross-entropy: one number for each example, of the type of the losses unless
    stated otherwise. They include temperature and class priors, but not weights and smoothing.

    Members:
        LOG_SUM_EXP: "log_sum_exp": natural logarithm of the sum of the exponentials of the logits.
        TARGET_LOG_PROBABILITY: "target_log_probability": natural logarithm of the probability of
            the target class; with a target for each class, the sum of target times log-probability.
        ENTROPY: "entropy": of the predicted distribution, in nats.
        PREDICTED_CLASS: "predicted_class": index of the largest logit, the lowest one of several.
            INT64. Meaningless where a logit is NaN.
    """
    __slots__ = ()
    CROSS_ENTROPY_OUTPUT_UNSPECIFIED: _ClassVar[CrossEntropyOutput]
    CROSS_ENTROPY_OUTPUT_LOG_SUM_EXP: _ClassVar[CrossEntropyOutput]
    CROSS_ENTROPY_OUTPUT_TARGET_LOG_PROBABILITY: _ClassVar[CrossEntropyOutput]
    CROSS_ENTROPY_OUTPUT_ENTROPY: _ClassVar[CrossEntropyOutput]
    CROSS_ENTROPY_OUTPUT_PREDICTED_CLASS: _ClassVar[CrossEntropyOutput]

class Distance(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """The distance between two vectors.

    Members:
        EUCLIDEAN: Length of the difference.
        SQUARED_EUCLIDEAN: Squared length of the difference.
        COSINE: One minus the cosine of the angle.
    """
    __slots__ = ()
    DISTANCE_UNSPECIFIED: _ClassVar[Distance]
    DISTANCE_EUCLIDEAN: _ClassVar[Distance]
    DISTANCE_SQUARED_EUCLIDEAN: _ClassVar[Distance]
    DISTANCE_COSINE: _ClassVar[Distance]

class Mining(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Which triplets of an anchor count.

    Members:
        ALL: The mean over all triplets.
        HARD: The farthest positive and the nearest negative.
        SEMI_HARD: The mean over positives, each with the nearest negative that is farther or,
            without one, with the farthest.
    """
    __slots__ = ()
    MINING_UNSPECIFIED: _ClassVar[Mining]
    MINING_ALL: _ClassVar[Mining]
    MINING_HARD: _ClassVar[Mining]
    MINING_SEMI_HARD: _ClassVar[Mining]

class BatchTripletOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Further outputs of the triplet loss of a batch, one int64 for each example: the index of another
    example, or -1 for one that is no anchor.

    Members:
        MINED_POSITIVE: "mined_positive": the positive of the anchor's hardest triplet.
        MINED_NEGATIVE: "mined_negative": the negative of the anchor's hardest triplet.
    """
    __slots__ = ()
    BATCH_TRIPLET_OUTPUT_UNSPECIFIED: _ClassVar[BatchTripletOutput]
    BATCH_TRIPLET_OUTPUT_MINED_POSITIVE: _ClassVar[BatchTripletOutput]
    BATCH_TRIPLET_OUTPUT_MINED_NEGATIVE: _ClassVar[BatchTripletOutput]

class PolicyObjective(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """How the loss follows from an advantage A and a ratio r, with l the log-probability and q that of
    the sampling policy.

    Members:
        REINFORCE: -A l.
        IMPORTANCE_SAMPLING: -r A.
        PPO_CLIP: -min(r A, clip(r, clip_low, clip_high) A).
        DUAL_CLIP: The same, and at most -dual_clip A where A is negative.
        CISPO: -clip(r, clip_low, clip_high) A l, with the clipped ratio held constant.
        SAPO: -(4 / t) sigmoid(t (r - 1)) A, t the temperature of A's sign.
        DRO: -A l + quadratic_coefficient (l - q)^2 / 2.
        DPPO_TV: -r A, 0 where r went the way of A and |exp(l) - exp(q)| is above
            divergence_threshold.
        DPPO_KL: The same with the divergence of the token from all others, of q from l.
    """
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
    """Whether tokens or sequences have a ratio to the sampling policy.

    Members:
        NONE: There is no ratio.
        TOKEN: Each token has one.
        SEQUENCE: Each sequence has one, the geometric mean over its tokens, with its own
            derivative.
        SEQUENCE_TOKEN: The same number, whose derivative goes to each token by itself.
    """
    __slots__ = ()
    POLICY_RATIO_UNSPECIFIED: _ClassVar[PolicyRatio]
    POLICY_RATIO_NONE: _ClassVar[PolicyRatio]
    POLICY_RATIO_TOKEN: _ClassVar[PolicyRatio]
    POLICY_RATIO_SEQUENCE: _ClassVar[PolicyRatio]
    POLICY_RATIO_SEQUENCE_TOKEN: _ClassVar[PolicyRatio]

class TokenAggregation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """How the losses of tokens become one of a sequence, and what a mean divides by. The reductions
    sum and none divide by nothing else.

    Members:
        SUM: The sum over the sequence; a mean divides by the number of sequences.
        TOKEN_MEAN: The sum over the sequence; a mean divides by the number of tokens that count.
        SEQUENCE_MEAN: The mean over the sequence; a mean divides by the number of sequences.
        CONSTANT_LENGTH: The sum over the sequence divided by sequence_length; a mean divides by the
            number of sequences.
        GROUP_MEAN: The sum over the sequence divided by the number of tokens of its group; a mean
            divides by the number of groups. Sequences of weight 0 are among those of their group,
            masked ones are not.
    """
    __slots__ = ()
    TOKEN_AGGREGATION_UNSPECIFIED: _ClassVar[TokenAggregation]
    TOKEN_AGGREGATION_SUM: _ClassVar[TokenAggregation]
    TOKEN_AGGREGATION_TOKEN_MEAN: _ClassVar[TokenAggregation]
    TOKEN_AGGREGATION_SEQUENCE_MEAN: _ClassVar[TokenAggregation]
    TOKEN_AGGREGATION_CONSTANT_LENGTH: _ClassVar[TokenAggregation]
    TOKEN_AGGREGATION_GROUP_MEAN: _ClassVar[TokenAggregation]

class KlEstimator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """How the divergence from the reference is estimated from one token, with d the log-probability
    minus that of the reference.

    Members:
        NONE: Not at all.
        K1: d.
        K2: d^2 / 2.
        K3: exp(-d) - 1 + d.
    """
    __slots__ = ()
    KL_ESTIMATOR_UNSPECIFIED: _ClassVar[KlEstimator]
    KL_ESTIMATOR_NONE: _ClassVar[KlEstimator]
    KL_ESTIMATOR_K1: _ClassVar[KlEstimator]
    KL_ESTIMATOR_K2: _ClassVar[KlEstimator]
    KL_ESTIMATOR_K3: _ClassVar[KlEstimator]

class RolloutCorrection(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Corrections for a sampler whose log-probabilities b differ from the trainer's q. The weight of a
    token is exp(q - b), that of a sequence exp(sum of q - b).

    Members:
        NONE: Nothing.
        TOKEN_TRUNCATE: Each token has its weight, at most rollout_high.
        TOKEN_MASK: Each token has its weight, or none outside rollout_low to rollout_high.
        SEQUENCE_TRUNCATE: Each sequence has its weight, at most rollout_high.
        SEQUENCE_MASK: Each sequence has its weight, or none outside rollout_low to rollout_high.
    """
    __slots__ = ()
    ROLLOUT_CORRECTION_UNSPECIFIED: _ClassVar[RolloutCorrection]
    ROLLOUT_CORRECTION_NONE: _ClassVar[RolloutCorrection]
    ROLLOUT_CORRECTION_TOKEN_TRUNCATE: _ClassVar[RolloutCorrection]
    ROLLOUT_CORRECTION_TOKEN_MASK: _ClassVar[RolloutCorrection]
    ROLLOUT_CORRECTION_SEQUENCE_TRUNCATE: _ClassVar[RolloutCorrection]
    ROLLOUT_CORRECTION_SEQUENCE_MASK: _ClassVar[RolloutCorrection]

class PolicyGradientOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Further outputs for each sequence, one number of the type of the losses.

    Members:
        CLIP_FRACTION: "clip_fraction": share of the tokens that the objective clips or masks; those
            that rollout_correction drops are not among them.
        RATIO: "ratio": mean of the ratios of its tokens.
        LARGEST_RATIO: "largest_ratio": largest ratio of its tokens.
        KL: "kl": mean of the estimates of the divergence from the reference; 0 without one.
        ROLLOUT_GAP: "rollout_gap": mean over its tokens of how far the log-probabilities of trainer
            and sampler are apart; 0 without either.
        TOKEN_COUNT: "token_count": how many of its tokens count.
        RATIO_P05: "ratio_p05": the 5th percentile of the ratios of its tokens, one of these ratios.
        RATIO_P50: "ratio_p50": the 50th percentile, likewise.
        RATIO_P95: "ratio_p95": the 95th percentile, likewise.
        SAMPLING_KL: "sampling_kl": mean over its tokens of the sampling minus the trained log-
            probability, an estimate of how far the policy has moved; 0 without a sampling policy.
        ENTROPY: "entropy": mean of the entropies of its tokens; 0 without them.
    """
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
    """How the loss follows from the scores c and r of a chosen and a rejected answer, their log-
    probabilities minus those of the reference; h is beta (c - r).

    Members:
        SIGMOID: -log sigmoid(h), with label smoothing: DPO.
        IPO: (c - r - 1 / (2 beta))^2.
        HINGE: max(0, 1 - h).
        ROBUST: -log sigmoid(h), corrected for the bias of flipped labels.
        APO_ZERO: 1 - sigmoid(beta c) + sigmoid(beta r).
        APO_DOWN: sigmoid(beta c) + 1 - sigmoid(h).
        EXO: Divergence of sigmoid(h) from the smoothed label.
        NCA: -log sigmoid(beta c) - (log sigmoid(-beta c) + log sigmoid(-beta r)) / 2.
        DISCOPOP: -log sigmoid(h) and exp(-h), mixed by sigmoid(h / temperature).
        SIMPO: -log sigmoid(h - margin), without a reference.
        ORPO: -c, and beta times -log sigmoid of the log-odds ratio, without a reference.
        CPO: -log sigmoid(h) - likelihood_weight c, without a reference.
    """
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
    """Further outputs for each pair, one number of the type of the losses.

    Members:
        CHOSEN_REWARD: "chosen_reward": beta times the score of the chosen answer.
        REJECTED_REWARD: "rejected_reward": beta times the score of the rejected answer.
        REWARD_MARGIN: "reward_margin": the difference of the two.
        ACCURACY: "accuracy": 1 where the chosen answer has the higher score, else 0.
    """
    __slots__ = ()
    PREFERENCE_OUTPUT_UNSPECIFIED: _ClassVar[PreferenceOutput]
    PREFERENCE_OUTPUT_CHOSEN_REWARD: _ClassVar[PreferenceOutput]
    PREFERENCE_OUTPUT_REJECTED_REWARD: _ClassVar[PreferenceOutput]
    PREFERENCE_OUTPUT_REWARD_MARGIN: _ClassVar[PreferenceOutput]
    PREFERENCE_OUTPUT_ACCURACY: _ClassVar[PreferenceOutput]

class KahnemanTverskyOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Further outputs for each answer, one number of the type of the losses.

    Members:
        REWARD: "reward": beta times its log-ratio to the reference.
        BASELINE: "baseline": the number that its log-ratio is compared with, the same for all.
    """
    __slots__ = ()
    KAHNEMAN_TVERSKY_OUTPUT_UNSPECIFIED: _ClassVar[KahnemanTverskyOutput]
    KAHNEMAN_TVERSKY_OUTPUT_REWARD: _ClassVar[KahnemanTverskyOutput]
    KAHNEMAN_TVERSKY_OUTPUT_BASELINE: _ClassVar[KahnemanTverskyOutput]

class BinaryClassifierOptimizationOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Further outputs for each answer, one number of the type of the losses.

    Members:
        REWARD: "reward": beta times its log-ratio to the reference.
        SHIFT: "shift": the number that its reward is compared with, the same for all.
    """
    __slots__ = ()
    BINARY_CLASSIFIER_OPTIMIZATION_OUTPUT_UNSPECIFIED: _ClassVar[BinaryClassifierOptimizationOutput]
    BINARY_CLASSIFIER_OPTIMIZATION_OUTPUT_REWARD: _ClassVar[BinaryClassifierOptimizationOutput]
    BINARY_CLASSIFIER_OPTIMIZATION_OUTPUT_SHIFT: _ClassVar[BinaryClassifierOptimizationOutput]

class BradleyTerryOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Further outputs for each pair, one number of the type of the losses.

    Members:
        REWARD_MARGIN: "reward_margin": the reward of the chosen answer minus the other's.
        ACCURACY: "accuracy": 1 where the chosen answer has the higher reward, else 0.
    """
    __slots__ = ()
    BRADLEY_TERRY_OUTPUT_UNSPECIFIED: _ClassVar[BradleyTerryOutput]
    BRADLEY_TERRY_OUTPUT_REWARD_MARGIN: _ClassVar[BradleyTerryOutput]
    BRADLEY_TERRY_OUTPUT_ACCURACY: _ClassVar[BradleyTerryOutput]

class ClippedValueOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Further outputs for each sequence, one number of the type of the losses.

    Members:
        CLIP_FRACTION: "clip_fraction": share of the tokens whose gradient is clipped to 0.
    """
    __slots__ = ()
    CLIPPED_VALUE_OUTPUT_UNSPECIFIED: _ClassVar[ClippedValueOutput]
    CLIPPED_VALUE_OUTPUT_CLIP_FRACTION: _ClassVar[ClippedValueOutput]

class DistillationDivergence(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """How far a student's distribution S is from a teacher's T, with the mixture M = beta T + (1 -
    beta) S.

    Members:
        FORWARD_KL: KL(T || S): the mean is under the teacher.
        REVERSE_KL: KL(S || T): the mean is under the student.
        JENSEN_SHANNON: beta KL(T || M) + (1 - beta) KL(S || M); 0 at both ends.
        INTERPOLATED_JENSEN_SHANNON: (1 - beta) KL(T || M) + beta KL(S || M); forward KL at 0,
            reverse KL at 1.
    """
    __slots__ = ()
    DISTILLATION_DIVERGENCE_UNSPECIFIED: _ClassVar[DistillationDivergence]
    DISTILLATION_DIVERGENCE_FORWARD_KL: _ClassVar[DistillationDivergence]
    DISTILLATION_DIVERGENCE_REVERSE_KL: _ClassVar[DistillationDivergence]
    DISTILLATION_DIVERGENCE_JENSEN_SHANNON: _ClassVar[DistillationDivergence]
    DISTILLATION_DIVERGENCE_INTERPOLATED_JENSEN_SHANNON: _ClassVar[DistillationDivergence]

class DistillationSupport(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Which classes the numbers of a token stand for.

    Members:
        WHOLE: Logits or log-probabilities of all classes there are, made to sum to 1.
        TAIL_BUCKET: Log-probabilities of some classes, with all others as one more.
        TRUNCATED: Log-probabilities of some classes, without the others.
    """
    __slots__ = ()
    DISTILLATION_SUPPORT_UNSPECIFIED: _ClassVar[DistillationSupport]
    DISTILLATION_SUPPORT_WHOLE: _ClassVar[DistillationSupport]
    DISTILLATION_SUPPORT_TAIL_BUCKET: _ClassVar[DistillationSupport]
    DISTILLATION_SUPPORT_TRUNCATED: _ClassVar[DistillationSupport]

class DistillationOutput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Further outputs for each sequence, one number of the type of the losses.

    Members:
        STUDENT_MASS: "student_mass": mean of the probability that the student gives to the classes
            that are given.
        TEACHER_MASS: "teacher_mass": mean of the probability that the teacher gives to the classes
            that are given.
    """
    __slots__ = ()
    DISTILLATION_OUTPUT_UNSPECIFIED: _ClassVar[DistillationOutput]
    DISTILLATION_OUTPUT_STUDENT_MASS: _ClassVar[DistillationOutput]
    DISTILLATION_OUTPUT_TEACHER_MASS: _ClassVar[DistillationOutput]

class GanObjective(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Objectives of a generator and a critic. With r and f the critic's scores of a real and of a
    generated example, the losses of the critic and of the generator are:

    Members:
        MINIMAX: softplus(-r) + softplus(f), and -softplus(f).
        NON_SATURATING: softplus(-r) + softplus(f), and softplus(-f).
        LEAST_SQUARES: (r - 1)^2 / 2 + f^2 / 2, and (f - 1)^2 / 2.
        HINGE: max(0, 1 - r) + max(0, 1 + f), and -f.
        WASSERSTEIN: f - r, and -f.
        RELATIVISTIC: softplus(f - r), and softplus(r - f), of pairs.
        RELATIVISTIC_AVERAGE: softplus(mean f - r) + softplus(f - mean r), and softplus(r - mean f)
            + softplus(mean r - f).
    """
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
    """The quantity that a gradient penalty penalises.

    Members:
        WGAN_GP: (norm - target_norm)^2.
        R1: norm^2 / 2.
    """
    __slots__ = ()
    GRADIENT_PENALTY_VARIANT_UNSPECIFIED: _ClassVar[GradientPenaltyVariant]
    GRADIENT_PENALTY_VARIANT_WGAN_GP: _ClassVar[GradientPenaltyVariant]
    GRADIENT_PENALTY_VARIANT_R1: _ClassVar[GradientPenaltyVariant]

class EmptyTarget(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Loss of an example without a target.

    Members:
        SMOOTH: That of the formula with its smoothing.
        SKIP: None: the example is ignored and has a status; a class is left out of the example's
            mean.
    """
    __slots__ = ()
    EMPTY_TARGET_UNSPECIFIED: _ClassVar[EmptyTarget]
    EMPTY_TARGET_SMOOTH: _ClassVar[EmptyTarget]
    EMPTY_TARGET_SKIP: _ClassVar[EmptyTarget]

class AucSurrogate(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """A function of the difference between the scores of a positive and a negative example.

    Members:
        SQUARED_HINGE: max(0, margin - difference)^2.
        LOGISTIC: log(1 + exp(-difference)).
    """
    __slots__ = ()
    AUC_SURROGATE_UNSPECIFIED: _ClassVar[AucSurrogate]
    AUC_SURROGATE_SQUARED_HINGE: _ClassVar[AucSurrogate]
    AUC_SURROGATE_LOGISTIC: _ClassVar[AucSurrogate]

class MulticlassHingeVariant(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """Which wrong classes a multiclass hinge looks at.

    Members:
        CRAMMER_SINGER: The best of them.
        WESTON_WATKINS: Each of them, added up.
    """
    __slots__ = ()
    MULTICLASS_HINGE_VARIANT_UNSPECIFIED: _ClassVar[MulticlassHingeVariant]
    MULTICLASS_HINGE_VARIANT_CRAMMER_SINGER: _ClassVar[MulticlassHingeVariant]
    MULTICLASS_HINGE_VARIANT_WESTON_WATKINS: _ClassVar[MulticlassHingeVariant]

class DistributionKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    """The numbers in which an input describes a distribution.

    Members:
        LOGITS: Real numbers; their softmax or sigmoid is the distribution.
        LOG_PROBABILITIES: Natural logarithms of probabilities.
        PROBABILITIES: Probabilities.
    """
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
    """A loss and its parameters. A request without one, or with one that the server does not know, is
    UNIMPLEMENTED; there is no default loss.

    Args:
        squared_error: Squared error.
        absolute_error: Absolute error.
        log_cosh: Logarithm of the hyperbolic cosine of the error.
        huber: Huber loss.
        smooth_l1: Smooth L1 loss.
        quantile: Quantile loss.
        poisson_nll: Negative log-likelihood of counts.
        gaussian_nll: Negative log-likelihood of Gaussian noise.
        cross_entropy: Cross-entropy over classes.
        binary_cross_entropy: Cross-entropy of independent yes-or-no questions.
        kl_divergence: Kullback-Leibler divergence from a target distribution.
        hinge: Hinge loss of yes-or-no answers.
        multiclass_hinge: Hinge loss over classes.
        focal: Focal loss of yes-or-no answers.
        softmax_focal: Focal loss over classes.
        expected_risk: Expected risk over candidates.
        dice: Dice loss.
        jaccard: Jaccard loss.
        tversky: Tversky loss.
        lovasz_hinge: Lovász hinge.
        lovasz_softmax: Lovász softmax.
        soft_f1: F1 score of soft counts over the batch.
        pairwise_auc: Surrogate of the area under the ROC curve.
        triplet: Triplet loss of given triplets.
        batch_triplet: Triplet loss with triplets from the batch.
        contrastive: Contrastive loss of pairs.
        cosine_embedding: Cosine embedding loss of pairs.
        info_nce: Cross-entropy of finding each query's key among others.
        nt_xent: Cross-entropy of finding each example's positive among its negatives.
        supervised_contrastive: Cross-entropy of finding an example's positives among all others.
        sigmoid_contrastive: Binary cross-entropy of which keys belong to a query.
        ctc: Connectionist temporal classification.
        generator_loss: Loss of a generator against a critic.
        discriminator_loss: Loss of a critic against a generator.
        gradient_penalty: Penalty on a critic's gradients.
        feature_matching: Distance between feature maps.
        perceptual: Distance between the feature maps that a network computes of two images.
        lpips: Learned perceptual image patch similarity.
        weighted_sum: Weighted sum of losses.
        policy_gradient: Policy gradient of tokens.
        preference: Direct preference optimization and its relatives.
        kahneman_tversky: Kahneman-Tversky optimization.
        binary_classifier_optimization: Binary classifier optimization.
        bradley_terry: Likelihood of a reward model that chosen answers win.
        clipped_value: Clipped loss of a value function.
        distillation: Divergence of a student's distributions from a teacher's.
    """
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

class SquaredError(_SingleLoss):
    """Parameters of the squared error, (prediction - target)^2.

    Args:
        batch_dims: Number of leading axes that count examples; the other axes are averaged within
            each example. In [0, 8], at most the number of axes. Default 1.

    Inputs:
        predictions: (N, ...); floating point. What the model says.
        targets: (N, ...); of any type. What it should have said.

    Reference: A.-M. Legendre, Nouvelles methodes pour la determination des orbites des cometes,
    1805, appendix.

    ``lossd losses squared_error`` says more.
    """
    __slots__ = ("batch_dims",)
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    def __init__(self, batch_dims: _Optional[_SupportsIndex] = ...) -> None: ...

class AbsoluteError(_SingleLoss):
    """Parameters of the absolute error, |prediction - target|.

    Args:
        batch_dims: Number of leading axes that count examples; the other axes are averaged within
            each example. In [0, 8], at most the number of axes. Default 1.

    Inputs:
        predictions: (N, ...); floating point. What the model says.
        targets: (N, ...); of any type. What it should have said.

    Reference: R. J. Boscovich, De litteraria expeditione per pontificiam ditionem, 1757.

    ``lossd losses absolute_error`` says more.
    """
    __slots__ = ("batch_dims",)
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    def __init__(self, batch_dims: _Optional[_SupportsIndex] = ...) -> None: ...

class LogCosh(_SingleLoss):
    """Parameters of the logarithm of the hyperbolic cosine, log cosh(prediction - target).

    Args:
        batch_dims: Number of leading axes that count examples; the other axes are averaged within
            each example. In [0, 8], at most the number of axes. Default 1.

    Inputs:
        predictions: (N, ...); floating point. What the model says.
        targets: (N, ...); of any type. What it should have said.

    Reference: P. J. Green, Bayesian reconstructions from emission tomography data using a modified
    EM algorithm, 1990.

    ``lossd losses log_cosh`` says more.
    """
    __slots__ = ("batch_dims",)
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    def __init__(self, batch_dims: _Optional[_SupportsIndex] = ...) -> None: ...

class Huber(_SingleLoss):
    """Parameters of the Huber loss: half the squared error near zero, linear far from it.

    Args:
        batch_dims: Number of leading axes that count examples; the other axes are averaged within
            each example. In [0, 8], at most the number of axes. Default 1.
        delta: Residual at which the loss turns linear, in the unit of the targets. In (0, inf).
            Default 1.

    Inputs:
        predictions: (N, ...); floating point. What the model says.
        targets: (N, ...); of any type. What it should have said.

    Reference: P. J. Huber, Robust estimation of a location parameter, 1964, section 4.

    ``lossd losses huber`` says more.
    """
    __slots__ = ("batch_dims", "delta")
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    delta: float
    def __init__(self, batch_dims: _Optional[_SupportsIndex] = ..., delta: _Optional[_SupportsFloat] = ...) -> None: ...

class SmoothL1(_SingleLoss):
    """Parameters of the smooth L1 loss: the Huber loss divided by its delta.

    Args:
        batch_dims: Number of leading axes that count examples; the other axes are averaged within
            each example. In [0, 8], at most the number of axes. Default 1.
        beta: Residual at which the loss turns linear, in the unit of the targets. In (0, inf).
            Default 1.

    Inputs:
        predictions: (N, ...); floating point. What the model says.
        targets: (N, ...); of any type. What it should have said.

    Reference: R. Girshick, Fast R-CNN, 2015, section 2.3.

    ``lossd losses smooth_l1`` says more.
    """
    __slots__ = ("batch_dims", "beta")
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    BETA_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    beta: float
    def __init__(self, batch_dims: _Optional[_SupportsIndex] = ..., beta: _Optional[_SupportsFloat] = ...) -> None: ...

class Quantile(_SingleLoss):
    """Parameters of the quantile loss, q |r| where the prediction is too low and (1 - q) |r| where it
    is too high.

    Args:
        batch_dims: Number of leading axes that count examples; the other axes are averaged within
            each example. In [0, 8], at most the number of axes. Default 1.
        quantile: The quantile that the predictions estimate. In (0, 1). Default 0.5.

    Inputs:
        predictions: (N, ...); floating point. What the model says.
        targets: (N, ...); of any type. What it should have said.

    Reference: R. Koenker and G. Bassett, Regression quantiles, 1978.

    ``lossd losses quantile`` says more.
    """
    __slots__ = ("batch_dims", "quantile")
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    QUANTILE_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    quantile: float
    def __init__(self, batch_dims: _Optional[_SupportsIndex] = ..., quantile: _Optional[_SupportsFloat] = ...) -> None: ...

class PoissonNll(_SingleLoss):
    """Parameters of the negative log-likelihood of counts, rate - y log rate.

    Targets are numbers in [0, inf), floating-point or integer.

    Args:
        batch_dims: Number of leading axes that count examples; the other axes are averaged within
            each example. In [0, 8], at most the number of axes. Default 1.
        log_input: Whether predictions are logarithms of rates; otherwise they are rates. Default
            true.
        full: Whether to add log y! by Stirling's formula, for y > 1. Default false.

    Inputs:
        predictions: (N, ...); floating point. What the model says.
        targets: (N, ...); of any type. What was counted.

    Reference: P. McCullagh and J. A. Nelder, Generalized linear models, 1989, chapter 6.

    ``lossd losses poisson_nll`` says more.
    """
    __slots__ = ("batch_dims", "log_input", "full")
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    LOG_INPUT_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    log_input: bool
    full: bool
    def __init__(self, batch_dims: _Optional[_SupportsIndex] = ..., log_input: bool = ..., full: bool = ...) -> None: ...

class GaussianNll(_SingleLoss):
    """Parameters of the negative log-likelihood of Gaussian noise, (log v + r^2 / v) / 2.

    The third input, variances, holds numbers in [0, inf), shaped like the predictions.

    Args:
        batch_dims: Number of leading axes that count examples; the other axes are averaged within
            each example. In [0, 8], at most the number of axes. Default 1.
        full: Whether to add the constant log(2 pi) / 2. Default false.
        eps: Smallest variance, in the unit of the variances; smaller ones are raised to it. In (0,
            inf). Default 1e-06.

    Inputs:
        predictions: (N, ...); floating point. What the model says.
        targets: (N, ...); of any type. What it should have said.
        variances: (N, ...); floating point. The variance that the model expects of each target.

    Reference: D. A. Nix and A. S. Weigend, Estimating the mean and variance of the target
    probability distribution, 1994.

    ``lossd losses gaussian_nll`` says more.
    """
    __slots__ = ("batch_dims", "full", "eps")
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    FULL_FIELD_NUMBER: _ClassVar[int]
    EPS_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    full: bool
    eps: float
    def __init__(self, batch_dims: _Optional[_SupportsIndex] = ..., full: bool = ..., eps: _Optional[_SupportsFloat] = ...) -> None: ...

class CrossEntropy(_SingleLoss):
    """Parameters of cross-entropy over classes, -sum_c w_c y_c log softmax(x)_c.

    Targets are class indices of any integer type, shaped like the predictions without the class
    axis; or probabilities (one-hot integers too), shaped like the predictions.

    Args:
        prediction_kind: The kind of numbers in the predictions. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        class_weights: One weight for each class, each in [0, inf); empty for none. With class
            indices the mean divides by the sum of the targets' weights.
        ignore_index: Class index that marks an example as ignored; any integer, whether it is a
            class or not. Only with class indices. Unset by default.
        label_smoothing: Share of the target that is spread evenly over all classes. In [0, 1].
            Default 0.
        class_axis: Axis of the predictions that holds the classes, counted from the end if
            negative. In [-8, 7]. Default -1.
        temperature: Divisor of the logits. In (0, inf). Only 1 unless the predictions are logits.
            Default 1.
        class_priors: How often each class occurs, each in (0, inf); empty for none. They are
            divided by their sum, so that counts of labels can be given as they are. prior_strength
            times their logarithm is added to the logits after these were divided by the
            temperature. Only with logits.
        prior_strength: Factor of the logarithm of the priors. In [0, inf). Only 1 without
            class_priors. Default 1.
        z_loss: Factor of the squared log-sum-exp of the logits that is added to the loss of an
            example, whatever the weight of its class; but an example whose class has weight 0 has
            the loss 0. In [0, inf). Only 0 unless the predictions are logits. Default 0.
        outputs: Further outputs to return, in the response's outputs; empty for none. Only with
            logits. Any of:
            "LOG_SUM_EXP": "log_sum_exp": natural logarithm of the sum of the exponentials of the
                logits.
            "TARGET_LOG_PROBABILITY": "target_log_probability": natural logarithm of the probability
                of the target class; with a target for each class, the sum of target times log-
                probability.
            "ENTROPY": "entropy": of the predicted distribution, in nats.
            "PREDICTED_CLASS": "predicted_class": index of the largest logit, the lowest one of
                several. INT64. Meaningless where a logit is NaN.

    Inputs:
        predictions: (N, ..., C); floating point. What the model says.
        targets: (N, ...) or (N, ..., C); of any type. The class of each example, or a probability
            for each of its classes.

    Reference: D. R. Cox, The regression analysis of binary sequences, 1958; smoothing: C. Szegedy
    et al., Rethinking the inception architecture, 2016, section 7; priors: A. K. Menon et al.,
    Long-tail learning via logit adjustment, 2021, section 5; z-loss: A. Chowdhery et al., PaLM,
    2022, section 5.

    ``lossd losses cross_entropy`` says more.
    """
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
    def __init__(self, prediction_kind: _Optional[_Union[DistributionKind, _DistributionKindName]] = ..., class_weights: _Optional[_Iterable[_SupportsFloat]] = ..., ignore_index: _Optional[_SupportsIndex] = ..., label_smoothing: _Optional[_SupportsFloat] = ..., class_axis: _Optional[_SupportsIndex] = ..., temperature: _Optional[_SupportsFloat] = ..., class_priors: _Optional[_Iterable[_SupportsFloat]] = ..., prior_strength: _Optional[_SupportsFloat] = ..., z_loss: _Optional[_SupportsFloat] = ..., outputs: _Optional[_Iterable[_Union[CrossEntropyOutput, _CrossEntropyOutputName]]] = ...) -> None: ...

class BinaryCrossEntropy(_SingleLoss):
    """Parameters of binary cross-entropy, -(w y log p + (1 - y) log(1 - p)) with p = sigmoid(x).

    Targets are numbers in [0, 1], floating-point or integer.

    Args:
        batch_dims: Number of leading axes that count examples; the other axes are averaged within
            each example. In [0, 8], at most the number of axes. Default 1.
        prediction_kind: The kind of numbers in the predictions. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        positive_weights: Weight of the positive answers, each in [0, inf): one for all or one for
            each column of the last axis, which may be an axis of examples; empty for none.
        label_smoothing: Targets become y (1 - label_smoothing) + label_smoothing / 2. In [0, 1].
            Default 0.

    Inputs:
        predictions: (N, ...); floating point. What the model says.
        targets: (N, ...); of any type. The probability of yes: 0, 1 or between.

    Reference: D. R. Cox, The regression analysis of binary sequences, 1958.

    ``lossd losses binary_cross_entropy`` says more.
    """
    __slots__ = ("batch_dims", "prediction_kind", "positive_weights", "label_smoothing")
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    POSITIVE_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    LABEL_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    prediction_kind: DistributionKind
    positive_weights: _containers.RepeatedScalarFieldContainer[float]
    label_smoothing: float
    def __init__(self, batch_dims: _Optional[_SupportsIndex] = ..., prediction_kind: _Optional[_Union[DistributionKind, _DistributionKindName]] = ..., positive_weights: _Optional[_Iterable[_SupportsFloat]] = ..., label_smoothing: _Optional[_SupportsFloat] = ...) -> None: ...

class KlDivergence(_SingleLoss):
    """Parameters of the Kullback-Leibler divergence, sum_c p_c (log p_c - log q_c) with the targets p
    and the predictions q, whose classes are the last axis.

    Targets are floating-point numbers shaped like the predictions; probabilities are in [0, 1].

    Args:
        prediction_kind: The kind of numbers in the predictions. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        target_kind: The kind of numbers in the targets. Default "PROBABILITIES". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        temperature: Divisor of the predictions, and of the targets if they are logits too. In (0,
            inf). Only 1 unless the predictions are logits. Default 1.
        scale_by_squared_temperature: Whether value and gradients are multiplied by the square of
            the temperature. Default false.

    Inputs:
        predictions: (N, ..., C); floating point. What the model says.
        targets: (N, ..., C); floating point. The distribution that the predictions should have.

    Reference: S. Kullback and R. A. Leibler, On information and sufficiency, 1951; temperature: G.
    Hinton et al., Distilling the knowledge in a neural network, 2015, section 2.

    ``lossd losses kl_divergence`` says more.
    """
    __slots__ = ("prediction_kind", "target_kind", "temperature", "scale_by_squared_temperature")
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    TARGET_KIND_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    SCALE_BY_SQUARED_TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    prediction_kind: DistributionKind
    target_kind: DistributionKind
    temperature: float
    scale_by_squared_temperature: bool
    def __init__(self, prediction_kind: _Optional[_Union[DistributionKind, _DistributionKindName]] = ..., target_kind: _Optional[_Union[DistributionKind, _DistributionKindName]] = ..., temperature: _Optional[_SupportsFloat] = ..., scale_by_squared_temperature: bool = ...) -> None: ...

class Hinge(_SingleLoss):
    """Parameters of the hinge loss, max(0, margin - y x)^power.

    Targets are -1 or 1, floating-point or integer.

    Args:
        batch_dims: Number of leading axes that count examples; the other axes are averaged within
            each example. In [0, 8], at most the number of axes. Default 1.
        margin: Score on the right side from which on the loss is 0. In [0, inf). Default 1.
        power: Exponent: 1 for the hinge, 2 for the squared hinge. In [1, inf). Default 1.

    Inputs:
        predictions: (N, ...); floating point. What the model says.
        targets: (N, ...); of any type. The answers: -1 or 1.

    Reference: C. Cortes and V. Vapnik, Support-vector networks, 1995, section 3.

    ``lossd losses hinge`` says more.
    """
    __slots__ = ("batch_dims", "margin", "power")
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    margin: float
    power: float
    def __init__(self, batch_dims: _Optional[_SupportsIndex] = ..., margin: _Optional[_SupportsFloat] = ..., power: _Optional[_SupportsFloat] = ...) -> None: ...

class MulticlassHinge(_SingleLoss):
    """Parameters of the hinge loss over classes, which are the last axis.

    Targets are class indices of any integer type.

    Args:
        variant: Which wrong classes count. Default "CRAMMER_SINGER". One of:
            "CRAMMER_SINGER": The best of them.
            "WESTON_WATKINS": Each of them, added up.
        margin: Lead over a wrong class from which on the loss is 0. In [0, inf). Default 1.
        power: Exponent of the shortfall. In [1, inf). Default 1.

    Inputs:
        predictions: (N, ..., C); floating point. What the model says.
        targets: (N, ...); integer or boolean. The class of each example.

    Reference: K. Crammer and Y. Singer, On the algorithmic implementation of multiclass
    kernel-based vector machines, 2001; J. Weston and C. Watkins, Support vector machines for
    multi-class pattern recognition, 1999.

    ``lossd losses multiclass_hinge`` says more.
    """
    __slots__ = ("variant", "margin", "power")
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    POWER_FIELD_NUMBER: _ClassVar[int]
    variant: MulticlassHingeVariant
    margin: float
    power: float
    def __init__(self, variant: _Optional[_Union[MulticlassHingeVariant, _MulticlassHingeVariantName]] = ..., margin: _Optional[_SupportsFloat] = ..., power: _Optional[_SupportsFloat] = ...) -> None: ...

class Focal(_SingleLoss):
    """Parameters of the focal loss of yes-or-no answers, a (1 - p_t)^gamma times binary cross-entropy
    of logits.

    Targets are numbers in [0, 1], floating-point or integer.

    Args:
        batch_dims: Number of leading axes that count examples; the other axes are averaged within
            each example. In [0, 8], at most the number of axes. Default 1.
        gamma: How strongly answers that are nearly right are discounted; 0 for not at all. In [0,
            inf). Default 2.
        alpha: Weight of the positive answers; the negative ones have 1 - alpha. Without it neither
            are weighted. In [0, 1]. Unset by default.

    Inputs:
        predictions: (N, ...); floating point. What the model says.
        targets: (N, ...); of any type. The probability of yes: 0, 1 or between.

    Reference: T.-Y. Lin et al., Focal loss for dense object detection, 2017, section 3.

    ``lossd losses focal`` says more.
    """
    __slots__ = ("batch_dims", "gamma", "alpha")
    BATCH_DIMS_FIELD_NUMBER: _ClassVar[int]
    GAMMA_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    batch_dims: int
    gamma: float
    alpha: float
    def __init__(self, batch_dims: _Optional[_SupportsIndex] = ..., gamma: _Optional[_SupportsFloat] = ..., alpha: _Optional[_SupportsFloat] = ...) -> None: ...

class SoftmaxFocal(_SingleLoss):
    """Parameters of the focal loss over classes, (1 - p)^gamma times cross-entropy of logits. The
    classes are the last axis.

    Targets are class indices of any integer type, shaped like the predictions without the last
    axis; or probabilities (one-hot integers too), shaped like the predictions.

    Args:
        gamma: How strongly classes that are nearly certain are discounted; 0 for not at all. In [0,
            inf). Default 2.
        class_weights: One weight for each class, each in [0, inf); empty for none. With class
            indices the mean divides by the sum of the targets' weights.

    Inputs:
        predictions: (N, ..., C); floating point. What the model says.
        targets: (N, ...) or (N, ..., C); of any type. The class of each example, or a probability
            for each of its classes.

    Reference: T.-Y. Lin et al., Focal loss for dense object detection, 2017, section 3.

    ``lossd losses softmax_focal`` says more.
    """
    __slots__ = ("gamma", "class_weights")
    GAMMA_FIELD_NUMBER: _ClassVar[int]
    CLASS_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    gamma: float
    class_weights: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, gamma: _Optional[_SupportsFloat] = ..., class_weights: _Optional[_Iterable[_SupportsFloat]] = ...) -> None: ...

class ExpectedRisk(_SingleLoss):
    """Parameters of the expected risk, sum_k q_k risk_k with q = softmax(alpha log p).

    The inputs, log_probabilities and risks, have one row of candidates for each example.

    Args:
        alpha: Sharpness of the distribution over the candidates. In (0, inf). Default 1.

    Inputs:
        log_probabilities: (N, ..., C); floating point. The model's log-probability of each
            candidate; of a sentence, the sum over its words.
        risks: (N, ..., C); of any type. What each candidate costs, for example one minus its BLEU
            score.

    Reference: S. Shen et al., Minimum risk training for neural machine translation, 2016, section
    3.

    ``lossd losses expected_risk`` says more.
    """
    __slots__ = ("alpha",)
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    alpha: float
    def __init__(self, alpha: _Optional[_SupportsFloat] = ...) -> None: ...

class Dice(_SingleLoss):
    """Parameters of the Dice loss, 1 - (2 tp + smooth) / (2 tp + fp + fn + smooth), of each example.

    Axis 0 counts examples; the others are elements of the region. Targets are numbers in [0, 1]
    shaped like the predictions; with class_axis also class indices without that axis.

    Args:
        class_axis: Axis of the predictions that holds the classes, counted from the end if
            negative; not the first axis. In [-8, 7]. With it, the classes exclude each other and
            the loss is the mean over them. Unset by default.
        prediction_kind: The kind of numbers in the predictions. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        smooth: Added to numerator and denominator of the index. In [0, inf). Default 1e-05.
        empty_target: Loss of an example without a target. Default "SMOOTH". One of:
            "SMOOTH": That of the formula with its smoothing.
            "SKIP": None: the example is ignored and has a status; a class is left out of the
                example's mean.

    Inputs:
        predictions: (N, ...) or (N, ..., C); floating point. What the model says.
        targets: (N, ...) or (N, ..., C); of any type. The true share of each element, or its class
            where there is an axis of classes.

    Reference: F. Milletari et al., V-Net, 2016, section 3; coefficient: L. R. Dice, Measures of the
    amount of ecologic association between species, 1945.

    ``lossd losses dice`` says more.
    """
    __slots__ = ("class_axis", "prediction_kind", "smooth", "empty_target")
    CLASS_AXIS_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    SMOOTH_FIELD_NUMBER: _ClassVar[int]
    EMPTY_TARGET_FIELD_NUMBER: _ClassVar[int]
    class_axis: int
    prediction_kind: DistributionKind
    smooth: float
    empty_target: EmptyTarget
    def __init__(self, class_axis: _Optional[_SupportsIndex] = ..., prediction_kind: _Optional[_Union[DistributionKind, _DistributionKindName]] = ..., smooth: _Optional[_SupportsFloat] = ..., empty_target: _Optional[_Union[EmptyTarget, _EmptyTargetName]] = ...) -> None: ...

class Jaccard(_SingleLoss):
    """Parameters of the Jaccard loss, 1 - (tp + smooth) / (tp + fp + fn + smooth), of each example.

    Axis 0 counts examples; the others are elements of the region. Targets are numbers in [0, 1]
    shaped like the predictions; with class_axis also class indices without that axis.

    Args:
        class_axis: Axis of the predictions that holds the classes, counted from the end if
            negative; not the first axis. In [-8, 7]. With it, the classes exclude each other and
            the loss is the mean over them. Unset by default.
        prediction_kind: The kind of numbers in the predictions. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        smooth: Added to numerator and denominator of the index. In [0, inf). Default 1e-05.
        empty_target: Loss of an example without a target. Default "SMOOTH". One of:
            "SMOOTH": That of the formula with its smoothing.
            "SKIP": None: the example is ignored and has a status; a class is left out of the
                example's mean.

    Inputs:
        predictions: (N, ...) or (N, ..., C); floating point. What the model says.
        targets: (N, ...) or (N, ..., C); of any type. The true share of each element, or its class
            where there is an axis of classes.

    Reference: P. Jaccard, The distribution of the flora in the alpine zone, 1912; as a loss: M. A.
    Rahman and Y. Wang, Optimizing intersection-over-union in deep neural networks, 2016, section 3.

    ``lossd losses jaccard`` says more.
    """
    __slots__ = ("class_axis", "prediction_kind", "smooth", "empty_target")
    CLASS_AXIS_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    SMOOTH_FIELD_NUMBER: _ClassVar[int]
    EMPTY_TARGET_FIELD_NUMBER: _ClassVar[int]
    class_axis: int
    prediction_kind: DistributionKind
    smooth: float
    empty_target: EmptyTarget
    def __init__(self, class_axis: _Optional[_SupportsIndex] = ..., prediction_kind: _Optional[_Union[DistributionKind, _DistributionKindName]] = ..., smooth: _Optional[_SupportsFloat] = ..., empty_target: _Optional[_Union[EmptyTarget, _EmptyTargetName]] = ...) -> None: ...

class Tversky(_SingleLoss):
    """Parameters of the Tversky loss, (1 - (tp + smooth) / (tp + alpha fp + beta fn + smooth))^gamma,
    of each example.

    Axis 0 counts examples; the others are elements of the region. Targets are numbers in [0, 1]
    shaped like the predictions; with class_axis also class indices without that axis.

    Args:
        class_axis: Axis of the predictions that holds the classes, counted from the end if
            negative; not the first axis. In [-8, 7]. With it, the classes exclude each other and
            the loss is the mean over them. Unset by default.
        prediction_kind: The kind of numbers in the predictions. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        smooth: Added to numerator and denominator of the index. In [0, inf). Default 1e-05.
        empty_target: Loss of an example without a target. Default "SMOOTH". One of:
            "SMOOTH": That of the formula with its smoothing.
            "SKIP": None: the example is ignored and has a status; a class is left out of the
                example's mean.
        alpha: Weight of the false positives. In [0, inf). Default 0.5.
        beta: Weight of the false negatives. In [0, inf). Default 0.5.
        gamma: Exponent of one minus the index. In (0, inf). Default 1.

    Inputs:
        predictions: (N, ...) or (N, ..., C); floating point. What the model says.
        targets: (N, ...) or (N, ..., C); of any type. The true share of each element, or its class
            where there is an axis of classes.

    Reference: S. S. M. Salehi et al., Tversky loss function for image segmentation, 2017, section
    2, where alpha goes with the false positives; focal: N. Abraham and N. M. Khan, A novel focal
    Tversky loss function, 2019, section 2.

    ``lossd losses tversky`` says more.
    """
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
    def __init__(self, class_axis: _Optional[_SupportsIndex] = ..., prediction_kind: _Optional[_Union[DistributionKind, _DistributionKindName]] = ..., smooth: _Optional[_SupportsFloat] = ..., empty_target: _Optional[_Union[EmptyTarget, _EmptyTargetName]] = ..., alpha: _Optional[_SupportsFloat] = ..., beta: _Optional[_SupportsFloat] = ..., gamma: _Optional[_SupportsFloat] = ...) -> None: ...

class LovaszHinge(_SingleLoss):
    """The Lovász hinge, a convex surrogate of the Jaccard loss of each example. It has no parameters.

    Predictions are logits. Axis 0 counts examples; the others are elements of the region. Targets
    are 0 or 1, shaped like the predictions.

    Inputs:
        predictions: (N, ...); floating point. What the model says.
        targets: (N, ...); of any type. Whether each element is in the region.

    Reference: M. Berman et al., The Lovász-Softmax loss, 2018, section 3.1; J. Yu and M. Blaschko,
    Learning submodular losses with the Lovász hinge, 2015.

    ``lossd losses lovasz_hinge`` says more.
    """
    __slots__ = ()
    def __init__(self) -> None: ...

class LovaszSoftmax(_SingleLoss):
    """Parameters of the Lovász softmax, the Lovász extension of the Jaccard loss of each class,
    averaged over the classes that are present in the example.

    Predictions are logits. Axis 0 counts examples; the others except the class axis are elements of
    the region. Targets are class indices of any integer type, without the class axis.

    Args:
        class_axis: Axis of the predictions that holds the classes, counted from the end if
            negative; not the first axis. In [-8, 7]. Default -1.

    Inputs:
        predictions: (N, ..., C); floating point. What the model says.
        targets: (N, ...); integer or boolean. The class of each element.

    Reference: M. Berman et al., The Lovász-Softmax loss, 2018, section 3.2.

    ``lossd losses lovasz_softmax`` says more.
    """
    __slots__ = ("class_axis",)
    CLASS_AXIS_FIELD_NUMBER: _ClassVar[int]
    class_axis: int
    def __init__(self, class_axis: _Optional[_SupportsIndex] = ...) -> None: ...

class SoftF1(_SingleLoss):
    """Parameters of the soft F1 loss of a set, 1 - 2 tp / (2 tp + fp + fn), averaged over the labels.

    Axis 0 counts examples; axis 1, if there is one, labels. Targets are numbers in [0, 1], shaped
    like the predictions. The reduction is "mean"; there is no other.

    Args:
        prediction_kind: The kind of numbers in the predictions. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.

    Inputs:
        predictions: (N,) or (N, labels); floating point. What the model says.
        targets: (N,) or (N, labels); of any type. Whether each label is true of each example.

    Reference: J. Pastor-Pellicer et al., F-measure as the error function to train neural networks,
    2013, section 3.

    ``lossd losses soft_f1`` says more.
    """
    __slots__ = ("prediction_kind",)
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    prediction_kind: DistributionKind
    def __init__(self, prediction_kind: _Optional[_Union[DistributionKind, _DistributionKindName]] = ...) -> None: ...

class PairwiseAuc(_SingleLoss):
    """Parameters of the pairwise surrogate of one minus the area under the ROC curve: the mean of
    phi(positive - negative) over all pairs of a positive and a negative example of a set.

    Axis 0 counts examples; axis 1, if there is one, labels. Predictions are scores of any
    magnitude. Targets are 0 or 1, shaped like the predictions. The reduction is "mean"; there is no
    other.

    Args:
        surrogate: The function phi of the difference. Default "SQUARED_HINGE". One of:
            "SQUARED_HINGE": max(0, margin - difference)^2.
            "LOGISTIC": log(1 + exp(-difference)).
        margin: Difference from which on the squared hinge is 0. In [0, inf). Only 1 with the
            logistic one. Default 1.

    Inputs:
        predictions: (N,) or (N, labels); floating point. What the model says.
        targets: (N,) or (N, labels); of any type. Whether each example is positive.

    Reference: L. Yan et al., Optimizing classifier performance via an approximation to the
    Wilcoxon-Mann-Whitney statistic, 2003, section 3; T. Joachims, A support vector method for
    multivariate performance measures, 2005; logistic: Y. Freund et al., An efficient boosting
    algorithm for combining preferences, 2003.

    ``lossd losses pairwise_auc`` says more.
    """
    __slots__ = ("surrogate", "margin")
    SURROGATE_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    surrogate: AucSurrogate
    margin: float
    def __init__(self, surrogate: _Optional[_Union[AucSurrogate, _AucSurrogateName]] = ..., margin: _Optional[_SupportsFloat] = ...) -> None: ...

class Triplet(_SingleLoss):
    """Parameters of the triplet loss, max(0, margin + d(anchor, positive) - d(anchor, negative)).

    All three inputs have the same shape; the last axis counts components.

    Args:
        margin: How much nearer the positive has to be. In [0, inf). Default 1.
        distance: The distance d. Default "EUCLIDEAN". One of:
            "EUCLIDEAN": Length of the difference.
            "SQUARED_EUCLIDEAN": Squared length of the difference.
            "COSINE": One minus the cosine of the angle.
        p: Degree of the norm. In [1, inf]. Only 2 unless the distance is EUCLIDEAN. Default 2.
        swap: Whether the distance between positive and negative is used where it is smaller than
            that between anchor and negative. Default false.
        eps: Added to each component of a difference. In [0, inf). Only the default with COSINE.
            Default 1e-06.

    Inputs:
        anchor: (N, ..., D); floating point. An embedding.
        positive: (N, ..., D); floating point. One to be near it.
        negative: (N, ..., D); floating point. One to be far from it.

    Reference: V. Balntas et al., Learning local feature descriptors with triplets and shallow
    convolutional neural networks, 2016, section 2; F. Schroff et al., FaceNet, 2015, section 3.1.

    ``lossd losses triplet`` says more.
    """
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
    def __init__(self, margin: _Optional[_SupportsFloat] = ..., distance: _Optional[_Union[Distance, _DistanceName]] = ..., p: _Optional[_SupportsFloat] = ..., swap: bool = ..., eps: _Optional[_SupportsFloat] = ...) -> None: ...

class BatchTriplet(_SingleLoss):
    """Parameters of the triplet loss with triplets from the batch.

    Embeddings are (N, D), labels integers (N,). An example without a positive or a negative is
    ignored, and others are still compared with it.

    Args:
        mining: Which triplets of an anchor count. Default "HARD". One of:
            "ALL": The mean over all triplets.
            "HARD": The farthest positive and the nearest negative.
            "SEMI_HARD": The mean over positives, each with the nearest negative that is farther or,
                without one, with the farthest.
        margin: How much nearer the positive has to be. In [0, inf). Default 1.
        distance: The distance. Default "EUCLIDEAN". One of:
            "EUCLIDEAN": Length of the difference.
            "SQUARED_EUCLIDEAN": Squared length of the difference.
            "COSINE": One minus the cosine of the angle.
        outputs: Further outputs to return, in the response's outputs; empty for none. Any of:
            "MINED_POSITIVE": "mined_positive": the positive of the anchor's hardest triplet.
            "MINED_NEGATIVE": "mined_negative": the negative of the anchor's hardest triplet.

    Inputs:
        embeddings: (N, D); floating point. One embedding for each example.
        labels: (N,); integer or boolean. What each is an embedding of; equal labels belong
            together.

    Reference: A. Hermans et al., In defense of the triplet loss for person re-identification, 2017,
    section 2; semi-hard: F. Schroff et al., FaceNet, 2015, section 3.2.

    ``lossd losses batch_triplet`` says more.
    """
    __slots__ = ("mining", "margin", "distance", "outputs")
    MINING_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    mining: Mining
    margin: float
    distance: Distance
    outputs: _containers.RepeatedScalarFieldContainer[BatchTripletOutput]
    def __init__(self, mining: _Optional[_Union[Mining, _MiningName]] = ..., margin: _Optional[_SupportsFloat] = ..., distance: _Optional[_Union[Distance, _DistanceName]] = ..., outputs: _Optional[_Iterable[_Union[BatchTripletOutput, _BatchTripletOutputName]]] = ...) -> None: ...

class Contrastive(_SingleLoss):
    """Parameters of the contrastive loss of pairs, y d^2 + (1 - y) max(0, margin - d)^2.

    Left and right have the same shape, whose last axis counts components; targets have one number
    for each pair, 1 where it is similar and 0 where it is not.

    Args:
        margin: Distance from which on the loss of a pair that is not similar is 0. In (0, inf).
            Default 1.
        distance: The distance d. Default "EUCLIDEAN". One of:
            "EUCLIDEAN": Length of the difference.
            "SQUARED_EUCLIDEAN": Squared length of the difference.
            "COSINE": One minus the cosine of the angle.

    Inputs:
        left: (N, ..., D); floating point. An embedding.
        right: (N, ..., D); floating point. The embedding beside it.
        targets: (N, ...); of any type. 1 where the two are similar, 0 where not.

    Reference: R. Hadsell et al., Dimensionality reduction by learning an invariant mapping, 2006,
    section 2.1, without the factor 1/2.

    ``lossd losses contrastive`` says more.
    """
    __slots__ = ("margin", "distance")
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_FIELD_NUMBER: _ClassVar[int]
    margin: float
    distance: Distance
    def __init__(self, margin: _Optional[_SupportsFloat] = ..., distance: _Optional[_Union[Distance, _DistanceName]] = ...) -> None: ...

class CosineEmbedding(_SingleLoss):
    """Parameters of the cosine embedding loss of pairs: 1 - cos where they are alike, max(0, cos -
    margin) where they are not.

    Left and right have the same shape, whose last axis counts components; targets have one number
    for each pair, 1 where it is alike and -1 where it is not.

    Args:
        margin: Cosine below which the loss of a pair that is not alike is 0. In [-1, 1]. Default 0.

    Inputs:
        left: (N, ..., D); floating point. An embedding.
        right: (N, ..., D); floating point. The embedding beside it.
        targets: (N, ...); of any type. 1 where the two are alike, -1 where not.

    Reference: PyTorch, CosineEmbeddingLoss; R. Hadsell et al., Dimensionality reduction by learning
    an invariant mapping, 2006, for pairs.

    ``lossd losses cosine_embedding`` says more.
    """
    __slots__ = ("margin",)
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    margin: float
    def __init__(self, margin: _Optional[_SupportsFloat] = ...) -> None: ...

class InfoNce(_SingleLoss):
    """Parameters of InfoNCE, the cross-entropy of finding each query's key among others.

    Queries and keys are (N, D). Optional negatives are (M, D) for all queries or (N, M, D), M for
    each. Optional ids are integers (N,): keys with the same id are not negatives of each other's
    queries.

    Args:
        temperature: Divisor of the similarities. In (0, inf). Its gradient can be asked for.
            Default 0.07.
        symmetric: Whether to average with the loss of finding each key's query. Only false with
            negatives. Default false.
        normalize: Whether vectors are scaled to length 1. Default true.
        in_batch_negatives: Whether the keys of other queries are negatives. Only true without
            negatives. Default true.

    Inputs:
        queries: (N, D); floating point. Embeddings to find keys for.
        keys: (N, D); floating point. The key of each query.
        negatives: (M, D) or (N, M, D); floating point; optional. Keys of nobody, for all queries or
            for each.
        ids: (N,); integer or boolean; optional. Keys of the same id are not negatives of each
            other's queries.

    Reference: A. van den Oord et al., Representation learning with contrastive predictive coding,
    2018, equation 4; symmetric: A. Radford et al., Learning transferable visual models from natural
    language supervision, 2021, figure 3.

    ``lossd losses info_nce`` says more.
    """
    __slots__ = ("temperature", "symmetric", "normalize", "in_batch_negatives")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    SYMMETRIC_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    IN_BATCH_NEGATIVES_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    symmetric: bool
    normalize: bool
    in_batch_negatives: bool
    def __init__(self, temperature: _Optional[_SupportsFloat] = ..., symmetric: bool = ..., normalize: bool = ..., in_batch_negatives: bool = ...) -> None: ...

class NtXent(_SingleLoss):
    """Parameters of NT-Xent, the cross-entropy of finding an example's positive among its negatives.

    Embeddings are (N, D), labels integers (N,); positives have the same label. An example without
    one is ignored, and others are still compared with it.

    Args:
        temperature: Divisor of the similarities. In (0, inf). Its gradient can be asked for.
            Default 0.07.
        normalize: Whether embeddings are scaled to length 1. Default true.

    Inputs:
        embeddings: (N, D); floating point. One embedding for each example.
        labels: (N,); integer or boolean. What each is an embedding of; equal labels belong
            together.

    Reference: T. Chen et al., A simple framework for contrastive learning of visual
    representations, 2020, equation 1; K. Sohn, Improved deep metric learning with multi-class
    N-pair loss objective, 2016.

    ``lossd losses nt_xent`` says more.
    """
    __slots__ = ("temperature", "normalize")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    normalize: bool
    def __init__(self, temperature: _Optional[_SupportsFloat] = ..., normalize: bool = ...) -> None: ...

class SupervisedContrastive(_SingleLoss):
    """Parameters of the supervised contrastive loss, the cross-entropy of finding each of an example's
    positives among all others.

    Embeddings are (N, D), labels integers (N,); positives have the same label. An example without
    one is ignored, and others are still compared with it.

    Args:
        temperature: Divisor of the similarities. In (0, inf). Its gradient can be asked for.
            Default 0.07.
        normalize: Whether embeddings are scaled to length 1. Default true.

    Inputs:
        embeddings: (N, D); floating point. One embedding for each example.
        labels: (N,); integer or boolean. What each is an embedding of; equal labels belong
            together.

    Reference: P. Khosla et al., Supervised contrastive learning, 2020, equation 2, without the
    factor of temperatures in the authors' code.

    ``lossd losses supervised_contrastive`` says more.
    """
    __slots__ = ("temperature", "normalize")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    normalize: bool
    def __init__(self, temperature: _Optional[_SupportsFloat] = ..., normalize: bool = ...) -> None: ...

class SigmoidContrastive(_SingleLoss):
    """Parameters of the sigmoid contrastive loss: the binary cross-entropy of whether each key belongs
    to a query, summed over the keys.

    Queries and keys are (N, D).

    Args:
        temperature: Divisor of the similarities. In (0, inf). Its gradient can be asked for.
            Default 0.1.
        bias: Added to the divided similarities. In (-inf, inf). Its gradient can be asked for.
            Default -10.
        normalize: Whether vectors are scaled to length 1. Default true.

    Inputs:
        queries: (N, D); floating point. Embeddings to find keys for.
        keys: (N, D); floating point. The key of each query.

    Reference: X. Zhai et al., Sigmoid loss for language image pre-training, 2023, section 3.2;
    temperature is the inverse of the paper's t.

    ``lossd losses sigmoid_contrastive`` says more.
    """
    __slots__ = ("temperature", "bias", "normalize")
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    BIAS_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    temperature: float
    bias: float
    normalize: bool
    def __init__(self, temperature: _Optional[_SupportsFloat] = ..., bias: _Optional[_SupportsFloat] = ..., normalize: bool = ...) -> None: ...

class Ctc(_SingleLoss):
    """Parameters of connectionist temporal classification, -log of the sum of the probabilities of all
    alignments of the targets with the predictions.

    Predictions are (N, T, C), targets class indices (N, S) of any integer type. prediction_lengths
    and target_lengths are integers (N,) in [0, T] and [0, S]; without them all frames or all
    targets count. Anything beyond a length is ignored. T times S is at most 2^24.

    Args:
        prediction_kind: The kind of numbers in the predictions. Default "LOGITS". One of:
            "LOGITS": Real numbers; their softmax or sigmoid is the distribution.
            "LOG_PROBABILITIES": Natural logarithms of probabilities.
            "PROBABILITIES": Probabilities.
        blank: Class that stands for no label. In [0, inf), and one of the classes. Default 0.
        zero_infinity: Whether the loss of an example that has no alignment is 0 instead of
            infinity. Default true.

    Inputs:
        predictions: (N, T, C); floating point. What the model says.
        targets: (N, S); integer or boolean. The labels of each example, in order.
        prediction_lengths: (N,); integer or boolean; optional. How many frames of each example
            there are; all if not given.
        target_lengths: (N,); integer or boolean; optional. How many labels of each example there
            are; all if not given.

    Reference: A. Graves et al., Connectionist temporal classification, 2006, section 4.

    ``lossd losses ctc`` says more.
    """
    __slots__ = ("prediction_kind", "blank", "zero_infinity")
    PREDICTION_KIND_FIELD_NUMBER: _ClassVar[int]
    BLANK_FIELD_NUMBER: _ClassVar[int]
    ZERO_INFINITY_FIELD_NUMBER: _ClassVar[int]
    prediction_kind: DistributionKind
    blank: int
    zero_infinity: bool
    def __init__(self, prediction_kind: _Optional[_Union[DistributionKind, _DistributionKindName]] = ..., blank: _Optional[_SupportsIndex] = ..., zero_infinity: bool = ...) -> None: ...

class GeneratorLoss(_SingleLoss):
    """Parameters of the loss of a generator against a critic that scores its examples.

    fake holds the scores of generated examples, (N, ...), averaged within an example. real holds
    those of real examples, with the same axes except for the first; it is given only with the
    relativistic objectives, and with "RELATIVISTIC" it has as many examples as fake. The examples
    of the loss are the generated ones; with "RELATIVISTIC" they are pairs of both, and with
    "RELATIVISTIC_AVERAGE" the real ones followed by the generated ones.

    Args:
        objective: The objective of generator and critic. Default "NON_SATURATING". One of:
            "MINIMAX": softplus(-r) + softplus(f), and -softplus(f).
            "NON_SATURATING": softplus(-r) + softplus(f), and softplus(-f).
            "LEAST_SQUARES": (r - 1)^2 / 2 + f^2 / 2, and (f - 1)^2 / 2.
            "HINGE": max(0, 1 - r) + max(0, 1 + f), and -f.
            "WASSERSTEIN": f - r, and -f.
            "RELATIVISTIC": softplus(f - r), and softplus(r - f), of pairs.
            "RELATIVISTIC_AVERAGE": softplus(mean f - r) + softplus(f - mean r), and softplus(r -
                mean f) + softplus(mean r - f).

    Inputs:
        fake: (N, ...); floating point. The critic's scores of generated examples.
        real: (N, ...); floating point; optional. The critic's scores of real examples.

    Reference: I. Goodfellow et al., Generative adversarial nets, 2014, section 3; X. Mao et al.,
    2017; J. H. Lim and J. C. Ye, 2017; M. Arjovsky et al., 2017; A. Jolicoeur-Martineau, 2018.

    ``lossd losses generator_loss`` says more.
    """
    __slots__ = ("objective",)
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    objective: GanObjective
    def __init__(self, objective: _Optional[_Union[GanObjective, _GanObjectiveName]] = ...) -> None: ...

class DiscriminatorLoss(_SingleLoss):
    """Parameters of the loss of a critic that scores real and generated examples.

    real and fake hold the scores of real and of generated examples, (N, ...), averaged within an
    example; all axes except the first are the same. The examples of the loss are the real ones
    followed by the generated ones; with "RELATIVISTIC" they are pairs of both. A mean is the mean
    over the real examples plus the mean over the generated ones; a normalizer is refused where
    there are two means.

    Args:
        objective: The objective of generator and critic. Default "NON_SATURATING". One of:
            "MINIMAX": softplus(-r) + softplus(f), and -softplus(f).
            "NON_SATURATING": softplus(-r) + softplus(f), and softplus(-f).
            "LEAST_SQUARES": (r - 1)^2 / 2 + f^2 / 2, and (f - 1)^2 / 2.
            "HINGE": max(0, 1 - r) + max(0, 1 + f), and -f.
            "WASSERSTEIN": f - r, and -f.
            "RELATIVISTIC": softplus(f - r), and softplus(r - f), of pairs.
            "RELATIVISTIC_AVERAGE": softplus(mean f - r) + softplus(f - mean r), and softplus(r -
                mean f) + softplus(mean r - f).
        label_smoothing: How far below 1 the target of real examples is. In [0, 1]. Default 0. Only
            0 with the objectives "HINGE" and "WASSERSTEIN", which have no targets.

    Inputs:
        real: (N, ...); floating point. The critic's scores of real examples.
        fake: (N, ...); floating point. The critic's scores of generated examples.

    Reference: I. Goodfellow et al., Generative adversarial nets, 2014, section 3; X. Mao et al.,
    2017; J. H. Lim and J. C. Ye, 2017; M. Arjovsky et al., 2017; A. Jolicoeur-Martineau, 2018.

    ``lossd losses discriminator_loss`` says more.
    """
    __slots__ = ("objective", "label_smoothing")
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    LABEL_SMOOTHING_FIELD_NUMBER: _ClassVar[int]
    objective: GanObjective
    label_smoothing: float
    def __init__(self, objective: _Optional[_Union[GanObjective, _GanObjectiveName]] = ..., label_smoothing: _Optional[_SupportsFloat] = ...) -> None: ...

class GradientPenalty(_SingleLoss):
    """Parameters of a penalty on the norm of a critic's gradient with respect to its input.

    input_gradients are the critic's gradients, (N, ...), which the caller computes; the norm is
    over all axes except the first.

    Args:
        variant: The quantity that is penalised. Default "WGAN_GP". One of:
            "WGAN_GP": (norm - target_norm)^2.
            "R1": norm^2 / 2.
        target_norm: Norm without a penalty. In [0, inf). Only 1 with "R1". Default 1.
        one_sided: Whether norms below target_norm go without a penalty. Only false with "R1".
            Default false.

    Inputs:
        input_gradients: (N, ...); floating point. The gradient of the critic's score of each
            example with respect to that example.

    Reference: I. Gulrajani et al., Improved training of Wasserstein GANs, 2017, section 4;
    one-sided: H. Petzka et al., 2018; R1: L. Mescheder et al., 2018, section 4.1.

    ``lossd losses gradient_penalty`` says more.
    """
    __slots__ = ("variant", "target_norm", "one_sided")
    VARIANT_FIELD_NUMBER: _ClassVar[int]
    TARGET_NORM_FIELD_NUMBER: _ClassVar[int]
    ONE_SIDED_FIELD_NUMBER: _ClassVar[int]
    variant: GradientPenaltyVariant
    target_norm: float
    one_sided: bool
    def __init__(self, variant: _Optional[_Union[GradientPenaltyVariant, _GradientPenaltyVariantName]] = ..., target_norm: _Optional[_SupportsFloat] = ..., one_sided: bool = ...) -> None: ...

class FeatureMatching(_SingleLoss):
    """Parameters of the distance between feature maps, which the caller computes: a weighted sum over
    layers of how far two maps, and perhaps their styles, are apart.

    Predictions and targets are lists of tensors (N, C, ...), one for each layer. The two tensors of
    a layer have the same shape, and N is the same for all layers. Axis 1 counts channels, and the
    axes after it positions.

    Args:
        layer_weights: One weight for each layer, each in [0, inf); empty for none.
        distance: How far two maps are apart: the mean of the squared differences, its root, or one
            minus the cosine of the whole maps. Default "SQUARED_EUCLIDEAN". One of:
            "EUCLIDEAN": Length of the difference.
            "SQUARED_EUCLIDEAN": Squared length of the difference.
            "COSINE": One minus the cosine of the angle.
        style_weight: Weight of the squared distance of the Gram matrices of the channels, each
            divided by the number of elements of a map. In [0, inf). Default 0.

    Inputs:
        predictions: (N, C, ...) each; floating point. Feature maps of what the model says, one for
            each layer.
        targets: (N, C, ...) each; of any type. Feature maps of what it should have said.

    Reference: L. A. Gatys et al., A neural algorithm of artistic style, 2015; J. Johnson et al.,
    Perceptual losses, 2016, section 3.2; for critics: T. Salimans et al., 2016, section 3.1.

    ``lossd losses feature_matching`` says more.
    """
    __slots__ = ("layer_weights", "distance", "style_weight")
    LAYER_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_FIELD_NUMBER: _ClassVar[int]
    STYLE_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    layer_weights: _containers.RepeatedScalarFieldContainer[float]
    distance: Distance
    style_weight: float
    def __init__(self, layer_weights: _Optional[_Iterable[_SupportsFloat]] = ..., distance: _Optional[_Union[Distance, _DistanceName]] = ..., style_weight: _Optional[_SupportsFloat] = ...) -> None: ...

class Perceptual(_SingleLoss):
    """Parameters of the distance between the feature maps that one of the server's networks computes
    of two images: a weighted sum over its layers of how far two maps, and perhaps their styles, are
    apart.

    Predictions and targets are images (N, C, H, W) of one size, with as many channels as the
    network takes. Images that would take too much memory inside the network are RESOURCE_EXHAUSTED.

    Args:
        network: Name of one of the server's networks, see GetServerInfo. Required.
        layers: Names of the layers whose maps are compared, see GetServerInfo. Required, at least
            one.
        layer_weights: One weight for each layer, each in [0, inf); empty for none.
        distance: How far two maps are apart: the mean of the squared differences, its root, or one
            minus the cosine of the whole maps. Default "SQUARED_EUCLIDEAN". One of:
            "EUCLIDEAN": Length of the difference.
            "SQUARED_EUCLIDEAN": Squared length of the difference.
            "COSINE": One minus the cosine of the angle.
        style_weight: Weight of the squared distance of the Gram matrices of the channels, each
            divided by the number of elements of a map. In [0, inf). Default 0.
        value_range: The numbers that stand for black and white in the images, two in (-inf, inf),
            the lower first: for example 0 and 1, -1 and 1, or 0 and 255. Required; a wrong range
            gives plausible numbers that mean nothing.
        replicate_grey: Whether images of one channel are accepted; it is then repeated for each
            channel that the network takes. Default false.

    Inputs:
        predictions: (N, C, H, W); floating point. Images that the model makes.
        targets: (N, C, H, W); of any type. Images that it should have made.

    Reference: J. Johnson et al., Perceptual losses, 2016, section 3.2; L. A. Gatys et al., A neural
    algorithm of artistic style, 2015.

    ``lossd losses perceptual`` says more.
    """
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
    def __init__(self, network: _Optional[str] = ..., layers: _Optional[_Iterable[str]] = ..., layer_weights: _Optional[_Iterable[_SupportsFloat]] = ..., distance: _Optional[_Union[Distance, _DistanceName]] = ..., style_weight: _Optional[_SupportsFloat] = ..., value_range: _Optional[_Iterable[_SupportsFloat]] = ..., replicate_grey: bool = ...) -> None: ...

class Lpips(_SingleLoss):
    """Parameters of the learned perceptual image patch similarity (LPIPS).

    Predictions and targets are images (N, C, H, W) of one size, with as many channels as the
    network takes. Images that would take too much memory inside the network are RESOURCE_EXHAUSTED.

    Args:
        network: Name of one of the server's networks that has linear heads, see GetServerInfo.
            Required.
        value_range: The numbers that stand for black and white in the images, two in (-inf, inf),
            the lower first: for example 0 and 1, -1 and 1, or 0 and 255. Required; a wrong range
            gives plausible numbers that mean nothing.
        replicate_grey: Whether images of one channel are accepted; it is then repeated for each
            channel that the network takes. Default false.

    Inputs:
        predictions: (N, C, H, W); floating point. Images that the model makes.
        targets: (N, C, H, W); of any type. Images that it should have made.

    Reference: R. Zhang et al., The unreasonable effectiveness of deep features as a perceptual
    metric, 2018, section 3, equation 1.

    ``lossd losses lpips`` says more.
    """
    __slots__ = ("network", "value_range", "replicate_grey")
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    VALUE_RANGE_FIELD_NUMBER: _ClassVar[int]
    REPLICATE_GREY_FIELD_NUMBER: _ClassVar[int]
    network: str
    value_range: _containers.RepeatedScalarFieldContainer[float]
    replicate_grey: bool
    def __init__(self, network: _Optional[str] = ..., value_range: _Optional[_Iterable[_SupportsFloat]] = ..., replicate_grey: bool = ...) -> None: ...

class WeightedSum(_message.Message):
    """A weighted sum of losses over named inputs.

    Its inputs are those of all its terms; a name that several terms share is one input, whose
    gradient is the weighted sum of the terms' gradients. The reductions mean, batch_mean and sum, a
    normalizer, weights, mask and cotangent apply to every term, which has to take them. The total
    has losses of single examples where all terms have them, of the same shape. Parameters are not
    shared: the gradient of the total with respect to one is named "terms[0].temperature", with the
    index of its term, and includes the term's weight. No input may have such a name.

    Args:
        terms: At least 1 and at most 16.
    """
    __slots__ = ("terms",)
    TERMS_FIELD_NUMBER: _ClassVar[int]
    terms: _containers.RepeatedCompositeFieldContainer[WeightedTerm]
    def __init__(self, terms: _Optional[_Iterable[_Union[WeightedTerm, _Mapping]]] = ...) -> None: ...

class WeightedTerm(_message.Message):
    """A term of a sum of losses.

    Args:
        weight: Factor of the term. In (-inf, inf). Default 1.
        loss: The loss; not a sum itself.
        input_names: The request's input for each input of the loss, by the loss's own name for it;
            inputs that are not listed keep the loss's own names.
    """
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
    def __init__(self, weight: _Optional[_SupportsFloat] = ..., loss: _Optional[_Union[LossSpec, _Mapping]] = ..., input_names: _Optional[_Mapping[str, str]] = ...) -> None: ...

class PolicyGradient(_SingleLoss):
    """Parameters of policy gradients of language models, from log-probabilities of tokens.

    Log-probabilities are (N, T) with lengths (N,) where rows are padded, or flat (tokens,) with
    offsets (N + 1,), from 0 to the number of tokens; a token_mask, shaped like them, leaves tokens
    out. Advantages are shaped like them, or (N,) or (N, 1) for one of each sequence. token_weights
    multiply the loss of each token and enter no divisor; entropies are used for the output alone.
    An example is a sequence: weights, mask and cotangent are (N,). No number of an objective has a
    default, since other libraries have different ones under the same name.

    Args:
        objective: How the loss follows from an advantage and a ratio. Required. One of:
            "REINFORCE": -A l.
            "IMPORTANCE_SAMPLING": -r A.
            "PPO_CLIP": -min(r A, clip(r, clip_low, clip_high) A).
            "DUAL_CLIP": The same, and at most -dual_clip A where A is negative.
            "CISPO": -clip(r, clip_low, clip_high) A l, with the clipped ratio held constant.
            "SAPO": -(4 / t) sigmoid(t (r - 1)) A, t the temperature of A's sign.
            "DRO": -A l + quadratic_coefficient (l - q)^2 / 2.
            "DPPO_TV": -r A, 0 where r went the way of A and |exp(l) - exp(q)| is above
                divergence_threshold.
            "DPPO_KL": The same with the divergence of the token from all others, of q from l.
        ratio: Whether tokens or sequences have a ratio to the sampling policy; NONE with REINFORCE
            and DRO. Required. One of:
            "NONE": There is no ratio.
            "TOKEN": Each token has one.
            "SEQUENCE": Each sequence has one, the geometric mean over its tokens, with its own
                derivative.
            "SEQUENCE_TOKEN": The same number, whose derivative goes to each token by itself.
        aggregation: How the losses of tokens become one of a sequence, and what a mean divides by.
            Required. One of:
            "SUM": The sum over the sequence; a mean divides by the number of sequences.
            "TOKEN_MEAN": The sum over the sequence; a mean divides by the number of tokens that
                count.
            "SEQUENCE_MEAN": The mean over the sequence; a mean divides by the number of sequences.
            "CONSTANT_LENGTH": The sum over the sequence divided by sequence_length; a mean divides
                by the number of sequences.
            "GROUP_MEAN": The sum over the sequence divided by the number of tokens of its group; a
                mean divides by the number of groups. Sequences of weight 0 are among those of their
                group, masked ones are not.
        sequence_length: Divisor of CONSTANT_LENGTH, in tokens. In (0, inf). Unset by default.
        clip_low: Lowest ratio that is not clipped, itself and not its distance from 1, with
            PPO_CLIP, DUAL_CLIP and CISPO. In [0, 1]. Unset by default.
        clip_high: Highest ratio that is not clipped, with the same. In [1, inf). Unset by default.
        dual_clip: Highest ratio of a negative advantage, with DUAL_CLIP. In [1, inf). Unset by
            default.
        positive_temperature: Temperature of SAPO's gate where the advantage is positive. In (0,
            inf). Unset by default.
        negative_temperature: The same where it is not. In (0, inf). Unset by default.
        quadratic_coefficient: Factor of DRO's squared term. In [0, inf). Unset by default.
        divergence_threshold: How far a token's probability may have diverged at most: a difference
            with DPPO_TV, nats with DPPO_KL. In (0, inf). Unset by default.
        kl_estimator: How the divergence from the reference is estimated; with a reference only.
            Default "NONE". One of:
            "NONE": Not at all.
            "K1": d.
            "K2": d^2 / 2.
            "K3": exp(-d) - 1 + d.
        kl_coefficient: Factor of the estimate, which is added to the loss of the token. In [0,
            inf). Default 0.
        rollout_correction: Correction for a sampler whose log-probabilities differ from the
            trainer's. Default "NONE". One of:
            "NONE": Nothing.
            "TOKEN_TRUNCATE": Each token has its weight, at most rollout_high.
            "TOKEN_MASK": Each token has its weight, or none outside rollout_low to rollout_high.
            "SEQUENCE_TRUNCATE": Each sequence has its weight, at most rollout_high.
            "SEQUENCE_MASK": Each sequence has its weight, or none outside rollout_low to
                rollout_high.
        rollout_low: Lowest weight that is not dropped, with the two MASK. In [0, 1]. Unset by
            default.
        rollout_high: Highest weight, that is kept or dropped, with every correction. In [1, inf).
            Unset by default.
        outputs: Further outputs to return for each sequence, each once; empty for none. Any of:
            "CLIP_FRACTION": "clip_fraction": share of the tokens that the objective clips or masks;
                those that rollout_correction drops are not among them.
            "RATIO": "ratio": mean of the ratios of its tokens.
            "LARGEST_RATIO": "largest_ratio": largest ratio of its tokens.
            "KL": "kl": mean of the estimates of the divergence from the reference; 0 without one.
            "ROLLOUT_GAP": "rollout_gap": mean over its tokens of how far the log-probabilities of
                trainer and sampler are apart; 0 without either.
            "TOKEN_COUNT": "token_count": how many of its tokens count.
            "RATIO_P05": "ratio_p05": the 5th percentile of the ratios of its tokens, one of these
                ratios.
            "RATIO_P50": "ratio_p50": the 50th percentile, likewise.
            "RATIO_P95": "ratio_p95": the 95th percentile, likewise.
            "SAMPLING_KL": "sampling_kl": mean over its tokens of the sampling minus the trained
                log-probability, an estimate of how far the policy has moved; 0 without a sampling
                policy.
            "ENTROPY": "entropy": mean of the entropies of its tokens; 0 without them.

    Inputs:
        log_probabilities: (N, T) or (tokens,); floating point. Log-probability of each token under
            the policy that is trained.
        sampling_log_probabilities: (N, T) or (tokens,); floating point; optional. The same under
            the policy that the ratio is taken to; not with the ratio NONE, unless the objective is
            DRO.
        advantages: (N, T) or (tokens,) or (N,); floating point. What each token is worth, or each
            sequence.
        reference_log_probabilities: (N, T) or (tokens,); floating point; optional. The same under
            the reference of the KL term.
        rollout_log_probabilities: (N, T) or (tokens,); floating point; optional. The same as the
            sampler computed it, where the trainer computes it otherwise.
        token_weights: (N, T) or (tokens,); floating point; optional. What the loss of each token is
            multiplied by, and nothing else; 1 if not given.
        token_mask: (N, T) or (tokens,); integer or boolean; optional. Which tokens count; all if
            not given.
        lengths: (N,); integer or boolean; optional. How many tokens of each padded row there are;
            all if not given.
        offsets: (N + 1,); integer or boolean; optional. Where each sequence of flat tokens begins,
            and where the last one ends.
        groups: (N,); integer or boolean; optional. Which sequences have a prompt in common, for
            GROUP_MEAN; equal numbers belong together.
        entropies: (N, T) or (tokens,); floating point; optional. Entropy of each token's
            distribution, for the output alone.

    Reference: R. J. Williams, 1992; J. Schulman et al., Proximal policy optimization algorithms,
    2017, eq. 7; D. Ye et al., Mastering complex control in MOBA games, 2020 (dual clip); Z. Shao et
    al., DeepSeekMath, 2024, eq. 3 and 4; Q. Yu et al., DAPO, 2025; Z. Liu et al., Understanding
    R1-Zero-like training, 2025 (constant length); C. Zheng et al., Group sequence policy
    optimization, 2025; MiniMax, MiniMax-M1, 2025 (CISPO); C. Gao et al., Soft adaptive policy
    optimization, 2025; P. H. Richemond et al., Offline regularised reinforcement learning, 2024
    (DRO); P. Qi et al., Rethinking the trust region in LLM reinforcement learning, 2026 (DPPO); J.
    Schulman, Approximating KL divergence, 2020.

    ``lossd losses policy_gradient`` says more.
    """
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
    def __init__(self, objective: _Optional[_Union[PolicyObjective, _PolicyObjectiveName]] = ..., ratio: _Optional[_Union[PolicyRatio, _PolicyRatioName]] = ..., aggregation: _Optional[_Union[TokenAggregation, _TokenAggregationName]] = ..., sequence_length: _Optional[_SupportsFloat] = ..., clip_low: _Optional[_SupportsFloat] = ..., clip_high: _Optional[_SupportsFloat] = ..., dual_clip: _Optional[_SupportsFloat] = ..., positive_temperature: _Optional[_SupportsFloat] = ..., negative_temperature: _Optional[_SupportsFloat] = ..., quadratic_coefficient: _Optional[_SupportsFloat] = ..., divergence_threshold: _Optional[_SupportsFloat] = ..., kl_estimator: _Optional[_Union[KlEstimator, _KlEstimatorName]] = ..., kl_coefficient: _Optional[_SupportsFloat] = ..., rollout_correction: _Optional[_Union[RolloutCorrection, _RolloutCorrectionName]] = ..., rollout_low: _Optional[_SupportsFloat] = ..., rollout_high: _Optional[_SupportsFloat] = ..., outputs: _Optional[_Iterable[_Union[PolicyGradientOutput, _PolicyGradientOutputName]]] = ...) -> None: ...

class Preference(_SingleLoss):
    """Parameters of direct preference optimization and its relatives, of pairs of answers.

    Log-probabilities are the sums (N,) over the tokens of each answer, with lengths (N,) where
    scores are means; or of tokens: (N, T) with lengths (N,), or flat (tokens,) with offsets (N +
    1,). Those of the chosen and of the rejected answers may be of other sizes, and each has a
    token_mask, lengths and offsets of its own. An example is a pair: weights, mask and cotangent
    are (N,).

    Args:
        objective: How the loss follows from the scores of both answers. Required. One of:
            "SIGMOID": -log sigmoid(h), with label smoothing: DPO.
            "IPO": (c - r - 1 / (2 beta))^2.
            "HINGE": max(0, 1 - h).
            "ROBUST": -log sigmoid(h), corrected for the bias of flipped labels.
            "APO_ZERO": 1 - sigmoid(beta c) + sigmoid(beta r).
            "APO_DOWN": sigmoid(beta c) + 1 - sigmoid(h).
            "EXO": Divergence of sigmoid(h) from the smoothed label.
            "NCA": -log sigmoid(beta c) - (log sigmoid(-beta c) + log sigmoid(-beta r)) / 2.
            "DISCOPOP": -log sigmoid(h) and exp(-h), mixed by sigmoid(h / temperature).
            "SIMPO": -log sigmoid(h - margin), without a reference.
            "ORPO": -c, and beta times -log sigmoid of the log-odds ratio, without a reference.
            "CPO": -log sigmoid(h) - likelihood_weight c, without a reference.
        beta: Factor of the scores; of IPO what the paper calls tau, of ORPO the weight of the odds
            ratio. In (0, inf). Required.
        label_smoothing: Share of labels that are assumed to be flipped, with SIGMOID, CPO, ROBUST
            (below 1/2) and EXO (above 0 and below 1). In [0, 1]. Default 0.
        margin: Subtracted from the difference times beta, with SIMPO, where the paper calls it
            gamma. In (-inf, inf). Unset by default.
        likelihood_weight: Weight of the chosen answer's log-likelihood, with CPO. In [0, inf).
            Unset by default.
        temperature: Divisor of the difference that sets the mixture, with DISCOPOP, where the paper
            calls it tau. In (0, inf). Unset by default.
        average: Whether scores are means over tokens, not sums; if unset, they are means with SIMPO
            and ORPO only, as in the papers. Unset by default.
        outputs: Further outputs to return for each pair, each once; empty for none. Any of:
            "CHOSEN_REWARD": "chosen_reward": beta times the score of the chosen answer.
            "REJECTED_REWARD": "rejected_reward": beta times the score of the rejected answer.
            "REWARD_MARGIN": "reward_margin": the difference of the two.
            "ACCURACY": "accuracy": 1 where the chosen answer has the higher score, else 0.

    Inputs:
        chosen_log_probabilities: (N, T) or (tokens,) or (N,); floating point. Log-probability of
            each token of the chosen answer, or their sum.
        rejected_log_probabilities: (N, T) or (tokens,) or (N,); floating point. The same of the
            rejected answer.
        chosen_reference_log_probabilities: (N, T) or (tokens,) or (N,); floating point; optional.
            Those of the chosen answer under the reference.
        rejected_reference_log_probabilities: (N, T) or (tokens,) or (N,); floating point; optional.
            The same of the rejected answer.
        chosen_token_mask: (N, T) or (tokens,); integer or boolean; optional. Which chosen tokens
            count; all if not given.
        chosen_lengths: (N,); integer or boolean; optional. How many chosen tokens of each padded
            row there are, or how many each sum is of; all if not given.
        chosen_offsets: (N + 1,); integer or boolean; optional. Where each sequence of flat chosen
            tokens begins, and where the last one ends.
        rejected_token_mask: (N, T) or (tokens,); integer or boolean; optional. Which rejected
            tokens count; all if not given.
        rejected_lengths: (N,); integer or boolean; optional. How many rejected tokens of each
            padded row there are, or how many each sum is of; all if not given.
        rejected_offsets: (N + 1,); integer or boolean; optional. Where each sequence of flat
            rejected tokens begins, and where the last one ends.

    Reference: R. Rafailov et al., Direct preference optimization, 2023, eq. 7; M. G. Azar et al.,
    2023, eq. 17 (IPO); Y. Zhao et al., SLiC-HF, 2023, with the scores of T. Liu et al., 2023; S. R.
    Chowdhury et al., Provably robust DPO, 2024; K. D'Oosterlinck et al., Anchored preference
    optimization, 2024, eq. 7 and 8; H. Ji et al., Towards efficient exact optimization, 2024, eq.
    16; H. Chen et al., Noise contrastive alignment, 2024; C. Lu et al., Discovering preference
    optimization algorithms, 2024, eq. 5; Y. Meng et al., SimPO, 2024, eq. 6; J. Hong et al., ORPO,
    2024, eq. 6; H. Xu et al., Contrastive preference optimization, 2024.

    ``lossd losses preference`` says more.
    """
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
    def __init__(self, objective: _Optional[_Union[PreferenceObjective, _PreferenceObjectiveName]] = ..., beta: _Optional[_SupportsFloat] = ..., label_smoothing: _Optional[_SupportsFloat] = ..., margin: _Optional[_SupportsFloat] = ..., likelihood_weight: _Optional[_SupportsFloat] = ..., temperature: _Optional[_SupportsFloat] = ..., average: bool = ..., outputs: _Optional[_Iterable[_Union[PreferenceOutput, _PreferenceOutputName]]] = ...) -> None: ...

class KahnemanTversky(_SingleLoss):
    """Parameters of Kahneman-Tversky optimization, of answers that are desirable or not.

    Log-probabilities are as in Preference; desirable is (N,) of 0 and 1. The mismatched ones are
    those of answers to other prompts, as many as there are examples, with a token_mask, lengths and
    offsets of their own.

    Args:
        beta: Factor of the log-ratios. In (0, inf). Default 0.1.
        desirable_weight: Weight of desirable answers. In [0, inf). Default 1.
        undesirable_weight: Weight of undesirable answers. In [0, inf). Default 1.
        baseline: The number that log-ratios are compared with, in place of the mean of the
            mismatched ones. In [0, inf). Unset by default.
        outputs: Further outputs to return for each answer, each once; empty for none. Any of:
            "REWARD": "reward": beta times its log-ratio to the reference.
            "BASELINE": "baseline": the number that its log-ratio is compared with, the same for
                all.

    Inputs:
        log_probabilities: (N, T) or (tokens,) or (N,); floating point. Log-probability of each
            token of an answer, or their sum.
        reference_log_probabilities: (N, T) or (tokens,) or (N,); floating point. The same under the
            reference.
        desirable: (N,); of any type. Whether each answer is desirable.
        token_mask: (N, T) or (tokens,); integer or boolean; optional. Which tokens count; all if
            not given.
        lengths: (N,); integer or boolean; optional. How many tokens of each padded row there are,
            or how many each sum is of; all if not given.
        offsets: (N + 1,); integer or boolean; optional. Where each sequence of flat tokens begins,
            and where the last one ends.
        mismatched_log_probabilities: (N, T) or (tokens,) or (N,); floating point; optional. Those
            of answers to other prompts, of which the baseline is made.
        mismatched_reference_log_probabilities: (N, T) or (tokens,) or (N,); floating point;
            optional. The same under the reference.
        mismatched_token_mask: (N, T) or (tokens,); integer or boolean; optional. Which mismatched
            tokens count; all if not given.
        mismatched_lengths: (N,); integer or boolean; optional. How many mismatched tokens of each
            padded row there are, or how many each sum is of; all if not given.
        mismatched_offsets: (N + 1,); integer or boolean; optional. Where each sequence of flat
            mismatched tokens begins, and where the last one ends.

    Reference: K. Ethayarajh et al., KTO: Model alignment as prospect theoretic optimization, 2024,
    eq. 7.

    ``lossd losses kahneman_tversky`` says more.
    """
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
    def __init__(self, beta: _Optional[_SupportsFloat] = ..., desirable_weight: _Optional[_SupportsFloat] = ..., undesirable_weight: _Optional[_SupportsFloat] = ..., baseline: _Optional[_SupportsFloat] = ..., outputs: _Optional[_Iterable[_Union[KahnemanTverskyOutput, _KahnemanTverskyOutputName]]] = ...) -> None: ...

class BinaryClassifierOptimization(_SingleLoss):
    """Parameters of binary classifier optimization, of answers that are desirable or not.

    Log-probabilities are as in Preference; desirable is (N,) of 0 and 1.

    Args:
        beta: Factor of the log-ratios. In (0, inf). Default 0.1.
        shift: The number that rewards are compared with, in place of the midpoint between the mean
            rewards of both kinds in the batch. In (-inf, inf). Unset by default.
        outputs: Further outputs to return for each answer, each once; empty for none. Any of:
            "REWARD": "reward": beta times its log-ratio to the reference.
            "SHIFT": "shift": the number that its reward is compared with, the same for all.

    Inputs:
        log_probabilities: (N, T) or (tokens,) or (N,); floating point. Log-probability of each
            token of an answer, or their sum.
        reference_log_probabilities: (N, T) or (tokens,) or (N,); floating point. The same under the
            reference.
        desirable: (N,); of any type. Whether each answer is desirable.
        token_mask: (N, T) or (tokens,); integer or boolean; optional. Which tokens count; all if
            not given.
        lengths: (N,); integer or boolean; optional. How many tokens of each padded row there are,
            or how many each sum is of; all if not given.
        offsets: (N + 1,); integer or boolean; optional. Where each sequence of flat tokens begins,
            and where the last one ends.

    Reference: S. Jung et al., Binary classifier optimization for large language model alignment,
    2024.

    ``lossd losses binary_classifier_optimization`` says more.
    """
    __slots__ = ("beta", "shift", "outputs")
    BETA_FIELD_NUMBER: _ClassVar[int]
    SHIFT_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    beta: float
    shift: float
    outputs: _containers.RepeatedScalarFieldContainer[BinaryClassifierOptimizationOutput]
    def __init__(self, beta: _Optional[_SupportsFloat] = ..., shift: _Optional[_SupportsFloat] = ..., outputs: _Optional[_Iterable[_Union[BinaryClassifierOptimizationOutput, _BinaryClassifierOptimizationOutputName]]] = ...) -> None: ...

class BradleyTerry(_SingleLoss):
    """Parameters of the Bradley-Terry loss of reward models, -log sigmoid(c - r - margin).

    Rewards and margins are (N,), one for each pair.

    Args:
        centering: Weight of the square of the sum of both rewards, which holds them near 0. In [0,
            inf). Default 0.
        outputs: Further outputs to return for each pair, each once; empty for none. Any of:
            "REWARD_MARGIN": "reward_margin": the reward of the chosen answer minus the other's.
            "ACCURACY": "accuracy": 1 where the chosen answer has the higher reward, else 0.

    Inputs:
        chosen_rewards: (N,); floating point. What the chosen answer of each pair is worth.
        rejected_rewards: (N,); floating point. What the rejected answer of each pair is worth.
        margins: (N,); floating point; optional. By how much each chosen answer has to be better; 0
            if not given.

    Reference: R. A. Bradley and M. E. Terry, Rank analysis of incomplete block designs, 1952; H.
    Touvron et al., Llama 2, 2023, eq. 2 (margin); J. Eisenstein et al., Helping or herding?, 2023,
    eq. 2 (centering).

    ``lossd losses bradley_terry`` says more.
    """
    __slots__ = ("centering", "outputs")
    CENTERING_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    centering: float
    outputs: _containers.RepeatedScalarFieldContainer[BradleyTerryOutput]
    def __init__(self, centering: _Optional[_SupportsFloat] = ..., outputs: _Optional[_Iterable[_Union[BradleyTerryOutput, _BradleyTerryOutputName]]] = ...) -> None: ...

class ClippedValue(_SingleLoss):
    """Parameters of the clipped loss of a value function, half the larger of two squared errors.

    Values, old values and returns are (N, T) with lengths (N,), or flat (tokens,) with offsets (N +
    1,); a token_mask, shaped like them, leaves tokens out.

    Args:
        clip_range: How far a value may be from the old one. In (0, inf). Required.
        aggregation: How the losses of tokens become one of a sequence, and what a mean divides by.
            Required. One of:
            "SUM": The sum over the sequence; a mean divides by the number of sequences.
            "TOKEN_MEAN": The sum over the sequence; a mean divides by the number of tokens that
                count.
            "SEQUENCE_MEAN": The mean over the sequence; a mean divides by the number of sequences.
            "CONSTANT_LENGTH": The sum over the sequence divided by sequence_length; a mean divides
                by the number of sequences.
            "GROUP_MEAN": The sum over the sequence divided by the number of tokens of its group; a
                mean divides by the number of groups. Sequences of weight 0 are among those of their
                group, masked ones are not.
        sequence_length: Divisor of CONSTANT_LENGTH, in tokens. In (0, inf). Unset by default.
        outputs: Further outputs to return for each sequence, each once; empty for none. Any of:
            "CLIP_FRACTION": "clip_fraction": share of the tokens whose gradient is clipped to 0.

    Inputs:
        values: (N, T) or (tokens,); floating point. What the value function says of each token.
        old_values: (N, T) or (tokens,); floating point. What it said when the tokens were sampled.
        returns: (N, T) or (tokens,); floating point. What it should have said.
        token_mask: (N, T) or (tokens,); integer or boolean; optional. Which tokens count; all if
            not given.
        lengths: (N,); integer or boolean; optional. How many tokens of each padded row there are;
            all if not given.
        offsets: (N + 1,); integer or boolean; optional. Where each sequence of flat tokens begins,
            and where the last one ends.
        groups: (N,); integer or boolean; optional. Which sequences have a prompt in common, for
            GROUP_MEAN; equal numbers belong together.

    Reference: J. Schulman et al., Proximal policy optimization algorithms, 2017, as clipped by P.
    Dhariwal et al., OpenAI Baselines, 2017, ppo2.

    ``lossd losses clipped_value`` says more.
    """
    __slots__ = ("clip_range", "aggregation", "sequence_length", "outputs")
    CLIP_RANGE_FIELD_NUMBER: _ClassVar[int]
    AGGREGATION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    clip_range: float
    aggregation: TokenAggregation
    sequence_length: float
    outputs: _containers.RepeatedScalarFieldContainer[ClippedValueOutput]
    def __init__(self, clip_range: _Optional[_SupportsFloat] = ..., aggregation: _Optional[_Union[TokenAggregation, _TokenAggregationName]] = ..., sequence_length: _Optional[_SupportsFloat] = ..., outputs: _Optional[_Iterable[_Union[ClippedValueOutput, _ClippedValueOutputName]]] = ...) -> None: ...

class Distillation(_SingleLoss):
    """Parameters of distillation, the divergence of a student's distribution of each token from a
    teacher's.

    Predictions and targets are the student's and the teacher's numbers of the same classes: (N, T,
    K) with lengths (N,), or flat (tokens, K) with offsets (N + 1,); a token_mask, without the axis
    of classes, leaves tokens out.

    Args:
        divergence: The divergence. Required. One of:
            "FORWARD_KL": KL(T || S): the mean is under the teacher.
            "REVERSE_KL": KL(S || T): the mean is under the student.
            "JENSEN_SHANNON": beta KL(T || M) + (1 - beta) KL(S || M); 0 at both ends.
            "INTERPOLATED_JENSEN_SHANNON": (1 - beta) KL(T || M) + beta KL(S || M); forward KL at 0,
                reverse KL at 1.
        support: Which classes the numbers of a token stand for. Required. One of:
            "WHOLE": Logits or log-probabilities of all classes there are, made to sum to 1.
            "TAIL_BUCKET": Log-probabilities of some classes, with all others as one more.
            "TRUNCATED": Log-probabilities of some classes, without the others.
        aggregation: How the losses of tokens become one of a sequence, and what a mean divides by.
            Required. One of:
            "SUM": The sum over the sequence; a mean divides by the number of sequences.
            "TOKEN_MEAN": The sum over the sequence; a mean divides by the number of tokens that
                count.
            "SEQUENCE_MEAN": The mean over the sequence; a mean divides by the number of sequences.
            "CONSTANT_LENGTH": The sum over the sequence divided by sequence_length; a mean divides
                by the number of sequences.
            "GROUP_MEAN": The sum over the sequence divided by the number of tokens of its group; a
                mean divides by the number of groups. Sequences of weight 0 are among those of their
                group, masked ones are not.
        sequence_length: Divisor of CONSTANT_LENGTH, in tokens. In (0, inf). Unset by default.
        beta: Share of the teacher in the mixture, with the two JENSEN_SHANNON. In [0, 1]. Unset by
            default.
        temperature: Divisor of both distributions' logits, with WHOLE. In (0, inf). Default 1.
        outputs: Further outputs to return for each sequence, each once; empty for none. Any of:
            "STUDENT_MASS": "student_mass": mean of the probability that the student gives to the
                classes that are given.
            "TEACHER_MASS": "teacher_mass": mean of the probability that the teacher gives to the
                classes that are given.

    Inputs:
        predictions: (N, T, K) or (tokens, K); floating point. What the student says of each class
            of each token.
        targets: (N, T, K) or (tokens, K); floating point. What the teacher says of the same
            classes.
        token_mask: (N, T) or (tokens,); integer or boolean; optional. Which tokens count; all if
            not given.
        lengths: (N,); integer or boolean; optional. How many tokens of each padded row there are;
            all if not given.
        offsets: (N + 1,); integer or boolean; optional. Where each sequence of flat tokens begins,
            and where the last one ends.
        groups: (N,); integer or boolean; optional. Which sequences have a prompt in common, for
            GROUP_MEAN; equal numbers belong together.

    Reference: G. Hinton et al., Distilling the knowledge in a neural network, 2015; R. Agarwal et
    al., On-policy distillation of language models, 2024, eq. 1 (JENSEN_SHANNON).

    ``lossd losses distillation`` says more.
    """
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
    def __init__(self, divergence: _Optional[_Union[DistillationDivergence, _DistillationDivergenceName]] = ..., support: _Optional[_Union[DistillationSupport, _DistillationSupportName]] = ..., aggregation: _Optional[_Union[TokenAggregation, _TokenAggregationName]] = ..., sequence_length: _Optional[_SupportsFloat] = ..., beta: _Optional[_SupportsFloat] = ..., temperature: _Optional[_SupportsFloat] = ..., outputs: _Optional[_Iterable[_Union[DistillationOutput, _DistillationOutputName]]] = ...) -> None: ...
