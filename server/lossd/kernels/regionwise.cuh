// The kernel of the losses of a region, a team of threads a region.  The text of a loss is the body of
// evaluate(): it sets `value` and writes the gradient, from `region` and the loss's parameters, by
//
//     region.overlap(kind, hits, alpha, beta, smooth, gamma)
//
// which is the loss of losses/_maths/overlap.py, step by step; the kind is OfLogits, OfProbabilities or
// OfLogs, which is what predictions are.  `scales`, `silent` and `gradient` may be null.

// The shares of an element: that it belongs to the region, and that it does not.  Neither is one minus
// the other, so that both keep their digits.
template <typename Number>
struct Shares {
    Number inside, outside;
};

struct OfLogits {
    __device__ Shares<T> shares(T x) const {
        const T inside = exp(x > 0 ? T(0) : x), outside = exp(x < 0 ? T(0) : -x);
        const T total = 1 + inside * outside;
        return {inside / total, outside / total};
    }
    // The log of the share in the region, and the share outside.
    __device__ Shares<double> log_shares(double x) const {
        const double tail = exp(-fabs(x));
        return {(x > 0 ? 0.0 : x) - log1p(tail), (x < 0 ? 1.0 : tail) / (1 + tail)};
    }
    // The derivative by what was given, from that by the share and from that by its logarithm.
    __device__ T back(T slope, T, Shares<T> shares) const {
        return slope * shares.inside * shares.outside;
    }
    __device__ T spread(T slope, T, Shares<T> shares) const { return slope * shares.outside; }
};

struct OfProbabilities {
    __device__ Shares<T> shares(T x) const { return {x, 1 - x}; }
    __device__ Shares<double> log_shares(double x) const { return {log(x), 1 - x}; }
    __device__ T back(T slope, T, Shares<T>) const { return slope; }
    __device__ T spread(T slope, T x, Shares<T>) const { return slope == 0 ? T(0) : slope / x; }
};

struct OfLogs {
    __device__ Shares<T> shares(T x) const { return {exp(x), -expm1(x)}; }
    __device__ Shares<double> log_shares(double x) const { return {x, -expm1(x)}; }
    __device__ T back(T slope, T, Shares<T> shares) const { return slope * shares.inside; }
    __device__ T spread(T slope, T, Shares<T>) const { return slope; }
};

// Totals below have too few digits: the smallest normal number to the power of 3/4.
constexpr double FAINT = sizeof(T) == 4 ? 3.5699769311663094e-29 : 1.821831989445408e-231;

struct Larger {
    __device__ double operator()(double left, double right) const {
        return left > right ? left : right;
    }
};

// A factor that may be infinite times a share that may be 0, which gives 0.
__device__ inline double share_times(double factor, double share) {
    return share == 0 ? 0 : factor * share;
}

// One example: its elements, and where its gradient goes.
struct Region {
    const FIRST* predictions;
    const SECOND* truth;
    long long columns;
    FIRST* gradient;
    T scale;
    mutable T taint = 0;

    // Calls visit(prediction, true share) for every element of this thread, one after the other.
    template <typename Visit>
    __device__ void each(Visit visit) const {
        each_pack(columns, [&](long long start, long long left) {
            const Pack prediction = load(predictions + start, left);
            const Pack share = load(truth + start, left);
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                if (i >= left) break;
                visit(prediction.items[i], share.items[i]);
            }
        });
    }

    // The same in few instructions, for what is rarely done.
    template <typename Visit>
    __device__ void each_briefly(Visit visit) const {
        each_pack(columns, [&](long long start, long long left) {
#pragma unroll 1
            for (long long i = start; i < start + elements_of(left); ++i)
                visit(widened(predictions[i]), widened(truth[i]));
        });
    }

    template <typename Slope>
    __device__ void write(Slope slope) const {
        if (!gradient) return;
        each_pack(columns, [&](long long start, long long left) {
            const Pack prediction = load(predictions + start, left);
            const Pack share = load(truth + start, left);
            Stored<FIRST> slopes{};
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                if (i >= left) break;
                const T found = slope(prediction.items[i], share.items[i]);
                slopes.items[i] = sent(weighed(scale, found), taint);
            }
            store(gradient + start, slopes, left);
        });
    }

    // (1 - index)^gamma, and how its derivative by the index's loss bends every other one.
    __device__ T powered(T value, double gamma, T& bend) const {
        bend = 1;
        if (gamma == 1) return value;
        const T power = pow(value, T(gamma));
        bend = value == 0 ? T(0) : T(gamma) * power / value;
        return power;
    }

    template <typename Kind>
    __device__ T overlap(Kind kind, double hits, double alpha, double beta, double smooth,
                         double gamma) const {
        T own_both = 0, own_false = 0, own_missed = 0;
        each([&](T prediction, T share) {
            const Shares<T> shares = kind.shares(prediction);
            own_both += shares.inside * share;
            own_false += shares.inside * (1 - share);
            own_missed += shares.outside * share;
        });
        const double both = sum_over_team(own_both), falsely = sum_over_team(own_false);
        const double missed = sum_over_team(own_missed);
        const double right = hits * both + smooth, wrong = alpha * falsely + beta * missed;
        const double total = right + wrong;
        if (total < FAINT) return faint(kind, hits, alpha, beta, smooth, gamma);
        T bend;
        const double miss = wrong / total, rest = right / total / total;
        const T value = powered(T(miss), gamma, bend);
        const T by_hit = T(-hits * miss / total - beta * rest) * bend;
        const T by_false = T(alpha * rest) * bend;
        write([&](T prediction, T share) {
            return kind.back(share * by_hit + (1 - share) * by_false, prediction,
                             kind.shares(prediction));
        });
        return value;
    }

    // The same where all shares are tiny: relative to exp of `top`, the largest term of the total.
    template <typename Kind>
    __device__ T faint(Kind kind, double hits, double alpha, double beta, double smooth,
                       double gamma) const {
        double own_missed = 0, own_largest = -LARGEST<double>;  // of no shares at all
        each_briefly([&](T prediction, T share) {
            const Shares<double> logs = kind.log_shares(prediction);
            own_missed += logs.outside * share;
            own_largest = Larger{}(own_largest, logs.inside);
        });
        const double missed = beta * sum_over_team(own_missed);
        const double largest = over_team(own_largest, Larger{});
        const double found = Larger{}(largest, log(Larger{}(missed, smooth)));
        const double top = found > -LARGEST<double> ? found : 0;
        double own_right = 0, own_wrong = 0;
        each_briefly([&](T prediction, T share) {
            const double inside = exp(kind.log_shares(prediction).inside - top);
            own_right += inside * share;
            own_wrong += inside * (1 - share);
        });
        const double shrunk = exp(-top);
        const double right = hits * sum_over_team(own_right) + share_times(shrunk, smooth);
        const double wrong = alpha * sum_over_team(own_wrong) + share_times(shrunk, missed);
        const double sum = right + wrong, total = sum == 0 ? 1 : sum;
        const double miss = wrong / total, hit = right / total;
        T bend;
        const T value = powered(T(miss), gamma, bend);
        write([&](T prediction, T share) {
            const double inside = exp(kind.log_shares(prediction).inside - top) / total;
            const double slope = inside * ((1 - share) * (alpha * hit)
                                           - share * (hits * miss + beta * hit));
            return kind.spread(T(slope * bend), prediction, kind.shares(prediction));
        });
        return value;
    }
};

__device__ void evaluate(const Region& region, T& value PARAMETERS);

extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1) ROWS_KERNEL(
    const long long rows, const long long columns, const FIRST* predictions, const SECOND* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values, FIRST* gradient,
    unsigned char* nonfinite PARAMETERS) {
    each_row(rows, [&](long long row) {
        const long long offset = row * columns;
        const Results results{values + row, gradient ? gradient + offset : nullptr, nonfinite + row};
        if (silent && silent[row]) return results.silence(columns);
        const Region region{predictions + offset, targets + offset, columns, results.gradient,
                            scales ? scales[row] : scale};
        T value;
        evaluate(region, value ARGUMENTS);
        results.write(value, region.taint);
    });
}
