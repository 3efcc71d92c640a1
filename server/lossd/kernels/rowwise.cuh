// The kernel of the losses whose example is a row of classes, with a team of threads for each row.
// The text of a loss is the body of evaluate(): it sets `value` and, with GRADIENT_OF_ROW, the
// gradient, from
//
//     columns                the number of classes
//     label                  the row's class index, where targets are class indices
//     the loss's parameters  of which a vector has one number a column
//     PREDICTION_AT(column), TARGET_AT(column), the latter where targets are no class indices
//     KEPT_OF_ROW(e)         what e comes to, to be asked for as f(column, prediction, target)
//     SUM_OVER_ROW(e), LARGEST_OF_ROW(e), LARGEST_BUT(column, e), SUMS_OVER_ROW(e, e)
//     SOFTMAX_OF_ROW(e)      of predictions; SOFTMAX_OF_TARGETS(e) and SUM_OVER_TARGETS(e) of targets
//     SOFTMAX_FROM(column, e)       SOFTMAX_OF_ROW(e), for who asks it about this column and no other best;
//                                   the same from column -1
//     GRADIENT_BUT(column, own, e)  GRADIENT_OF_ROW(e), but `own` at a column
//     GRADIENT_AT(column, slope)    a gradient of 0 at all other columns
//     GRADIENT_AND_SUM(slope, e)    GRADIENT_OF_ROW(slope) and SUM_OVER_ROW(e)
//     GRADIENT_AND_SUMS(slope, e, e)    and SUMS_OVER_ROW(e, e)
//     with_logits(row, temperature, priors, strength, use), masses_of(row, column, is_wanted, share),
//     surplus_of(row, softmax, logit, share), write_surplus(row, softmax, logit, share, slope, e, exact)
//     row.write_if(distance, is_far, slope, e, sum), row.sum_below(limit, e, e, sum)
//
// where the expression e may use `column`, `prediction` and `target`, the share of this column in
// the target (1 or 0 with class indices).  The result has the type of the expression, T or double.
// Those in capitals are a pass over the row at most, those in small letters up to six, and each reads
// what its name says: a row that is too long for the chip is read from the device's memory as often,
// and so a text sums up what does not decide the gradient while it is written.  Every thread of the team runs the text and gets the same
// numbers.  `scales`, `silent` and `gradient` may be null; class indices were checked before.  The
// first `kept` columns fit into the chip's own memory and are read once.

// The largest of some numbers, the lowest column of equals; a NaN is larger than any number.
template <typename Number>
struct Largest {
    Number value;
    long long column;  // -1: of no numbers
};

template <typename Number>
__device__ inline bool is_before(const Largest<Number>& left, const Largest<Number>& right) {
    if (left.column < 0 || right.column < 0) return right.column < 0;
    const bool left_is_nan = left.value != left.value, right_is_nan = right.value != right.value;
    if (left_is_nan != right_is_nan) return left_is_nan;
    if (left.value > right.value) return true;
    if (left.value < right.value) return false;
    return left.column < right.column;
}

// The same for two numbers, in few instructions, for every element; equal numbers are not above
// each other.
template <typename Number>
__device__ inline bool is_above(Number number, Number other) {
    return !(number <= other) && other == other;
}

// Whether the number of a later column becomes the largest.
template <typename Number>
__device__ inline bool is_beaten(const Largest<Number>& best, Number number) {
    return best.column < 0 || is_above(number, best.value);
}

template <typename Number>
__device__ inline Largest<Number> exchanged(
    const Largest<Number>& own, int distance, unsigned lanes) {
    return {exchanged(own.value, distance, lanes), __shfl_xor_sync(lanes, own.column, distance)};
}

struct First {
    template <typename Number>
    __device__ Largest<Number> operator()(
        const Largest<Number>& left, const Largest<Number>& right) const {
        // Selects numbers, not structures, which the compiler would move to memory.
        const bool is_right = is_before(right, left);
        return {is_right ? right.value : left.value, is_right ? right.column : left.column};
    }
};

// The largest of some numbers, and the sum of the exponentials of the others minus it.
template <typename Number>
struct Peak {
    Largest<Number> best;
    Number rest;
};

template <typename Number>
__device__ inline Peak<Number> exchanged(const Peak<Number>& own, int distance, unsigned lanes) {
    return {exchanged(own.best, distance, lanes), exchanged(own.rest, distance, lanes)};
}

// The exponential of a peak minus a higher one: 0 if it is -inf, whatever the higher one is.
template <typename Number>
__device__ inline Number share_of(Largest<Number> best, Number rest, Number higher) {
    if (best.column < 0 || best.value < -LARGEST<Number>) return Number(0);
    return (1 + rest) * exp(best.value - higher);
}

struct Higher {
    template <typename Number>
    __device__ Peak<Number> operator()(const Peak<Number>& left, const Peak<Number>& right) const {
        const bool is_right = is_before(right.best, left.best);
        const Number highest = is_right ? right.best.value : left.best.value;
        const long long column = is_right ? right.best.column : left.best.column;
        const Largest<Number> lower{is_right ? left.best.value : right.best.value,
                                    is_right ? left.best.column : right.best.column};
        const Number rest = is_right ? right.rest : left.rest;
        return {{highest, column},
                rest + share_of(lower, is_right ? left.rest : right.rest, highest)};
    }
};

// The type of the numbers that are computed for a column.
template <typename Term>
using NumberOf = decltype(((Term*)0)->operator()(0LL, T(0), T(0)));

template <typename One, typename Other>
struct Two {
    One first;
    Other second;
};

// Whether the step of a pass that computes such numbers is repeated for each column of a pack.  Of the
// longest texts, steps in double would take the compiler seconds, and more registers than there are.
template <typename Number>
constexpr bool IS_UNROLLED = IS_SHORT || sizeof(Number) == sizeof(float);

// The inputs that a pass over a row reads; what it does not read is 0.
constexpr int OF_PREDICTIONS = 1, OF_TARGETS = 2, OF_BOTH = OF_PREDICTIONS | OF_TARGETS;

// One example: the inputs of its row, and where its gradient is written.
struct Row {
    Source<FIRST> predictions;
    Source<SECOND> shares;  // the target distribution, of nothing where the target is a class
    long long label;
    long long columns;
    FIRST* gradient;
    T scale;
    mutable T taint = 0;
    mutable bool outside = false;

    // Looks whether a prediction and a target are within their domains.
    __device__ void look_at(T prediction, T target) const {
        if (!CHECKS) return;
        outside |= first_is_outside(prediction) || (!TARGETS_ARE_CLASSES && second_is_outside(target));
    }

    // Keeps the first columns on the chip.
    __device__ void keep(long long wanted) {
        predictions.keep(wanted, 0);
#if !TARGETS_ARE_CLASSES
        shares.keep(wanted, WIDTH * sizeof(FIRST));
#endif
    }

    __device__ T prediction_at(long long column) const { return widened(predictions.items[column]); }
    __device__ T share_at(long long column) const { return widened(shares.items[column]); }

    // The target of any column, of one of this thread, and those of a pack of its own.
    __device__ T target_at(long long column) const {
        return TARGETS_ARE_CLASSES ? T(column == label) : share_at(column);
    }
    __device__ T own_target(long long column) const {
        return TARGETS_ARE_CLASSES ? T(column == label) : shares.own(column);
    }
    __device__ Pack own_targets(long long start, long long left) const {
#if TARGETS_ARE_CLASSES
        Pack found;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) found.items[i] = T(start + i == label);
        return found;
#else
        return shares.own_pack(start, left);
#endif
    }

    // Calls visit(column, prediction, target) for every column of this thread, one after the other.
    template <int READS = OF_BOTH, bool UNROLLED = true, typename Visit>
    __device__ void each(Visit visit) const {
        if constexpr (UNROLLED) return each_in_packs<READS>(visit);
        const long long first = (long long)threadIdx.x * WIDTH;
#pragma unroll 1
        for (long long column = first; column < columns; column = own_after(column))
            visit(column, READS & OF_PREDICTIONS ? predictions.own(column) : T(0),
                  READS & OF_TARGETS ? own_target(column) : T(0));
    }

    // The next column of this thread: of the same pack, or of the one after those of all others.
    __device__ static long long own_after(long long column) {
        return ++column % WIDTH ? column : column + (long long)(blockDim.x - 1) * WIDTH;
    }

    template <int READS, typename Visit>
    __device__ void each_in_packs(Visit visit) const {
        each_pack(columns, [&](long long start, long long left) {
            Pack prediction{}, target{};
            if (READS & OF_PREDICTIONS) prediction = predictions.own_pack(start, left);
            if (READS & OF_TARGETS) target = own_targets(start, left);
            const int count = elements_of(left);
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                if (i >= count) break;
                visit(start + i, prediction.items[i], target.items[i]);
            }
        });
    }

    // Calls visit(start, elements, predictions) for every pack of this thread.
    template <typename Visit>
    __device__ void each_of_packs(Visit visit) const {
        each_pack(columns, [&](long long start, long long left) {
            const Pack prediction = predictions.own_pack(start, left);
            if (left >= WIDTH)
                visit(start, All{}, prediction);
            else
                visit(start, Some{int(left)}, prediction);
        });
    }

    // What a thread adds up is a double: its error does not grow with the row, and a row may add up
    // to more than T holds on the way.
    template <int READS = OF_BOTH, typename Term>
    __device__ NumberOf<Term> sum(Term term) const {
        double own = 0;
        each<READS, IS_UNROLLED<NumberOf<Term>>>([&](long long column, T prediction, T target) {
            own += term(column, prediction, target);
        });
        return NumberOf<Term>(sum_over_team(own));
    }

    // Two sums in one pass, with the bits that they have in passes of their own.
    template <int READS = OF_BOTH, typename Term, typename Other>
    __device__ Two<NumberOf<Term>, NumberOf<Other>> sums(Term term, Other other) const {
        Two<double, double> own{0, 0};
        each<READS, IS_UNROLLED<NumberOf<Other>>>([&](long long column, T prediction, T target) {
            own.first += term(column, prediction, target);
            own.second += other(column, prediction, target);
        });
        return {NumberOf<Term>(sum_over_team(own.first)), NumberOf<Other>(sum_over_team(own.second))};
    }

    // The largest of all columns except one.
    template <typename Term>
    __device__ Largest<NumberOf<Term>> largest(Term term, long long excluded = -1) const {
        Largest<NumberOf<Term>> own{0, -1};
        each<OF_BOTH, IS_UNROLLED<NumberOf<Term>>>([&](long long column, T prediction, T target) {
            if (column == excluded) return;
            const NumberOf<Term> number = term(column, prediction, target);
            if (is_beaten(own, number)) own = {number, column};
        });
        return over_team(own, First{});
    }

    // The sum of a term where the largest of another is below a limit, in one pass; returns
    // whether it is.
    template <typename Other, typename Term>
    __device__ bool sum_below(double limit, Other other, Term term, double& sum) const {
        Largest<NumberOf<Other>> own{0, -1};
        double part = 0;
        each<OF_BOTH, IS_SHORT>([&](long long column, T prediction, T target) {
            const NumberOf<Other> number = other(column, prediction, target);
            if (is_beaten(own, number)) own = {number, column};
            part += term(column, prediction, target);
        });
        sum = sum_over_team(part);
        return over_team(own, First{}).value < limit;
    }

    // The largest and the sum of the others' exponentials, in one pass.
    template <int READS, typename Logit>
    __device__ Peak<NumberOf<Logit>> peak(Logit logit) const {
        using Number = NumberOf<Logit>;
        Peak<Number> own{{0, -1}, 0};
        constexpr bool unrolled = IS_UNROLLED<Number>;
        if constexpr (unrolled && READS == OF_PREDICTIONS && sizeof(Number) == sizeof(T))
            add_packs(own, logit);
        else
            each<READS, unrolled>([&](long long column, T prediction, T target) {
                const Number number = logit(column, prediction, target);
                if (is_beaten(own.best, number))
                    own = {{number, column}, share_of(own.best, own.rest, number)};
                else if (own.best.value >= -LARGEST<Number> || number != number)
                    own.rest += exp(number - own.best.value);
            });
        return over_team(own, Higher{});
    }

    template <typename Number, typename Logit>
    __device__ void add_packs(Peak<Number>& own, Logit logit) const {
        each_of_packs([&](long long start, auto elements, const Pack& prediction) {
            Number logits[WIDTH];
            Number top = own.best.value;
            const bool is_first = own.best.column < 0;
            int place = -1;  // of the largest so far, if it is here
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                if (!elements.has(i)) break;
                logits[i] = logit(start + i, prediction.items[i], T(0));
                if (is_above(logits[i], top) || (i == 0 && is_first)) {
                    top = logits[i];
                    place = i;
                }
            }
            if (place >= 0) own = {{top, start + place}, share_of(own.best, own.rest, top)};
            // While all numbers are -inf, the differences would be NaN.
            const Number base = top < -LARGEST<Number> ? Number(0) : top;
#pragma unroll
            for (int i = 0; i < WIDTH; ++i)
                if (elements.has(i) && i != place) own.rest += exp(logits[i] - base);
        });
    }

    // Writes the gradient, in place of what was written before.
    template <typename Slope>
    __device__ void write(Slope slope) const {
        write_as<IS_UNROLLED<NumberOf<Slope>>>(slope);
    }
    template <bool UNROLLED, typename Slope>
    __device__ void write_as(Slope slope) const {
        if (gradient) return write_each<UNROLLED>(slope, [](long long, T, T) {});
        if (CHECKS) each([&](long long, T prediction, T target) { look_at(prediction, target); });
    }

    // Writes the gradient and returns the sum of a term, in one pass.
    template <typename Slope, typename Term>
    __device__ NumberOf<Term> write_and_sum(Slope slope, Term term) const {
        double own = 0;
        write_each<IS_UNROLLED<NumberOf<Slope>>>(slope, [&](long long column, T prediction, T target) {
            own += term(column, prediction, target);
        });
        return NumberOf<Term>(sum_over_team(own));
    }

    // The same with two sums.
    template <typename Slope, typename Term, typename Other>
    __device__ Two<NumberOf<Term>, NumberOf<Other>> write_and_sums(
        Slope slope, Term term, Other other) const {
        Two<double, double> own{0, 0};
        write_each<IS_UNROLLED<NumberOf<Slope>>>(slope, [&](long long column, T prediction, T target) {
            own.first += term(column, prediction, target);
            own.second += other(column, prediction, target);
        });
        return {NumberOf<Term>(sum_over_team(own.first)), NumberOf<Other>(sum_over_team(own.second))};
    }

    // Writes slope(column, prediction, distance) and sums up a term; returns what `is_far` says of the
    // sum of the distances.  Where it is not far, the gradient is to be written again.
    template <typename Distance, typename IsFar, typename Slope, typename Term>
    __device__ bool write_if(
        Distance distance, IsFar is_far, Slope slope, Term term, NumberOf<Term>& sum) const {
        double apart = 0, own = 0;
        NumberOf<Distance> away;
        write_each<IS_UNROLLED<NumberOf<Distance>>>(
            [&](long long column, T prediction, T) { return slope(column, prediction, away); },
            [&](long long column, T prediction, T target) {
                away = distance(column, prediction, target);
                apart += fabs(away);
                own += term(column, prediction, target);
            });
        sum = NumberOf<Term>(sum_over_team(own));
        return is_far(NumberOf<Distance>(sum_over_team(apart)));
    }

    // Calls visit(column, prediction, target) for every column, and writes the slope there.
    template <bool UNROLLED, typename Slope, typename Visit>
    __device__ void write_each(Slope slope, Visit visit) const {
        taint = 0;
        if constexpr (UNROLLED)
            return write_packs(slope, visit);
        each<OF_BOTH, false>([&](long long column, T prediction, T target) {
            visit(column, prediction, target);
            look_at(prediction, target);
            if (gradient) gradient[column] = sent_of(slope(column, prediction, target));
        });
    }

    __device__ FIRST sent_of(T slope) const { return sent(weighed(scale, slope), taint); }

    template <typename Slope, typename Visit>
    __device__ void write_packs(Slope slope, Visit visit) const {
        each_pack(columns, [&](long long start, long long left) {
            const Pack prediction = predictions.own_pack(start, left);
            const Pack target = own_targets(start, left);
            Stored<FIRST> slopes{};
            const int count = elements_of(left);
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                if (i >= count) break;
                visit(start + i, prediction.items[i], target.items[i]);
                look_at(prediction.items[i], target.items[i]);
                if (gradient)
                    slopes.items[i] = sent_of(slope(start + i, prediction.items[i], target.items[i]));
            }
            if (gradient) store(gradient + start, slopes, left);
        });
    }
};

// Calls use(logit, common) with the logits of a row as a softmax takes them: divided by a
// temperature and, where there are priors of the classes, with strength * log(prior / their sum)
// added.  With priors they are doubles: a distance of 80 rounded to float is off by 4e-6.  Large
// logits would swallow the priors, and priors of a large strength the logits, so the `common` part
// of both is left out.  Most requests have neither: a kernel that knows so takes fewer registers.
template <typename Use>
__device__ inline void with_logits(
    const Row& row, double temperature, Weights priors, double strength, Use use) {
#if HAS_PLAIN_LOGITS
    use([](long long, T prediction) { return prediction; }, T(0));
#else
    const double largest = row.largest([](long long, T prediction, T) { return prediction; }).value;
    const double common = largest - largest == 0 ? largest : 0;
    double likeliest = 1, total = 1;
    if (priors.items) {
        likeliest = row.largest([&](long long column, T, T) { return priors[column]; }).value;
        total = row.sum<0>([&](long long column, T, T) { return double(priors[column]); });
    }
    use(
        [&](long long column, T prediction) {
            const double scaled = (double(prediction) - common) / temperature;
            return priors.items ? scaled + strength * log(priors[column] / likeliest) : scaled;
        },
        common / temperature + strength * log(likeliest / total));
#endif
}

// The softmax of a row in parts that keep full relative accuracy, see losses/_maths/softmax.py.
template <typename Number>
struct Softmax {
    Largest<Number> best;
    Number rest;   // sum of the exponentials without that of the best, which is 1
    Number total;  // with it

    __device__ Number exponential(long long column, Number logit) const {
        return column == best.column ? Number(1) : exp(logit - best.value);
    }
    __device__ Number log_sum_exp() const { return best.value + log1p(rest); }
    // -log p of a class.
    __device__ Number negative_log(long long column, Number logit) const {
        return (column == best.column ? Number(0) : best.value - logit) + log1p(rest);
    }
    // (1 - p) times the total, of a class.
    __device__ Number others(long long column, Number logit) const {
        return column == best.column ? rest : 1 + (rest - exponential(column, logit));
    }
};

template <int READS, typename Logit>
__device__ inline Softmax<NumberOf<Logit>> softmax_of(const Row& row, Logit logit) {
    using Number = NumberOf<Logit>;
    const Peak<Number> peak = row.peak<READS>(logit);
    const Number best = peak.best.value;
    // A row with a NaN and a row of only -inf have no softmax, even with a single class: the
    // largest minus itself is NaN.
    const Number sum = best > 0 ? peak.rest : peak.rest + (best - best);
    return Softmax<Number>{peak.best, sum, 1 + sum};
}

// Two distributions are near if they differ by less than this part of one of them.
constexpr double NEAR = 0.5;

// sum(s) p - s of a row, the derivative of -sum(s log p) with respect to the logits.  A row whose p
// and s are nearly uniform is computed once more, in double: see losses/_maths/softmax.py.
template <typename Number>
struct Surplus {
    Softmax<Number> softmax;
    Number mass, others;
    bool is_near;
    double count, exact_mass, share_of_best, apart, lacking, at_best;

    __device__ Number plain(long long column, Number logit, Number share) const {
        return column == softmax.best.column && softmax.rest < 1
            ? others - mass * (softmax.rest / softmax.total)
            : mass / softmax.total * softmax.exponential(column, logit) - share;
    }
    __device__ double below(long long column, Number logit) const {
        return column == softmax.best.column ? 0 : double(logit) - double(softmax.best.value);
    }
    __device__ double exact(long long column, Number logit, double share) const {
        return exact_mass * (exp(below(column, logit)) / (count + lacking)) - share;
    }
    __device__ Number operator()(long long column, Number logit, Number share) const {
        return is_near ? near(column, logit, share) : plain(column, logit, share);
    }
    __device__ Number near(long long column, Number logit, double share) const {
        const double of_best = -count * (share - share_of_best);
        const double grown = exact_mass * expm1(below(column, logit)), lost = -share * lacking;
        const double size = fabs(apart) + fabs(of_best) + fabs(grown) + fabs(lost);
        if (size < share * (count + lacking))
            return (apart + of_best + grown + lost) / (count + lacking);
        return column == softmax.best.column ? at_best : exact(column, logit, share);
    }
};

// The sum of the shares of targets, and that of all but one.
template <typename Share>
__device__ inline Two<double, T> masses_of(const Row& row, long long but, bool, Share share) {
    return row.sums<OF_TARGETS>(
        [&](long long, T, T target) { return double(share(target)); },
        [&](long long column, T, T target) { return column == but ? T(0) : share(target); });
}

template <int READS, typename Number, typename Share>
__device__ inline Surplus<Number> plain_surplus(
    const Row& row, const Softmax<Number>& softmax, Share share) {
    const long long best = softmax.best.column;
    const auto masses = row.sums<READS>(
        [&](long long column, T prediction, T target) {
            return Number(share(column, prediction, target));
        },
        [&](long long column, T prediction, T target) {
            return column == best ? Number(0) : Number(share(column, prediction, target));
        });
    return {softmax, masses.first, masses.second, false, 0, 0, 0, 0, 0, 0};
}

// Makes it exact if the row's shares are nearly uniform, as p is; returns whether they are.
template <int READS, typename Number, typename Logit, typename Share>
__device__ inline bool make_exact(const Row& row, Surplus<Number>& found, Logit logit, Share share) {
    const long long best = found.softmax.best.column;
    found.count = row.columns;
    found.share_of_best = share(best, row.prediction_at(best), row.target_at(best));
    // They are further apart than their sum is from what it would be; most rows are known by that.
    if (fabs(found.mass - found.count * found.share_of_best) > 1.5 * NEAR * found.mass) return false;
    double mass = 0, apart = 0, spread = 0;
    row.each<READS, IS_SHORT>([&](long long column, T prediction, T target) {
        const double own = share(column, prediction, target), more = own - found.share_of_best;
        mass += own;
        apart += more;
        spread += fabs(more);
    });
    found.exact_mass = sum_over_team(mass);
    found.apart = sum_over_team(apart);
    if (!(sum_over_team(spread) < NEAR * found.exact_mass)) return false;
    found.lacking = row.sum<OF_PREDICTIONS>([&](long long column, T prediction, T target) {
        return expm1(found.below(column, logit(column, prediction, target)));
    });
    found.at_best = -row.sum([&](long long column, T prediction, T target) {
        return column == best ? 0.0
                              : found.exact(column, logit(column, prediction, target),
                                            share(column, prediction, target));
    });
    found.is_near = true;
    return true;
}

template <int READS, typename Number, typename Logit, typename Share>
__device__ inline Surplus<Number> surplus_of(
    const Row& row, const Softmax<Number>& softmax, Logit logit, Share share) {
    Surplus<Number> found = plain_surplus<READS>(row, softmax, share);
    const Number distance = row.sum([&](long long column, T prediction, T target) {
        return fabs(found.plain(column, logit(column, prediction, target),
                                share(column, prediction, target)));
    });
    if (distance < Number(NEAR) * found.mass) make_exact<READS>(row, found, logit, share);
    return found;
}

// Writes slope(column, prediction, surplus) and returns the sum of a term, in one pass unless the
// surplus has to be exact: then it is of the exact shares, which are in double.
template <int READS, typename Number, typename Logit, typename Share, typename Slope, typename Term,
          typename Exact>
__device__ inline NumberOf<Term> write_surplus(
    const Row& row, const Softmax<Number>& softmax, Logit logit, Share share, Slope slope, Term term,
    Exact exact) {
    if (!row.gradient)
        return row.write_and_sum([](long long, T, T) { return T(0); }, term);
    Surplus<Number> found = plain_surplus<READS>(row, softmax, share);
    const auto plain = [&](long long column, T prediction, T target) {
        return found.plain(column, logit(column, prediction, target),
                           share(column, prediction, target));
    };
    NumberOf<Term> sum;
    const bool is_far = row.write_if(
        plain, [&](Number distance) { return !(distance < Number(NEAR) * found.mass); }, slope, term,
        sum);
    if (is_far || !make_exact<READS>(row, found, logit, exact)) return sum;
    row.template write_as<IS_SHORT>([&](long long column, T prediction, T target) {
        return slope(column, prediction,
                     found.near(column, logit(column, prediction, target),
                                exact(column, prediction, target)));
    });
    return sum;
}

template <int READS, typename Number, typename Logit, typename Share, typename Slope, typename Term>
__device__ inline NumberOf<Term> write_surplus(
    const Row& row, const Softmax<Number>& softmax, Logit logit, Share share, Slope slope, Term term) {
    return write_surplus<READS>(row, softmax, logit, share, slope, term, share);
}

#define AT_COLUMN(...) [&](long long column, T prediction, T target) { return __VA_ARGS__; }
#define AT_PREDICTION(...) [&](long long column, T prediction, T) { return __VA_ARGS__; }
#define AT_TARGET(...) [&](long long column, T, T target) { return __VA_ARGS__; }
#define PREDICTION_AT(column) row.prediction_at(column)
#define TARGET_AT(column) row.share_at(column)
#define KEPT_OF_ROW(...) AT_COLUMN(__VA_ARGS__)
#define SUM_OVER_ROW(...) row.sum(AT_COLUMN(__VA_ARGS__))
#define SUM_OVER_TARGETS(...) row.sum<OF_TARGETS>(AT_TARGET(__VA_ARGS__))
#define SUMS_OVER_ROW(one, other) row.sums(AT_COLUMN(one), AT_COLUMN(other))
#define LARGEST_OF_ROW(...) row.largest(AT_COLUMN(__VA_ARGS__))
#define LARGEST_BUT(excluded, ...) row.largest(AT_COLUMN(__VA_ARGS__), excluded)
#define SOFTMAX_OF_ROW(...) softmax_of<OF_PREDICTIONS>(row, AT_PREDICTION(__VA_ARGS__))
#define SOFTMAX_FROM(column, ...) (void(column), SOFTMAX_OF_ROW(__VA_ARGS__))
#define SOFTMAX_OF_TARGETS(...) softmax_of<OF_TARGETS>(row, AT_TARGET(__VA_ARGS__))
#define GRADIENT_OF_ROW(...) row.write(AT_COLUMN(__VA_ARGS__))
#define GRADIENT_BUT(place, own, ...) \
    GRADIENT_OF_ROW(pick(column == (place), T(own), T(__VA_ARGS__)))
#define GRADIENT_AT(place, slope) GRADIENT_OF_ROW(column == (place) ? (slope) : T(0))
#define GRADIENT_AND_SUM(slope, ...) row.write_and_sum(AT_COLUMN(slope), AT_COLUMN(__VA_ARGS__))
#define GRADIENT_AND_SUMS(slope, one, other) \
    row.write_and_sums(AT_COLUMN(slope), AT_COLUMN(one), AT_COLUMN(other))

__device__ void evaluate(
    const Row& row, const long long columns, const long long label, T& value PARAMETERS);

extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1) ROWS_KERNEL(
    const long long rows, const long long columns, const FIRST* predictions, const TARGET* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values, FIRST* gradient,
    unsigned char* nonfinite, const long long kept PARAMETERS) {
    each_row(rows, [&](long long number) {
        const long long offset = number * columns;
        const Results results{values + number, gradient ? gradient + offset : nullptr,
                              nonfinite + number};
        if (silent && silent[number]) return results.silence(columns);
#if TARGETS_ARE_CLASSES
        const SECOND* const shares = nullptr;
        const long long label = targets[number];
#else
        const SECOND* const shares = targets + offset;
        const long long label = -1;
#endif
        Row row{{predictions + offset}, {shares}, label, columns, results.gradient,
                scales ? scales[number] : scale};
        row.keep(kept);
        T value;
        evaluate(row, columns, label, value ARGUMENTS);
        results.write(value, row.taint, row.outside);
    });
}
