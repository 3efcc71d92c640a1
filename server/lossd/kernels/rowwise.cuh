// The kernel of the losses whose example is a row of classes, a team of threads a row.  The text of a
// loss is the body of evaluate(): it sets `value` and, with GRADIENT_OF_ROW, the gradient, from
//
//     columns                the number of classes
//     label                  the row's class index, where targets are class indices
//     the loss's parameters  of which a vector has one number a column
//     PREDICTION_AT(column), TARGET_AT(column), the latter where targets are no class indices
//     SUM_OVER_ROW(e), LARGEST_BUT(column, e), SOFTMAX_OF_ROW(e)
//     LOGITS_OF_ROW(temperature, priors, strength)
//
// where the expression e may use `column`, `prediction` and `target`, the share of this column in
// the target (1 or 0 with class indices).  Every thread of the team runs the text and gets the same
// numbers.  `scales`, `silent` and `gradient` may be null; class indices were checked before, but not
// those of silent rows.  With `keeps` a row fits on chip, and is read from memory once.

// The largest of some numbers, the lowest column of equals; a NaN is larger than any number.
struct Largest {
    T value;
    long long column;  // -1: of no numbers
};

__device__ inline bool is_before(const Largest& left, const Largest& right) {
    if (left.column < 0 || right.column < 0) return right.column < 0;
    const bool left_is_nan = left.value != left.value, right_is_nan = right.value != right.value;
    if (left_is_nan != right_is_nan) return left_is_nan;
    if (left.value > right.value) return true;
    if (left.value < right.value) return false;
    return left.column < right.column;
}

// The same where the number is of a column beyond: in few instructions, for every element.
__device__ inline bool is_beaten(const Largest& best, T number) {
    return (!(number <= best.value) && best.value == best.value) || best.column < 0;
}

__device__ inline Largest exchanged(const Largest& own, int distance) {
    return Largest{exchanged(own.value, distance),
                   __shfl_xor_sync(ALL_LANES, own.column, distance)};
}

struct First {
    __device__ Largest operator()(const Largest& left, const Largest& right) const {
        return is_before(right, left) ? right : left;
    }
};

// The largest of some numbers, and the sum of the exponentials of the others less it.
struct Peak {
    Largest best;
    T rest;
};

__device__ inline Peak exchanged(const Peak& own, int distance) {
    return Peak{exchanged(own.best, distance), exchanged(own.rest, distance)};
}

// What a peak is to a higher one: nothing if it is -inf, whatever the higher one is.
__device__ inline T share_of(Largest best, T rest, T higher) {
    if (best.column < 0 || best.value < -LARGEST) return T(0);
    return (1 + rest) * exp(best.value - higher);
}

struct Higher {
    __device__ Peak operator()(const Peak& left, const Peak& right) const {
        // Numbers are chosen, not structures: these would be put into memory for it.
        const bool is_right = is_before(right.best, left.best);
        const T highest = is_right ? right.best.value : left.best.value;
        const long long column = is_right ? right.best.column : left.best.column;
        const Largest lower{is_right ? left.best.value : right.best.value,
                            is_right ? left.best.column : right.best.column};
        const T rest = is_right ? right.rest : left.rest;
        return Peak{{highest, column},
                    rest + share_of(lower, is_right ? left.rest : right.rest, highest)};
    }
};

// A part of a row on chip for each thread: a slot for every pack that it owns, as it is stored.  No
// thread reads what another wrote.
struct alignas(16) Chunk {
    unsigned words[4];
};
extern __shared__ Chunk on_chip[];

// One example: the inputs of its row and where its gradient goes.
struct Row {
    const FIRST* predictions;
    const SECOND* shares;  // the target distribution, null where the target is a class
    long long label;
    long long columns;
    FIRST* gradient;
    T scale;
    Stored<FIRST>* kept_predictions = nullptr;  // on chip, null where a row is too long for it
    Stored<SECOND>* kept_shares = nullptr;
    mutable T taint = 0;

    // Brings the row on chip, so that it is read once.
    __device__ void keep() {
        const long long packs = (columns + WIDTH - 1) / WIDTH;
        kept_predictions = reinterpret_cast<Stored<FIRST>*>(on_chip) + threadIdx.y * packs;
        kept_shares = reinterpret_cast<Stored<SECOND>*>(on_chip + blockDim.y * packs)
                    + threadIdx.y * packs;
#pragma unroll 4
        for (long long pack = threadIdx.x; pack < packs; pack += blockDim.x) {
            const long long start = pack * WIDTH;
            kept_predictions[pack] = load_stored(predictions + start, columns - start);
#if !TARGETS_ARE_CLASSES
            kept_shares[pack] = load_stored(shares + start, columns - start);
#endif
        }
    }

    __device__ T prediction_at(long long column) const { return widened(predictions[column]); }
    __device__ T share_at(long long column) const { return widened(shares[column]); }

    __device__ Pack prediction_pack(long long start, long long left) const {
        if (kept_predictions) return widened(kept_predictions[start / WIDTH]);
        return load(predictions + start, left);
    }

#if TARGETS_ARE_CLASSES
    __device__ Pack targets(long long, long long) const { return Pack{}; }
    __device__ T target(const Pack&, int, long long column) const {
        return column == label ? T(1) : T(0);
    }
#else
    __device__ Pack targets(long long start, long long left) const {
        if (kept_shares) return widened(kept_shares[start / WIDTH]);
        return load(shares + start, left);
    }
    __device__ T target(const Pack& loaded, int i, long long) const { return loaded.items[i]; }
#endif

    // Calls visit(start, count, predictions, targets) for every pack of this thread.
    template <typename Visit>
    __device__ void each_loaded(Visit visit) const {
        each_pack(columns, [&](long long start, long long left) {
            visit(start, elements_of(left), prediction_pack(start, left), targets(start, left));
        });
    }

    // Calls visit(column, prediction, target) for every column of this thread.
    template <typename Visit>
    __device__ void each(Visit visit) const {
        each_loaded([&](long long start, int count, const Pack& prediction, const Pack& loaded) {
#pragma unroll
            for (int i = 0; i < WIDTH; ++i)
                if (i < count)
                    visit(start + i, prediction.items[i], target(loaded, i, start + i));
        });
    }

    template <typename Term>
    __device__ T sum(Term term) const {
        T own = 0;
        each([&](long long column, T prediction, T target) {
            own += term(column, prediction, target);
        });
        return sum_over_team(own);
    }

    // The largest of all columns but one.
    template <typename Term>
    __device__ Largest largest(Term term, long long excluded = -1) const {
        Largest own{T(0), -1};
        each([&](long long column, T prediction, T target) {
            if (column == excluded) return;
            const T number = term(column, prediction, target);
            if (is_beaten(own, number)) own = Largest{number, column};
        });
        return over_team(own, First{});
    }

    // The largest and what the others are to it, in one walk.
    template <typename Logit>
    __device__ Peak peak(Logit logit) const {
        Peak own{{T(0), -1}, T(0)};
        each_loaded([&](long long start, int count, const Pack& prediction, const Pack& loaded) {
            T logits[WIDTH];
            Largest best = own.best;
            int place = -1;  // of the best, if it is here
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                if (i >= count) break;
                logits[i] =
                    logit(start + i, prediction.items[i], target(loaded, i, start + i));
                if (is_beaten(best, logits[i])) {
                    best = Largest{logits[i], start + i};
                    place = i;
                }
            }
            if (place >= 0) own = Peak{best, share_of(own.best, own.rest, best.value)};
            // Of nothing but -inf so far, the differences would be NaN.
            const T base = best.value < -LARGEST ? T(0) : best.value;
#pragma unroll
            for (int i = 0; i < WIDTH; ++i)
                if (i < count && i != place) own.rest += exp(logits[i] - base);
        });
        return over_team(own, Higher{});
    }

    template <typename Slope>
    __device__ void write(Slope slope) const {
        if (!gradient) return;
        each_loaded([&](long long start, int count, const Pack& prediction, const Pack& loaded) {
            Stored<FIRST> slopes{};
#pragma unroll
            for (int i = 0; i < WIDTH; ++i)
                if (i < count)
                    slopes.items[i] = sent(
                        weighed(scale, slope(start + i, prediction.items[i],
                                             target(loaded, i, start + i))),
                        taint);
            store(gradient + start, slopes, columns - start);
        });
    }
};

// The logits of a row as a softmax takes them: divided by a temperature and, where there are priors
// of the classes, with strength * log(prior / their sum) added.  Large logits would swallow that, so
// what they have in `common` is taken off first.
struct Logits {
    T temperature;
    Weights priors;
    T strength;
    T total;
    T common;

    __device__ T operator()(long long column, T prediction) const {
        const T scaled = temperature == 1 ? prediction : prediction / temperature;
        if (!priors.items) return scaled;
        return (scaled - common) + strength * log(priors[column] / total);
    }
};

__device__ inline Logits logits_of(const Row& row, T temperature, Weights priors, T strength) {
    if (!priors.items) return Logits{temperature, priors, strength, T(1), T(0)};
    const T total = row.sum([&](long long column, T, T) { return priors[column]; });
    const T largest =
        row.largest([](long long, T prediction, T) { return prediction; }).value / temperature;
    const bool is_finite = largest - largest == 0;
    return Logits{temperature, priors, strength, total, is_finite ? largest : T(0)};
}

// The softmax of a row in the parts that keep full relative accuracy, see losses/_softmax.py.
struct Softmax {
    Largest best;
    T rest;   // sum of the exponentials without that of the best, which is 1
    T total;  // with it

    __device__ T exponential(long long column, T logit) const {
        return column == best.column ? T(1) : exp(logit - best.value);
    }
    __device__ T log_sum_exp() const { return best.value + log1p(rest); }
    // -log p of a class.
    __device__ T negative_log(long long column, T logit) const {
        return (column == best.column ? T(0) : best.value - logit) + log1p(rest);
    }
    // (1 - p) times the total, of a class.
    __device__ T others(long long column, T logit) const {
        return column == best.column ? rest : 1 + (rest - exponential(column, logit));
    }
};

template <typename Logit>
__device__ inline Softmax softmax_of(const Row& row, Logit logit) {
    const Peak peak = row.peak(logit);
    const T best = peak.best.value;
    // A NaN and a row of nothing but -inf have no softmax, also where there is but one class: their
    // difference with themselves is NaN.
    const T sum = best > 0 ? peak.rest : peak.rest + (best - best);
    return Softmax{peak.best, sum, 1 + sum};
}

#define AT_COLUMN(...) [&](long long column, T prediction, T target) -> T { return __VA_ARGS__; }
#define PREDICTION_AT(column) row.prediction_at(column)
#define TARGET_AT(column) row.share_at(column)
#define SUM_OVER_ROW(...) row.sum(AT_COLUMN(__VA_ARGS__))
#define LARGEST_BUT(excluded, ...) row.largest(AT_COLUMN(__VA_ARGS__), excluded)
#define LOGITS_OF_ROW(...) logits_of(row, __VA_ARGS__)
#define SOFTMAX_OF_ROW(...) softmax_of(row, AT_COLUMN(__VA_ARGS__))
#define GRADIENT_OF_ROW(...) row.write(AT_COLUMN(__VA_ARGS__))

__device__ void evaluate(
    const Row& row, const long long columns, const long long label, T& value PARAMETERS);

extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1) ROWS_KERNEL(
    const long long rows, const long long columns, const FIRST* predictions, const TARGET* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values, FIRST* gradient,
    unsigned char* nonfinite, const long long keeps PARAMETERS) {
    each_row(rows, [&](long long number, bool is_absent) {
        const long long offset = number * columns;
        const Results results{values + number, gradient ? gradient + offset : nullptr,
                              nonfinite + number, is_absent};
        const bool is_silent = silent && silent[number];
#if TARGETS_ARE_CLASSES
        const SECOND* const shares = nullptr;
        const long long label = is_silent ? 0 : targets[number];
#else
        const SECOND* const shares = targets + offset;
        const long long label = -1;
#endif
        Row row{predictions + offset, shares, label, columns,
                is_silent || is_absent ? nullptr : results.gradient,
                scales ? scales[number] : scale};
        T value = 0;
        // Teams that share a warp go together: what they find of a silent row goes nowhere.
        if (!is_silent || blockDim.y > 1) {
            if (keeps) row.keep();
            evaluate(row, columns, label, value ARGUMENTS);
        }
        if (is_silent) results.silence(columns);
        results.write(is_silent ? T(0) : value, row.taint);
    });
}
