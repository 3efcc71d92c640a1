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
    static constexpr bool IS_EXCLUSIVE = false;
    typedef OfProbabilities Near;
    SHARED_METHOD static bool is_near(T) { return false; }
    SHARED_METHOD Shares<T> shares(T x) const { return {x, 1 - x}; }
    SHARED_METHOD Shares<double> log_shares(double x) const { return {log(x), 1 - x}; }
    SHARED_METHOD T bend(Shares<T>) const { return 1; }
    SHARED_METHOD T spread(T slope, T x) const { return slope == 0 ? T(0) : slope / x; }
};

struct OfLogs {
    static constexpr bool IS_EXCLUSIVE = false;
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

// The value of a region, and what a hit and a false prediction change of it.  Of a faint region that is
// said of the logarithm of a share, times exp of `top` less that logarithm.
struct Slopes {
    double value, by_hit, by_false, top;
    bool is_faint;
};

template <typename Region, typename Sum, typename Largest>
SHARED Slopes faint_slopes(const Region& region, Index index, Sum sum, Largest largest) {
    const Faint found = faint_index(index, sum, largest);
    T bend;
    const T value = powered(region, T(found.miss), index.gamma, bend);
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
    T bend;
    const double miss = sides.wrong / total, rest = sides.right / total / total;
    const T value = powered(region, T(miss), index.gamma, bend);
    return {value, T(-index.hits * miss / total - index.beta * rest) * bend,
            T(index.alpha * rest) * bend, 0, false};
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
        const double inside = exp(kind.log_shares(prediction).inside - found.top);
        const double slope =
            share_times(found.by_false, 1 - share) + share_times(found.by_hit, share);
        return kind.spread(T(share_times(inside, slope)), prediction);
    });
    return T(found.value);
}

template <typename Region, typename Kind>
SHARED T overlap(const Region& region, Kind kind, Index index) {
    const Counts<double> counts = region.counts(kind, [&](Shares<T> shares, T share) INLINED {
        return Counts<T>{shares.inside * share, shares.inside * (1 - share), shares.outside * share};
    });
    const Sides sides = sides_of(counts, index);
    if (sides.total() < FAINT) return faint_overlap(region, kind, index);
    const Slopes found = slopes_of(region, sides, index);
    const T by_hit = T(found.by_hit), by_false = T(found.by_false);
    region.write(kind, [&](T bent, T share) INLINED {
        return (share * by_hit + (1 - share) * by_false) * bent;
    });
    return T(found.value);
}
