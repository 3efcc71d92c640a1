// What a loss makes of a token whose log-probability it is given, for the GPU and for the CPU.
// losses/_maths/policy.py, policy_divergence.py, rollout_correction.py and divergences.py beside it, and
// losses/clipped_value.py have the formulas, by the same names; members of their enums are numbered in
// their order.  All is computed in double.
//
// The template (tokenwise.cuh, host/tokenwise.hpp) goes through a sequence and defines `pick`, of
// numbers that are both computed; `weighed`, a share of a cost; and how functions are declared, SHARED.
// What is known of a whole batch is a parameter of a function's template, so that loops on the CPU have
// no branches.

enum PolicyObjective {
    REINFORCE, IMPORTANCE_SAMPLING, PPO_CLIP, DUAL_CLIP, CISPO, SAPO, DRO, DPPO_TV, DPPO_KL,
    CLIPPED_VALUE, OBJECTIVES
};
enum PolicyRatio { NO_RATIO, RATIO_OF_TOKEN, RATIO_OF_SEQUENCE, RATIO_OF_SEQUENCE_BY_TOKEN };
enum KlEstimator { NO_ESTIMATOR, K1, K2, K3, ESTIMATORS };
enum RolloutCorrection {
    NO_CORRECTION, TOKEN_TRUNCATE, TOKEN_MASK, SEQUENCE_TRUNCATE, SEQUENCE_MASK
};

// Everything that is known of a batch.  Of `bounds` each objective has its own: low, high and the most;
// positive and negative temperature; a coefficient; a threshold; a range.
struct Policy {
    int objective, ratio, estimator, correction;
    double bounds[3];
    double coefficient;
    double rollout_low, rollout_high;
};

// A cost and its derivative, and 1 where it is clipped.
struct Cost {
    double value, slope, clipped;
};

struct Token {
    double log, sampling, advantage, ratio;
};

SHARED double unbounded() {
    const double large = 1e300;
    return large * large;
}

// A number within bounds; NaN stays NaN.
SHARED double held(double x, double low, double high) {
    return pick(x < low, low, pick(x > high, high, x));
}

// log(1 - exp(x)) of a log-probability.
SHARED double log_rest(double x) {
    return pick(x > -0.6931471805599453, log(-expm1(x)), log1p(-exp(x)));
}

// The worse of r A and clip(r) A: of a gain the smaller ratio counts, of a cost the larger.
SHARED Cost clipped_gain(const Token& token, double low, double high, double most) {
    const bool is_gain = token.advantage > 0;
    const double ceiling = pick(is_gain, high, most), floor = pick(is_gain, -unbounded(), low);
    const bool is_outside = (token.ratio > ceiling) | (token.ratio < floor);
    const double outside =
        pick(is_outside, 1.0, 0.0) * pick(token.advantage != 0, 1.0, 0.0);
    const double gain = weighed(token.advantage, token.ratio);
    const double value = weighed(token.advantage, held(token.ratio, floor, ceiling));
    return Cost{-value, pick(outside != 0, 0.0, -gain), outside};
}

// The ratio, unless the token went too far in the direction of its advantage.
SHARED Cost gain_within(const Token& token, double divergence, double most) {
    const double apart = token.log - token.sampling;
    const bool is_ahead = ((token.advantage > 0) & (apart > 0)) | ((token.advantage < 0) & (apart < 0));
    const bool is_outside = is_ahead & (divergence > most);
    const double value = pick(is_outside, 0.0, -weighed(token.advantage, token.ratio));
    return Cost{value, value, pick(is_outside, 1.0, 0.0)};
}

template <int OBJECTIVE>
SHARED Cost cost_of(const Policy& policy, const Token& token) {
    const double first = policy.bounds[0], second = policy.bounds[1], third = policy.bounds[2];
    const double advantage = token.advantage;
    if constexpr (OBJECTIVE == REINFORCE) {
        return Cost{-weighed(advantage, token.log), -advantage, 0.0};
    } else if constexpr (OBJECTIVE == IMPORTANCE_SAMPLING) {
        const double value = -weighed(advantage, token.ratio);
        return Cost{value, value, 0.0};
    } else if constexpr (OBJECTIVE == PPO_CLIP || OBJECTIVE == DUAL_CLIP) {
        return clipped_gain(token, first, second, third);
    } else if constexpr (OBJECTIVE == CISPO) {
        const double share = held(token.ratio, first, second) * advantage;
        const bool is_outside = (token.ratio < first) | (token.ratio > second);
        return Cost{-weighed(share, token.log), -share, pick(is_outside, 1.0, 0.0)};
    } else if constexpr (OBJECTIVE == SAPO) {
        const double heat = pick(advantage > 0, first, second);
        const double tail = exp(-fabs(heat * (token.ratio - 1)));
        const double whole = 1 + tail;
        const double gate = pick(token.ratio >= 1, 1.0, tail) / whole;
        // Where the ratio overflows, the bell is 0 long before.
        const double bell = 4 * tail / (whole * whole);
        return Cost{-weighed(advantage, gate * (4 / heat)),
                    -weighed(advantage, weighed(bell, token.ratio)), 0.0};
    } else if constexpr (OBJECTIVE == DRO) {
        const double apart = token.log - token.sampling;
        const double slope = weighed(first, apart);
        const double square = weighed(first, apart * apart / 2);
        return Cost{square - weighed(advantage, token.log), slope - advantage, 0.0};
    } else if constexpr (OBJECTIVE == DPPO_TV) {
        return gain_within(token, fabs(exp(token.log) - exp(token.sampling)), first);
    } else if constexpr (OBJECTIVE == DPPO_KL) {
        const double of_token = weighed(exp(token.sampling), token.sampling - token.log);
        const double rest = log_rest(token.sampling) - log_rest(token.log);
        return gain_within(token, of_token + weighed(-expm1(token.sampling), rest), first);
    } else {
        // Of a value function: what it says, said, and should have said.
        const double error = token.log - advantage;
        const double near = held(token.log, token.sampling - first, token.sampling + first);
        const double kept = pick(token.sampling == token.sampling, near, token.sampling) - advantage;
        const bool is_held = fabs(kept) > fabs(error), is_lost = kept != kept;
        const double worse = pick(is_held | is_lost, kept, error);
        const double slope = pick(is_held, 0.0, pick(is_lost, kept, error));
        return Cost{worse * worse / 2, slope, pick(is_held, 1.0, 0.0)};
    }
}

// An estimate of the divergence from the reference, and its derivative.  `less` is exp(-apart) - 1, which
// K3 alone looks at.
template <int ESTIMATOR>
SHARED Cost divergence_of(double apart, double less) {
    if constexpr (ESTIMATOR == K1) return Cost{apart, 1.0, 0.0};
    else if constexpr (ESTIMATOR == K2) return Cost{apart * apart / 2, apart, 0.0};
    else if constexpr (ESTIMATOR == K3) return Cost{apart + less, -less, 0.0};
    else return Cost{0.0, 0.0, 0.0};
}

SHARED bool masks(const Policy& policy) {
    return policy.correction == TOKEN_MASK || policy.correction == SEQUENCE_MASK;
}
SHARED bool corrects_sequences(const Policy& policy) { return policy.correction >= SEQUENCE_TRUNCATE; }
SHARED bool has_one_ratio(const Policy& policy) { return policy.ratio >= RATIO_OF_SEQUENCE; }

// Whether the derivative, with respect to the ratio of the sequence, is spread evenly over its tokens.
SHARED bool spreads(const Policy& policy) {
    const bool is_by_ratio = policy.objective != REINFORCE && policy.objective != CISPO &&
                             policy.objective != DRO;
    return is_by_ratio && policy.ratio == RATIO_OF_SEQUENCE;
}

// The one of two numbers that is given.
SHARED double given_of(double one, double other) { return one == one ? one : other; }

// The weight that makes up for a sampler, from its logarithm.
SHARED double correction_of(const Policy& policy, double log_weight) {
    const double weight = exp(log_weight);
    const double low = masks(policy) ? policy.rollout_low : 0.0;
    const double beyond = masks(policy) ? 0.0 : policy.rollout_high;
    return pick((weight < low), 0.0, pick(weight > policy.rollout_high, beyond, weight));
}

// ------------------------------------------------------------------ distributions of tokens

enum DistillationDivergence { FORWARD_KL, REVERSE_KL, JENSEN_SHANNON, INTERPOLATED_JENSEN_SHANNON };
enum DistillationSupport { WHOLE, TAIL_BUCKET, TRUNCATED };

// What is computed of a class; WEIGHED is of both from their mixture.
enum TermKind { FORWARD, REVERSE, WEIGHED };

// Everything that is known of a batch.  The mixture has the share `beta` of the teacher.
struct Distilling {
    int divergence, support;
    double beta, temperature;
};

// A share of a class and its logarithm.
struct Part {
    double share, log;
};

struct Term {
    double value, slope;  // with respect to the student's logarithm
};

// Who leaves less than this to all other classes has rounded it away.
constexpr double LEAST_REST = 1.0 / (1ull << 40);

SHARED TermKind kind_of(const Distilling& how) {
    const bool is_between = how.divergence == INTERPOLATED_JENSEN_SHANNON;
    if (how.divergence == FORWARD_KL || (is_between && how.beta == 0)) return FORWARD;
    if (how.divergence == REVERSE_KL || (is_between && how.beta == 1)) return REVERSE;
    return WEIGHED;
}

// log(exp(x) + exp(y))
SHARED double log_of_sum(double x, double y) {
    const double most = pick(x > y, x, y), apart = fabs(x - y);  // NaN, if one is
    return pick(x == y, x + 0.6931471805599453, most + log1p(exp(-apart)));
}

template <TermKind KIND>
SHARED Term term_of(const Distilling& how, Part student, Part teacher) {
    if constexpr (KIND == FORWARD) {
        return Term{weighed(teacher.share, teacher.log - student.log), -teacher.share};
    } else if constexpr (KIND == REVERSE) {
        const double value = weighed(student.share, student.log - teacher.log);
        return Term{value, value + student.share};
    } else {
        const double beta = how.beta, own = 1 - beta;
        const bool is_between = how.divergence == INTERPOLATED_JENSEN_SHANNON;
        const double by_teacher = is_between ? own : beta, by_student = is_between ? beta : own;
        const double mixture = beta * teacher.share + own * student.share;
        // Where a share is tiny, its logarithm is known and that of the product is not.
        const double log_mixture =
            log_of_sum(pick(beta != 0, teacher.log + log(beta), -unbounded()),
                       pick(own != 0, student.log + log(own), -unbounded()));
        const double of_teacher = weighed(teacher.share, teacher.log - log_mixture);
        const double of_student = weighed(student.share, student.log - log_mixture);
        const double divisor = pick(mixture > 0, mixture, 1.0);  // whose inverse may be infinite
        const double part = pick(mixture > 0, student.share * own / divisor, 0.0);
        return Term{
            weighed(by_teacher, of_teacher) + weighed(by_student, of_student),
            weighed(by_student, of_student + student.share) -
                part * (by_teacher * teacher.share + by_student * student.share)};
    }
}

// The share of all classes that are not given, from the sum of those that are.
SHARED Part rest_of(double sum) {
    const double rest = pick(1 - sum < LEAST_REST, LEAST_REST, 1 - sum);
    return Part{rest, log(rest)};
}

// What is taken from each derivative for a student's share: all shares sum to 1, or with the rest.
SHARED double lever_of(const Distilling& how, double slopes, double rest, double slope_of_rest) {
    if (how.support == WHOLE) return slopes;
    return rest > LEAST_REST ? slope_of_rest / rest : 0.0;
}

// What a derivative with respect to a logit goes to where the other side holds classes impossible,
// `count` of them, whose own slopes are infinite: see slopes_to_infinity in
// losses/_maths/divergences.py.
SHARED double limit_of(double slope, double share, double of_others, double count) {
    const double alone = count == 1 ? 0.0 : unbounded() - unbounded();
    return slope == unbounded() ? (of_others > 0 ? unbounded() : alone)
                                : (share == 0 ? 0.0 : -unbounded());
}

// The derivative with respect to a logarithm that was given, or to a logit at a temperature of 1.
SHARED double slope_of(const Distilling& how, double slope, double share, double lever) {
    return pick(how.support != TRUNCATED, slope - share * lever, slope);
}
