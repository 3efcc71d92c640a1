// One minus an index of overlap, for both devices: losses/_maths/overlap.py, step by step.  A region
// offers, of terms and slopes that are functions of two numbers of each element,
//
//     region.counts(kind, term)     the sums of three numbers, from shares by a kind and the true share
//     region.write(kind, slope)     which writes the gradient, from the bend by a kind and the true share
//
// and from the prediction and the true share, for what is rarely done,
//
//     region.sum(term), region.largest(term)   of doubles
//     region.write_each(slope)
//
// and region.raised(x, y), x to the power of y.

// The shares of an element: that it belongs to the region, and that it does not.  Neither is one minus
// the other, so that both keep their digits.
template <typename Number>
struct Shares {
    Number inside, outside;
};

// Exponentials of logits this near 0 take fewer steps on the host.
constexpr T NEAR = sizeof(T) == 4 ? 80 : 700;

template <bool IS_NEAR>
struct Logits {
    typedef Logits<true> Near;
    SHARED_METHOD static bool is_near(T x) { return fabs(x) <= NEAR; }
    SHARED_METHOD T tail(T x) const { return IS_NEAR ? exp_within(-fabs(x)) : exp(-fabs(x)); }

    SHARED_METHOD Shares<T> shares(T x) const {
        const T less = tail(x), large = 1 / (1 + less), small = less * large;
        return {pick(x < 0, small, large), pick(x < 0, large, small)};
    }
    // The log of the share in the region, and the share outside.
    SHARED_METHOD Shares<double> log_shares(double x) const {
        const double less = exp(-fabs(x));
        return {(x > 0 ? 0.0 : x) - log1p(less), (x < 0 ? 1.0 : less) / (1 + less)};
    }
    // What a derivative by the share is multiplied by to be one by what was given, and the same for one
    // by the logarithm of the share.
    SHARED_METHOD T bend(Shares<T> shares) const { return shares.inside * shares.outside; }
    SHARED_METHOD T spread(T slope, T x) const { return slope * shares(x).outside; }
};
typedef Logits<false> OfLogits;

struct OfProbabilities {
    typedef OfProbabilities Near;
    SHARED_METHOD static bool is_near(T) { return false; }
    SHARED_METHOD Shares<T> shares(T x) const { return {x, 1 - x}; }
    SHARED_METHOD Shares<double> log_shares(double x) const { return {log(x), 1 - x}; }
    SHARED_METHOD T bend(Shares<T>) const { return 1; }
    SHARED_METHOD T spread(T slope, T x) const { return slope == 0 ? T(0) : slope / x; }
};

struct OfLogs {
    typedef OfLogs Near;
    SHARED_METHOD static bool is_near(T) { return false; }
    SHARED_METHOD Shares<T> shares(T x) const { return {T(exp(x)), T(-expm1(x))}; }
    SHARED_METHOD Shares<double> log_shares(double x) const { return {x, -expm1(x)}; }
    SHARED_METHOD T bend(Shares<T> shares) const { return shares.inside; }
    SHARED_METHOD T spread(T slope, T) const { return slope; }
};

// The hits of a region, what was falsely predicted to be in it, and what was missed.
template <typename Number>
struct Counts {
    Number both, falsely, missed;
};

// Totals below have too few digits: the smallest normal number to the power of 3/4.
constexpr double FAINT = sizeof(T) == 4 ? 3.5699769311663094e-29 : 1.821831989445408e-231;
constexpr double LOWEST = -1.7976931348623157e308;

#define OF_ELEMENT(...) [&](T prediction, T share) INLINED { return __VA_ARGS__; }

// A factor that may be infinite times a share that may be 0, which gives 0.
SHARED double share_times(double factor, double share) { return share == 0 ? 0 : factor * share; }

SHARED double larger(double left, double right) { return left > right ? left : right; }

// An index: Dice is 2, 1, 1, Jaccard 1, 1, 1 and Tversky 1, alpha, beta.
struct Index {
    double hits, alpha, beta, smooth, gamma;
};

// (1 - index)^gamma, and how its derivative by the index's loss bends every other one.
template <typename Region>
SHARED T powered(const Region& region, T value, double gamma, T& bend) {
    bend = 1;
    if (gamma == 1) return value;
    const T power = region.raised(value, T(gamma));
    bend = value == 0 ? T(0) : T(gamma) * power / value;
    return power;
}

// The same where all shares are tiny, in logarithms: see faint_loss() in losses/_maths/overlap.py.
template <typename Region, typename Kind>
SHARED_STEP T faint_overlap(const Region& region, Kind kind, Index index) {
    const double missed =
        index.beta * region.sum(OF_ELEMENT(kind.log_shares(prediction).outside * share));
    const double largest = region.largest(OF_ELEMENT(kind.log_shares(prediction).inside));
    const double found = larger(largest, log(larger(missed, index.smooth)));
    const double top = found > LOWEST ? found : 0;
    const auto inside = [&](T prediction) INLINED {
        return exp(kind.log_shares(prediction).inside - top);
    };
    const double shrunk = exp(-top);
    const double right = index.hits * region.sum(OF_ELEMENT(inside(prediction) * share)) +
                         share_times(shrunk, index.smooth);
    const double wrong = index.alpha * region.sum(OF_ELEMENT(inside(prediction) * (1 - share))) +
                         share_times(shrunk, missed);
    const double sum = right + wrong, total = sum == 0 ? 1 : sum;
    const double miss = wrong / total, hit = right / total;
    T bend;
    const T value = powered(region, T(miss), index.gamma, bend);
    const double of_false = index.alpha * hit, of_true = index.hits * miss + index.beta * hit;
    region.write_each([&](T prediction, T share) INLINED {
        const double slope = inside(prediction) / total * ((1 - share) * of_false - share * of_true);
        return kind.spread(T(slope * bend), prediction);
    });
    return value;
}

template <typename Region, typename Kind>
SHARED T overlap(const Region& region, Kind kind, Index index) {
    const Counts<double> counts = region.counts(kind, [&](Shares<T> shares, T share) INLINED {
        return Counts<T>{shares.inside * share, shares.inside * (1 - share), shares.outside * share};
    });
    const double right = index.hits * counts.both + index.smooth;
    const double wrong = index.alpha * counts.falsely + index.beta * counts.missed;
    const double total = right + wrong;
    if (total < FAINT) return faint_overlap(region, kind, index);
    T bend;
    const double miss = wrong / total, rest = right / total / total;
    const T value = powered(region, T(miss), index.gamma, bend);
    const T by_hit = T(-index.hits * miss / total - index.beta * rest) * bend;
    const T by_false = T(index.alpha * rest) * bend;
    region.write(kind, [&](T bent, T share) INLINED {
        return (share * by_hit + (1 - share) * by_false) * bent;
    });
    return value;
}
