// The kernel of the losses of log-probabilities of tokens, a block a sequence: see tokens.hpp for what
// a text may say.  The text of a loss is the body of evaluate(): it sets `value` and writes the
// gradient, from `tokens` and the loss's parameters.
//
// `predictions`, `targets` and the other inputs have a number for each token, `advantages` perhaps one
// for each sequence; all but the first may be null.  A sequence has the `lengths` tokens from `starts`
// on, of which `mask` says which count, and `sizes` places.  A token has `columns` numbers: one, or where
// the loss is of distributions one a class.  The value of a sequence is the sum over its tokens times
// its share.  `silent`, `mask` and `gradient` may be null.

typedef long long Index;
// So many for every sequence: no result depends on how long the others are.
constexpr int THREADS_OF_TOKENS = 256;

// What is known of a token; of an input that is not given, 0.
struct Given {
    double log, sampling, advantage, reference, rollout, weight;
};

// A number of an input by its place among them.
template <int ROLE>
__device__ inline double number_at(Index, double otherwise) {
    return otherwise;
}
template <int ROLE, typename S, typename... Rest>
__device__ inline double number_at(
    Index place, double otherwise, const S* first, const Rest*... rest) {
    if constexpr (ROLE == 0) return first ? double(widened(first[place])) : otherwise;
    else return number_at<ROLE - 1>(place, otherwise, rest...);
}

// What is known of a whole sequence before its tokens are computed.
struct Totals {
    double ratio, weight, slope;
};

// A sequence as the text is given it.
struct Sequence {
    Index row, start, length;
    const unsigned char* mask;
    Index classes;
    bool by_sequence;  // whether advantages are
    T scale;
    FIRST* gradient;
    T* taint;
    const FIRST* predictions;
    const SECOND* targets;
    OTHER_FIELDS

    __device__ Given at(Index place) const {
        const Index third = by_sequence ? row : place;
        return Given{number_at<0>(place, 0, predictions, targets OTHER_NAMES),
                     number_at<1>(place, 0, predictions, targets OTHER_NAMES),
                     number_at<2>(third, 0, predictions, targets OTHER_NAMES),
                     number_at<3>(place, 0, predictions, targets OTHER_NAMES),
                     number_at<4>(place, 0, predictions, targets OTHER_NAMES),
                     number_at<5>(place, 1, predictions, targets OTHER_NAMES)};
    }

    // Calls visit(place) for each token of this thread that counts.
    template <typename Visit>
    __device__ void each(Visit visit) const {
        for (Index i = threadIdx.x; i < length; i += blockDim.x)
            if (!mask || mask[start + i]) visit(start + i);
    }

    template <typename Term>
    __device__ double sum(Term term) const {
        double own = 0;
        each([&](Index place) { own += term(place); });
        return sum_over_team(own);
    }
};

template <int OBJECTIVE = 0>
__device__ inline Cost cost_at(const Policy& policy, const Token& token) {
    if constexpr (OBJECTIVE + 1 < OBJECTIVES) {
        if (policy.objective != OBJECTIVE) return cost_at<OBJECTIVE + 1>(policy, token);
    }
    return cost_of<OBJECTIVE>(policy, token);
}

__device__ inline Cost divergence_at(const Policy& policy, double apart) {
    switch (policy.estimator) {
        case K1: return divergence_of<K1>(apart, 0);
        case K2: return divergence_of<K2>(apart, 0);
        case K3: return divergence_of<K3>(apart, expm1(-apart));
        default: return divergence_of<NO_ESTIMATOR>(apart, 0);
    }
}

// The objective of a token, with the weights that it has.
__device__ inline Cost weighed_cost(const Policy& policy, const Totals& totals, const Given& given) {
    const double ratio =
        policy.ratio == RATIO_OF_TOKEN ? exp(given.log - given.sampling) : totals.ratio;
    Cost cost = cost_at(policy, Token{given.log, given.sampling, given.advantage, ratio});
    if (policy.correction != NO_CORRECTION) {
        const double weight = corrects_sequences(policy)
                                  ? totals.weight
                                  : correction_of(policy, given.sampling - given.rollout);
        cost.value = weighed(weight, cost.value);
        cost.slope = weighed(weight, cost.slope);
    }
    cost.value = weighed(given.weight, cost.value);
    cost.slope = weighed(given.weight, cost.slope);
    return cost;
}

__device__ inline Totals totals_of(const Policy& policy, const Sequence& tokens) {
    Totals totals{1, 1, 0};
    if (!has_one_ratio(policy) && !corrects_sequences(policy)) return totals;
    const double count = fmax(tokens.sum([](Index) { return 1.0; }), 1.0);
    if (has_one_ratio(policy)) {
        const double apart = tokens.sum([&](Index place) {
            const Given given = tokens.at(place);
            return given.log - given.sampling;
        });
        totals.ratio = exp(apart / count);
    }
    if (corrects_sequences(policy)) {
        const double apart = tokens.sum([&](Index place) {
            const Given given = tokens.at(place);
            return given.sampling - given.rollout;
        });
        totals.weight = correction_of(policy, apart);
    }
    if (spreads(policy)) {
        const double slopes = tokens.sum([&](Index place) {
            return weighed_cost(policy, totals, tokens.at(place)).slope;
        });
        totals.slope = slopes / count;
    }
    return totals;
}

// The sum of the costs of a sequence; writes its gradient.
__device__ inline double cost_of_sequence(const Sequence& tokens, const Policy& policy) {
    const Totals totals = totals_of(policy, tokens);
    return tokens.sum([&](Index place) {
        const Given given = tokens.at(place);
        Cost cost = weighed_cost(policy, totals, given);
        if (spreads(policy)) cost.slope = totals.slope;
        if (policy.coefficient != 0) {
            const Cost divergence = divergence_at(policy, given.log - given.reference);
            cost.value += weighed(given.weight, policy.coefficient * divergence.value);
            cost.slope += weighed(given.weight, policy.coefficient * divergence.slope);
        }
        if (tokens.gradient)
            tokens.gradient[place] = sent(T(weighed(double(tokens.scale), cost.slope)), *tokens.taint);
        return cost.value;
    });
}

// The distribution of a side of a token, from the largest of its numbers and the sum of exponentials.
struct Side {
    double most, log_sum;
    Part rest;
};

// A token of distributions, whose classes the threads of a block share.
template <typename Student, typename Teacher>
struct Distributions {
    const Sequence& tokens;
    const Distilling& how;
    Student student_of;
    Teacher teacher_of;

    template <typename Term>
    __device__ double sum(Term term) const {
        double own = 0;
        for (Index i = threadIdx.x; i < tokens.classes; i += blockDim.x) own += term(i);
        return sum_over_team(own);
    }

    template <typename Given>
    __device__ Side side_of(Given given) const {
        if (how.support != WHOLE) {
            const double shares = sum([&](Index i) { return exp(given(i)); });
            return Side{0, 0, rest_of(shares)};
        }
        double own = -unbounded();
        for (Index i = threadIdx.x; i < tokens.classes; i += blockDim.x) {
            const double logit = given(i);
            own = logit > own ? logit : own;
        }
        const double most = over_team(own, [](double x, double y) { return x > y ? x : y; });
        const double exponentials =
            sum([&](Index i) { return exp((given(i) - most) / how.temperature); });
        return Side{most, log(exponentials), Part{0, 0}};
    }

    template <typename Given>
    __device__ Part part_of(const Side& side, Given given, Index i) const {
        const double log = how.support == WHOLE
            ? (given(i) - side.most) / how.temperature - side.log_sum : given(i);
        return Part{exp(log), log};
    }

    __device__ Term term_at(Part student, Part teacher) const {
        switch (kind_of(how)) {
            case FORWARD: return term_of<FORWARD>(how, student, teacher);
            case REVERSE: return term_of<REVERSE>(how, student, teacher);
            default: return term_of<WEIGHED>(how, student, teacher);
        }
    }

    __device__ double compute(Index token) const {
        const Side student = side_of(student_of), teacher = side_of(teacher_of);
        const auto term = [&](Index i) {
            return term_at(part_of(student, student_of, i), part_of(teacher, teacher_of, i));
        };
        const double value = sum([&](Index i) { return term(i).value; });
        Term of_rest{0, 0};
        if (how.support == TAIL_BUCKET) of_rest = term_at(student.rest, teacher.rest);
        if (!tokens.gradient) return value + of_rest.value;
        const double slopes = how.support == WHOLE ? sum([&](Index i) { return term(i).slope; }) : 0;
        const double lever = lever_of(how, slopes, student.rest.share, of_rest.slope);
        const bool is_infinite = slopes == unbounded();
        const auto share_of = [&](Index i) { return part_of(student, student_of, i).share; };
        double of_others = 0, count = 0;
        if (is_infinite) {
            count = sum([&](Index i) { return term(i).slope == unbounded() ? 1.0 : 0.0; });
            of_others = sum([&](Index i) { return term(i).slope == unbounded() ? 0.0 : share_of(i); });
        }
        for (Index i = threadIdx.x; i < tokens.classes; i += blockDim.x) {
            const double share = share_of(i), own = term(i).slope;
            const double slope = (is_infinite ? limit_of(own, share, of_others, count)
                                              : slope_of(how, own, share, lever)) / how.temperature;
            tokens.gradient[token * tokens.classes + i] =
                sent(T(weighed(double(tokens.scale), slope)), *tokens.taint);
        }
        return value + of_rest.value;
    }
};

// The sum of the divergences of a sequence; writes its gradient.
__device__ inline double divergence_of_sequence(const Sequence& tokens, const Distilling& how) {
    double sum = 0;
    for (Index token = tokens.start; token < tokens.start + tokens.length; ++token) {
        if (tokens.mask && !tokens.mask[token]) continue;
        const auto student = [&](Index i) {
            return double(widened(tokens.predictions[token * tokens.classes + i]));
        };
        const auto teacher = [&](Index i) {
            return double(widened(tokens.targets[token * tokens.classes + i]));
        };
        const Distributions<decltype(student), decltype(teacher)> both{tokens, how, student, teacher};
        sum += both.compute(token);
    }
    return sum;
}

__device__ void evaluate(const Sequence& tokens, T& value PARAMETERS);

extern "C" __global__ void __launch_bounds__(THREADS_OF_TOKENS, 1) ROWS_KERNEL(
    const long long rows, const long long columns, const FIRST* predictions, const SECOND* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values, FIRST* gradient,
    unsigned char* nonfinite, const long long* starts, const long long* sizes, const long long* lengths,
    const unsigned char* mask, const double* shares, const long long by_sequence
    OTHER_ARRAYS PARAMETERS) {
    for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
        const bool is_silent = silent && silent[row];
        const Index start = starts[row], length = is_silent ? 0 : lengths[row];
        const Results results{values + row, nullptr, nonfinite + row};
        T taint = 0;
        const Sequence tokens{row, start, length, mask, columns, by_sequence != 0, scales ? scales[row] : scale,
                              gradient, &taint, predictions, targets OTHER_NAMES};
        if (gradient)
            for (Index i = threadIdx.x; i < sizes[row] * columns; i += blockDim.x) {
                const Index token = i / columns;
                if (token < length && !(mask && !mask[start + token])) continue;
                gradient[start * columns + i] = FIRST(0.f);
            }
        T value;
        evaluate(tokens, value ARGUMENTS);
        results.write(T(value * shares[row]), taint);
    }
}
