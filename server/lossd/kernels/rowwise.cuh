// The kernel of the losses whose example is a row of classes, with a team of threads for each row.
// The text of a loss is the body of evaluate(): it sets `value` and, with GRADIENT_OF_ROW, the
// gradient, from
//
//     columns                the number of classes
//     label                  the row's class index, where targets are class indices
//     the loss's parameters  of which a vector has one number a column
//     PREDICTION_AT(column), TARGET_AT(column), the latter where targets are no class indices
//     KEPT_OF_ROW(e)         what e comes to, to be asked for as f(column, prediction, target)
//     SUM_OVER_ROW(e), LARGEST_OF_ROW(e), LARGEST_BUT(column, e), SOFTMAX_OF_ROW(e)
//     with_logits(row, temperature, priors, strength, use), surplus_of(row, softmax, logit, share)
//
// where the expression e may use `column`, `prediction` and `target`, the share of this column in
// the target (1 or 0 with class indices).  The result has the type of the expression, T or double.
// Every thread of the team runs the text and gets the same numbers.  `scales`, `silent` and
// `gradient` may be null; class indices were checked before.  With `keeps` a row fits into the
// chip's own memory and is read once.

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

template <typename Number>
struct Two {
    Number first, second;
};

// A row in the chip's own memory, if it fits, in the type in which it is stored.  No thread reads
// what another one wrote there.
struct alignas(16) Chunk {
    unsigned words[4];
};
extern __shared__ Chunk on_chip[];

// A thread owns packs of columns if the text is short enough to be repeated for each of their
// columns, and else single columns at a fixed distance.
constexpr int RUN = TAKES_PACKS ? WIDTH : 1;

// One example: the inputs of its row, and where its gradient is written.
struct Row {
    const FIRST* predictions;
    const SECOND* shares;  // the target distribution, null where the target is a class
    long long label;
    long long columns;
    FIRST* gradient;
    T scale;
    // The row in the chip's own memory, null if it is too long.
    FIRST* kept_predictions = nullptr;
    SECOND* kept_shares = nullptr;
    mutable T taint = 0;
    mutable bool outside = false;

    // Looks whether a prediction and a target are within their domains.
    __device__ void look_at(T prediction, T target) const {
        if (!CHECKS) return;
        outside |= first_is_outside(prediction) || (!TARGETS_ARE_CLASSES && second_is_outside(target));
    }

    // Copies the row into the chip's own memory, so that it is read once.
    __device__ void keep() {
        const long long packs = (columns + WIDTH - 1) / WIDTH;
        kept_predictions = reinterpret_cast<FIRST*>(on_chip) + threadIdx.y * packs * WIDTH;
        copy(kept_predictions, predictions);
#if !TARGETS_ARE_CLASSES
        kept_shares =
            reinterpret_cast<SECOND*>(on_chip + blockDim.y * packs) + threadIdx.y * packs * WIDTH;
        copy(kept_shares, shares);
#endif
    }

    template <typename S>
    __device__ void copy(S* kept, const S* source) const {
        const long long stride = (long long)blockDim.x * RUN;
#pragma unroll 4
        for (long long start = (long long)threadIdx.x * RUN; start < columns; start += stride) {
            if (TAKES_PACKS)
                *reinterpret_cast<Stored<S>*>(kept + start) =
                    load_stored(source + start, columns - start);
            else
                kept[start] = source[start];
        }
    }

    __device__ T prediction_at(long long column) const { return widened(predictions[column]); }
    __device__ T share_at(long long column) const { return widened(shares[column]); }

    // The prediction and the target of a column of this thread.
    __device__ T own_prediction(long long column) const {
        return kept_predictions ? widened(kept_predictions[column]) : prediction_at(column);
    }
    __device__ T own_target(long long column) const {
#if TARGETS_ARE_CLASSES
        return column == label ? T(1) : T(0);
#else
        return kept_shares ? widened(kept_shares[column]) : share_at(column);
#endif
    }
    __device__ Pack own_pack(long long start, long long left) const {
        if (!kept_predictions) return load(predictions + start, left);
        return widened(*reinterpret_cast<const Stored<FIRST>*>(kept_predictions + start));
    }

    // Calls visit(column, prediction, target) for every column of this thread, one after the other.
    template <typename Visit>
    __device__ void each(Visit visit) const {
        const long long stride = (long long)blockDim.x * RUN;
        for (long long start = (long long)threadIdx.x * RUN; start < columns; start += stride)
#pragma unroll 1
            for (long long column = start; column < start + RUN && column < columns; ++column)
                visit(column, own_prediction(column), own_target(column));
    }

    // Calls visit(start, elements, predictions) for every pack of this thread.
    template <typename Visit>
    __device__ void each_of_packs(Visit visit) const {
        each_pack(columns, [&](long long start, long long left) {
            const Pack prediction = own_pack(start, left);
            if (left >= WIDTH)
                visit(start, All{}, prediction);
            else
                visit(start, Some{int(left)}, prediction);
        });
    }

    template <typename Term>
    __device__ NumberOf<Term> sum(Term term) const {
        NumberOf<Term> own = 0;
        each([&](long long column, T prediction, T target) {
            own += term(column, prediction, target);
        });
        return sum_over_team(own);
    }

    // Two sums in one pass, with the bits that they have in passes of their own.
    template <typename Term, typename Other>
    __device__ Two<NumberOf<Term>> sums(Term term, Other other) const {
        Two<NumberOf<Term>> own{0, 0};
        each([&](long long column, T prediction, T target) {
            own.first += term(column, prediction, target);
            own.second += other(column, prediction, target);
        });
        return {sum_over_team(own.first), sum_over_team(own.second)};
    }

    // The largest of all columns except one.
    template <typename Term>
    __device__ Largest<NumberOf<Term>> largest(Term term, long long excluded = -1) const {
        Largest<NumberOf<Term>> own{0, -1};
        each([&](long long column, T prediction, T target) {
            if (column == excluded) return;
            const NumberOf<Term> number = term(column, prediction, target);
            if (is_beaten(own, number)) own = {number, column};
        });
        return over_team(own, First{});
    }

    // The largest and the sum of the others' exponentials, in one pass.
    template <typename Logit>
    __device__ Peak<NumberOf<Logit>> peak(Logit logit) const {
        using Number = NumberOf<Logit>;
        Peak<Number> own{{0, -1}, 0};
        if constexpr (TAKES_PACKS && sizeof(Number) == sizeof(T))
            add_packs(own, logit);
        else
            each([&](long long column, T prediction, T target) {
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
                logits[i] = logit(start + i, prediction.items[i], own_target(start + i));
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

    template <typename Slope>
    __device__ void write(Slope slope) const {
        if (!gradient) {
            if (CHECKS) each([&](long long, T prediction, T target) { look_at(prediction, target); });
            return;
        }
        if constexpr (TAKES_PACKS && sizeof(NumberOf<Slope>) == sizeof(T))
            write_packs(slope);
        else
            each([&](long long column, T prediction, T target) {
                look_at(prediction, target);
                const T found = slope(column, prediction, target);
                gradient[column] = sent(weighed(scale, found), taint);
            });
    }

    template <typename Slope>
    __device__ void write_packs(Slope slope) const {
        each_of_packs([&](long long start, auto elements, const Pack& prediction) {
            Stored<FIRST> slopes{};
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                if (!elements.has(i)) break;
                const T target = own_target(start + i);
                look_at(prediction.items[i], target);
                const T found = slope(start + i, prediction.items[i], target);
                slopes.items[i] = sent(weighed(scale, found), taint);
            }
            store(gradient + start, slopes, columns - start);
        });
    }
};

// Calls use(logit, common) with the logits of a row as a softmax takes them: divided by a
// temperature and, where there are priors of the classes, with strength * log(prior / their sum)
// added.  With priors they are doubles: a distance of 80 rounded to float is off by 4e-6.  Large
// logits would swallow the priors, so their `common` part is subtracted first.
template <typename Use>
__device__ inline void with_logits(
    const Row& row, double temperature, Weights priors, double strength, Use use) {
    if (temperature == 1 && !priors.items) {
        use([](long long, T prediction) { return prediction; }, T(0));
        return;
    }
    const double largest = row.largest([](long long, T prediction, T) { return prediction; }).value;
    const double common = largest - largest == 0 ? largest : 0;
    const double total = !priors.items ? 1 : row.sum([&](long long column, T, T) {
        return double(priors[column]);
    });
    use(
        [&](long long column, T prediction) {
            const double scaled = (double(prediction) - common) / temperature;
            return priors.items ? scaled + strength * log(priors[column] / total) : scaled;
        },
        common / temperature);
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

template <typename Logit>
__device__ inline Softmax<NumberOf<Logit>> softmax_of(const Row& row, Logit logit) {
    using Number = NumberOf<Logit>;
    const Peak<Number> peak = row.peak(logit);
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
        if (!is_near) return plain(column, logit, share);
        const double of_best = -count * (share - share_of_best);
        const double grown = exact_mass * expm1(below(column, logit)), lost = -share * lacking;
        const double size = fabs(apart) + fabs(of_best) + fabs(grown) + fabs(lost);
        if (size < share * (count + lacking))
            return (apart + of_best + grown + lost) / (count + lacking);
        return column == softmax.best.column ? at_best : exact(column, logit, share);
    }
};

template <typename Number, typename Logit, typename Share>
__device__ inline Surplus<Number> surplus_of(
    const Row& row, const Softmax<Number>& softmax, Logit logit, Share share) {
    Surplus<Number> found{softmax, 0, 0, false, 0, 0, 0, 0, 0, 0};
    const long long best = softmax.best.column;
    const auto masses = row.sums(
        [&](long long column, T prediction, T target) {
            return Number(share(column, prediction, target));
        },
        [&](long long column, T prediction, T target) {
            return column == best ? Number(0) : Number(share(column, prediction, target));
        });
    found.mass = masses.first;
    found.others = masses.second;
    const Number distance = row.sum([&](long long column, T prediction, T target) {
        return fabs(found.plain(column, logit(column, prediction, target),
                                share(column, prediction, target)));
    });
    if (!(distance < Number(NEAR) * found.mass)) return found;
    found.count = row.columns;
    const auto exact = row.sums(
        [&](long long column, T prediction, T target) {
            return double(share(column, prediction, target));
        },
        [&](long long column, T prediction, T target) {
            return column == best ? double(share(column, prediction, target)) : 0.0;
        });
    found.exact_mass = exact.first;
    found.share_of_best = exact.second;
    const auto distances = row.sums(
        [&](long long column, T prediction, T target) {
            return share(column, prediction, target) - found.share_of_best;
        },
        [&](long long column, T prediction, T target) {
            return fabs(share(column, prediction, target) - found.share_of_best);
        });
    found.apart = distances.first;
    if (!(distances.second < NEAR * found.exact_mass)) return found;
    found.lacking = row.sum([&](long long column, T prediction, T target) {
        return expm1(found.below(column, logit(column, prediction, target)));
    });
    found.at_best = -row.sum([&](long long column, T prediction, T target) {
        return column == best ? 0.0
                              : found.exact(column, logit(column, prediction, target),
                                            share(column, prediction, target));
    });
    found.is_near = true;
    return found;
}

#define AT_COLUMN(...) [&](long long column, T prediction, T target) { return __VA_ARGS__; }
#define PREDICTION_AT(column) row.prediction_at(column)
#define TARGET_AT(column) row.share_at(column)
#define KEPT_OF_ROW(...) AT_COLUMN(__VA_ARGS__)
#define SUM_OVER_ROW(...) row.sum(AT_COLUMN(__VA_ARGS__))
#define LARGEST_OF_ROW(...) row.largest(AT_COLUMN(__VA_ARGS__))
#define LARGEST_BUT(excluded, ...) row.largest(AT_COLUMN(__VA_ARGS__), excluded)
#define SOFTMAX_OF_ROW(...) softmax_of(row, AT_COLUMN(__VA_ARGS__))
#define GRADIENT_OF_ROW(...) row.write(AT_COLUMN(__VA_ARGS__))

__device__ void evaluate(
    const Row& row, const long long columns, const long long label, T& value PARAMETERS);

extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1) ROWS_KERNEL(
    const long long rows, const long long columns, const FIRST* predictions, const TARGET* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values, FIRST* gradient,
    unsigned char* nonfinite, const long long keeps PARAMETERS) {
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
        Row row{predictions + offset, shares, label, columns, results.gradient,
                scales ? scales[number] : scale};
        if (keeps) row.keep();
        T value;
        evaluate(row, columns, label, value ARGUMENTS);
        results.write(value, row.taint, row.outside);
    });
}
