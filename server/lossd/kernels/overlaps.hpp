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
// and region.raised(x, y), x to the power of y, of doubles.

// The shares of an element: that it belongs to the region, and that it does not.  Neither is one minus
// the other, so that both keep their digits.
template <typename Number>
struct Shares {
    Number inside, outside;
};

// Exponentials of logits this near 0 take fewer steps on the host.
constexpr T NEAR = sizeof(T) == 4 ? 80 : 700;

// The product of numbers of which one may be infinite and the other 0, which gives 0.
SHARED double share_times(double left, double right) {
    return left == 0 || right == 0 ? 0 : left * right;
}

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
    // What a derivative with respect to the share is multiplied by to be one with respect to what was
    // given.
    SHARED_METHOD T bend(Shares<T> shares) const { return shares.inside * shares.outside; }
    // The derivative with respect to what was given, from one with respect to the share over exp of
    // `top`.
    SHARED_METHOD double spread(double slope, double top, double x) const {
        const Shares<double> shares = log_shares(x);
        return share_times(slope, exp(shares.inside - top)) * shares.outside;
    }
};
typedef Logits<false> OfLogits;

struct OfProbabilities {
    static constexpr bool IS_EXCLUSIVE = false;
    typedef OfProbabilities Near;
    SHARED_METHOD static bool is_near(T) { return false; }
    SHARED_METHOD Shares<T> shares(T x) const { return {x, 1 - x}; }
    SHARED_METHOD Shares<double> log_shares(double x) const { return {log(x), 1 - x}; }
    SHARED_METHOD T bend(Shares<T>) const { return 1; }
    SHARED_METHOD double spread(double slope, double top, double) const {
        return share_times(slope, exp(-top));
    }
};

struct OfLogs {
    static constexpr bool IS_EXCLUSIVE = false;
    typedef OfLogs Near;
    SHARED_METHOD static bool is_near(T) { return false; }
    SHARED_METHOD Shares<T> shares(T x) const { return {T(exp(x)), T(-expm1(x))}; }
    SHARED_METHOD Shares<double> log_shares(double x) const { return {x, -expm1(x)}; }
    SHARED_METHOD T bend(Shares<T> shares) const { return shares.inside; }
    SHARED_METHOD double spread(double slope, double top, double x) const {
        return share_times(slope, exp(x - top));
    }
};

// The hits of a region, what was falsely predicted to be in it, and what was missed.
template <typename Number>
struct Counts {
    Number both, falsely, missed;
};

// Totals below have too few digits: the smallest normal number to the power of 3/4.
constexpr double FAINT = sizeof(T) == 4 ? 3.5699769311663094e-29 : 1.821831989445408e-231;
constexpr double LOWEST = -1.7976931348623157e308;
// The largest slope that fits its type.
constexpr double STEEPEST = sizeof(T) == 4 ? 3.4028234663852886e38 : 1.7976931348623157e308;

#define OF_ELEMENT(...) [&](T prediction, T share) INLINED { return __VA_ARGS__; }

SHARED double larger(double left, double right) { return left > right ? left : right; }

// An index: Dice is 2, 1, 1, Jaccard 1, 1, 1 and Tversky 1, alpha, beta.
struct Index {
    double hits, alpha, beta, smooth, gamma;

    // The same index with no factor above 1: only how they are to each other counts.
    SHARED_METHOD Index moderate() const {
        const double by = larger(larger(larger(1, hits), larger(alpha, beta)), smooth);
        return {hits / by, alpha / by, beta / by, smooth / by, gamma};
    }
};

// (1 - index)^gamma, and how its derivative with respect to the index's loss bends every other one.
template <typename Region>
SHARED double powered(const Region& region, double value, double gamma, double& bend) {
    bend = 1;
    if (gamma == 1) return value;
    // Not from the power, which may vanish where its derivative does not.
    bend = value == 0 ? 0 : gamma * region.raised(value, gamma - 1);
    return region.raised(value, gamma);
}

// One minus an index where all shares are tiny, in logarithms: see faint_loss() in
// losses/_maths/overlap.py.  Everything is relative to exp of `top`.
struct Faint {
    double miss, hit, total, top;
};

#define OF_SHARES(...) [&](Shares<double> of, double share) INLINED { return __VA_ARGS__; }

// From sum(term) and largest(term), of terms of the log of the share in the region, the share outside and
// the true share.
template <typename Sum, typename Largest>
SHARED Faint faint_index(Index index, Sum sum, Largest largest) {
    const double missed = index.beta * sum(OF_SHARES(of.outside * share));
    const double most = largest(OF_SHARES(of.inside));
    const double found = larger(most, log(larger(missed, index.smooth)));
    const double top = found > LOWEST ? found : 0, shrunk = exp(-top);
    const double right = index.hits * sum(OF_SHARES(exp(of.inside - top) * share)) +
                         share_times(shrunk, index.smooth);
    const double wrong = index.alpha * sum(OF_SHARES(exp(of.inside - top) * (1 - share))) +
                         share_times(shrunk, missed);
    const double sums = right + wrong, total = sums == 0 ? 1 : sums;
    return {wrong / total, right / total, total, top};
}

// The value of a region, and what a hit and a false prediction change of it; of a faint region, times exp
// of `top`.
struct Slopes {
    double value, by_hit, by_false, top;
    bool is_faint;
    SHARED_METHOD bool fit() const { return !(fabs(by_hit) > STEEPEST || fabs(by_false) > STEEPEST); }
};

template <typename Region, typename Sum, typename Largest>
SHARED Slopes faint_slopes(const Region& region, Index index, Sum sum, Largest largest) {
    const Faint found = faint_index(index, sum, largest);
    double bend;
    const double value = powered(region, found.miss, index.gamma, bend);
    const double by_hit = -(index.hits * found.miss + index.beta * found.hit) / found.total;
    const double by_false = index.alpha * found.hit / found.total;
    return {value, by_hit * bend, by_false * bend, found.top, true};
}

// Of counts that are not faint.
struct Sides {
    double right, wrong;
    SHARED_METHOD double total() const { return right + wrong; }
};

SHARED Sides sides_of(const Counts<double>& counts, Index index) {
    return {index.hits * counts.both + index.smooth,
            index.alpha * counts.falsely + index.beta * counts.missed};
}

template <typename Region>
SHARED Slopes slopes_of(const Region& region, Sides sides, Index index) {
    const double total = sides.total();
    double bend;
    const double miss = sides.wrong / total, rest = sides.right / total / total;
    const double value = powered(region, miss, index.gamma, bend);
    return {value, (-index.hits * miss / total - index.beta * rest) * bend, index.alpha * rest * bend,
            0, false};
}

// Whether a region is counted as a faint one: where there are too few digits, or slopes are too large.
SHARED bool needs_logs(Sides sides, const Slopes& slopes) {
    return sides.total() < FAINT || !slopes.fit();
}

template <typename Region, typename Kind>
SHARED_STEP T faint_overlap(const Region& region, Kind kind, Index index) {
    const Slopes found = faint_slopes(
        region, index,
        [&](auto term) INLINED {
            return region.sum(OF_ELEMENT(term(kind.log_shares(prediction), share)));
        },
        [&](auto term) INLINED {
            return region.largest(OF_ELEMENT(term(kind.log_shares(prediction), share)));
        });
    region.write_each([&](T prediction, T share) INLINED {
        const double slope =
            share_times(found.by_false, 1 - share) + share_times(found.by_hit, share);
        return T(kind.spread(slope, found.top, prediction));
    });
    return T(found.value);
}

template <typename Region, typename Kind>
SHARED T overlap(const Region& region, Kind kind, Index given) {
    const Index index = given.moderate();
    const Counts<double> counts = region.counts(kind, [&](Shares<T> shares, T share) INLINED {
        return Counts<T>{shares.inside * share, shares.inside * (1 - share), shares.outside * share};
    });
    const Sides sides = sides_of(counts, index);
    const Slopes found = slopes_of(region, sides, index);
    if (needs_logs(sides, found)) return faint_overlap(region, kind, index);
    const T by_hit = T(found.by_hit), by_false = T(found.by_false);
    region.write(kind, [&](T bent, T share) INLINED {
        return (share * by_hit + (1 - share) * by_false) * bent;
    });
    return T(found.value);
}
