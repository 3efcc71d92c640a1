// The mean over classes of one minus an index of overlap, for both devices: region_loss() in
// losses/_maths/overlap.py, step by step.  An example is an element for each class at every position.  It
// offers, of `regions`,
//
//     regions.classes()
//     regions.count_up(kind)           which has to come first, and then
//     regions.counts(kind, c)          the counts of a class
//     regions.has(c)                   whether a position is of a class
//     regions.keep(c, slopes), regions.slopes(c)
//     regions.write(kind, part)        which writes the gradient of a part of the sum over the classes
//
// and for what is rarely done, of doubles made of the logarithms of shares,
//
//     regions.look_closer(kind)        which has to come first, and then
//     regions.sum(kind, c, term), regions.largest(kind, c, term)
//     regions.write_closer(kind, part)
//
// and regions.raised(x, y), x to the power of y, of doubles.

typedef int Class;

// Members of enums are numbered in their order.
enum PredictionKind { LOGITS, LOG_PROBABILITIES };
enum EmptyTarget { SMOOTH, SKIP };

// Shares that are the softmax over the classes.
struct OfClasses {
    static constexpr bool IS_EXCLUSIVE = true;
};

// What a change of a share changes; of a faint class, times exp of `top`.
SHARED double slope_of(const Slopes& slopes, double truth) {
    return share_times(slopes.by_hit, truth) + share_times(slopes.by_false, 1 - truth);
}

// Writes the slopes of a position of a row that has a faint class, in double.  `at` has the logarithm of a
// class's share and what it lacks, at.shares(c); the true share, at.truth(c); the prediction; the largest
// class, at.best(); and put(c, slope).
template <typename Regions, typename Position>
SHARED void write_closer_position(OfClasses, const Regions& regions, const Position& at) {
    const Class classes = regions.classes();
    const Slopes best = regions.slopes(at.best());
    const double of_best = best.is_faint ? 0 : slope_of(best, at.truth(at.best()));
    // By the logarithm of a share.  That of a faint one need not be small: nothing may count of it.
    const auto by_log = [&](Class c, double log_share) INLINED {
        const Slopes own = regions.slopes(c);
        const double slope = slope_of(own, at.truth(c)), share = exp(log_share);
        return own.is_faint ? share_times(slope, exp(log_share - own.top)) - share * of_best
                            : share * (slope - of_best);
    };
    double rest = 0, by_best = 0;
    ONE_BY_ONE
    for (Class c = 0; c < classes; ++c)
        (c == at.best() ? by_best : rest) += by_log(c, at.shares(c).inside);
    // Less the share times the sum of all; of the best class, whose share may be 1, what it lacks times its
    // own, less the share times the others'.
    ONE_BY_ONE
    for (Class c = 0; c < classes; ++c) {
        const Shares<double> own = at.shares(c);
        const double share = exp(own.inside);
        if (c == at.best()) at.put(c, by_best * own.outside - share * rest);
        else at.put(c, by_log(c, own.inside) - share * (rest + by_best));
    }
}

template <typename Regions, typename Kind, typename Position>
SHARED void write_closer_position(Kind kind, const Regions& regions, const Position& at) {
    ONE_BY_ONE
    for (Class c = 0; c < regions.classes(); ++c) {
        const Slopes slopes = regions.slopes(c);
        const T prediction = at.prediction(c);
        const double slope = slope_of(slopes, at.truth(c));
        if (slopes.is_faint)
            at.put(c, kind.spread(slope, slopes.top, prediction));
        else
            at.put(c, kind.bend(kind.shares(prediction)) * slope);
    }
}

// With `skips` a class that no position is of is left out of the mean.
template <typename Regions, typename Kind>
SHARED_STEP T mean_overlap(const Regions& regions, Kind kind, Index given, bool skips) {
    const Index index = given.moderate();
    regions.count_up(kind);
    double sum = 0, present = 0;
    bool is_close = false;
    ONE_BY_ONE
    for (Class c = 0; c < regions.classes(); ++c) {
        const Counts<double> counts = regions.counts(kind, c);
        const double positives = counts.both + counts.missed;
        if (skips && positives == 0) {
            regions.keep(c, Slopes{0, 0, 0, 0, false});
            continue;
        }
        const Sides sides = sides_of(counts, index);
        Slopes found = slopes_of(regions, sides, index);
        if (needs_logs(sides, found)) {
            if (!is_close) regions.look_closer(kind);
            is_close = true;
            found = faint_slopes(
                regions, index, [&](auto term) INLINED { return regions.sum(kind, c, term); },
                [&](auto term) INLINED { return regions.largest(kind, c, term); });
        }
        regions.keep(c, found);
        sum += found.value;
        // Of a NaN among its predictions the counts do not tell whether there is a position of it.
        present += !skips || positives == positives || regions.has(c) ? 1 : 0;
    }
    const double part = present == 0 ? 0 : 1 / present;
    if (is_close) regions.write_closer(kind, part);
    else regions.write(kind, T(part));
    return T(sum * part);
}

// The same of predictions of any kind.
template <typename Regions>
SHARED T overlap_of_classes(
    const Regions& regions, double prediction_kind, double empty_target, Index index) {
    const bool skips = empty_target == SKIP;
    if (prediction_kind == LOGITS) return mean_overlap(regions, OfClasses{}, index, skips);
    if (prediction_kind == LOG_PROBABILITIES) return mean_overlap(regions, OfLogs{}, index, skips);
    return mean_overlap(regions, OfProbabilities{}, index, skips);
}
