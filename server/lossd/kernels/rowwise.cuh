// The kernel of the losses whose example is a row of classes, a block a row.  The text of a loss is
// the body of evaluate(): it sets `value` and, with GRADIENT_OF_ROW, the gradient, from
//
//     columns                the number of classes
//     label                  the row's class index, where targets are class indices
//     the loss's parameters  of which a vector has one number a column
//     PREDICTION_AT(column), TARGET_AT(column), the latter where targets are no class indices
//     SUM_OVER_ROW(e), LARGEST_BUT(column, e), SOFTMAX_OF_ROW(e)
//     LOGITS_OF_ROW(temperature, priors, strength)
//
// where the expression e may use `column`, `prediction` and `target`, the share of this column in
// the target (1 or 0 with class indices).  Every thread of the block runs the text and gets the
// same numbers.  `scales`, `silent` and `gradient` may be null; class indices were checked before.

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

__device__ inline Largest largest_over_block(Largest own) {
    __shared__ T values[MOST_THREADS / WARP];
    __shared__ long long places[MOST_THREADS / WARP];
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        const Largest other{__shfl_xor_sync(ALL_LANES, own.value, distance),
                            __shfl_xor_sync(ALL_LANES, own.column, distance)};
        if (is_before(other, own)) own = other;
    }
    __syncthreads();  // the slowest warp may still be reading those of the previous row
    if (threadIdx.x % WARP == 0) {
        values[threadIdx.x / WARP] = own.value;
        places[threadIdx.x / WARP] = own.column;
    }
    __syncthreads();  // every warp's must be there before one is read
    Largest found{values[0], places[0]};
    for (unsigned warp = 1; warp < blockDim.x / WARP; ++warp) {
        const Largest other{values[warp], places[warp]};
        if (is_before(other, found)) found = other;
    }
    return found;
}

// One example: the inputs of its row and where its gradient goes.
struct Row {
    const T* predictions;
    const T* shares;  // the target distribution, null where the target is a class
    long long label;
    long long columns;
    T* gradient;
    T scale;

    // Calls visit(column, prediction, target) for every column of this thread.
    template <typename Visit>
    __device__ void each(Visit visit) const {
        each_pack(columns, [&](long long start, long long left) {
            const Pack prediction = load(predictions + start, left);
            const Pack loaded = targets(start, left);
#pragma unroll
            for (int i = 0; i < WIDTH; ++i)
                if (i < left)
                    visit(start + i, prediction.items[i], target(loaded, i, start + i));
        });
    }

#if TARGETS_ARE_CLASSES
    __device__ Pack targets(long long, long long) const { return Pack{}; }
    __device__ T target(const Pack&, int, long long column) const {
        return column == label ? T(1) : T(0);
    }
#else
    __device__ Pack targets(long long start, long long left) const {
        return load(shares + start, left);
    }
    __device__ T target(const Pack& loaded, int i, long long) const { return loaded.items[i]; }
#endif

    template <typename Term>
    __device__ T sum(Term term) const {
        T own = 0;
        each([&](long long column, T prediction, T target) {
            own += term(column, prediction, target);
        });
        return sum_over_block(own);
    }

    // The largest of all columns but one.
    template <typename Term>
    __device__ Largest largest(Term term, long long excluded = -1) const {
        Largest own{T(0), -1};
        each([&](long long column, T prediction, T target) {
            if (column == excluded) return;
            const Largest other{term(column, prediction, target), column};
            if (is_before(other, own)) own = other;
        });
        return largest_over_block(own);
    }

    template <typename Slope>
    __device__ void write(Slope slope) const {
        if (!gradient) return;
        each_pack(columns, [&](long long start, long long left) {
            const Pack prediction = load(predictions + start, left);
            const Pack loaded = targets(start, left);
            Pack slopes{};
#pragma unroll
            for (int i = 0; i < WIDTH; ++i)
                if (i < left)
                    slopes.items[i] = weighed(scale, slope(start + i, prediction.items[i],
                                                           target(loaded, i, start + i)));
            store(gradient + start, slopes, left);
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
        const T scaled = prediction / temperature;
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
    const Largest best = row.largest(logit);
    const T rest = row.sum([&](long long column, T prediction, T target) {
        return column == best.column ? T(0) : exp(logit(column, prediction, target) - best.value);
    });
    // A NaN and a row of nothing but -inf have no softmax, also where there is but one class: their
    // difference with themselves is NaN.
    const T sum = best.value > 0 ? rest : rest + (best.value - best.value);
    return Softmax{best, sum, 1 + sum};
}

#define AT_COLUMN(...) [&](long long column, T prediction, T target) -> T { return __VA_ARGS__; }
#define PREDICTION_AT(column) (row.predictions[column])
#define TARGET_AT(column) (row.shares[column])
#define SUM_OVER_ROW(...) row.sum(AT_COLUMN(__VA_ARGS__))
#define LARGEST_BUT(excluded, ...) row.largest(AT_COLUMN(__VA_ARGS__), excluded)
#define LOGITS_OF_ROW(...) logits_of(row, __VA_ARGS__)
#define SOFTMAX_OF_ROW(...) softmax_of(row, AT_COLUMN(__VA_ARGS__))
#define GRADIENT_OF_ROW(...) row.write(AT_COLUMN(__VA_ARGS__))

__device__ void evaluate(
    const Row& row, const long long columns, const long long label, T& value PARAMETERS);

extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1) ROWS_KERNEL(
    const long long rows, const long long columns, const T* predictions, const TARGET* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values,
    T* gradient PARAMETERS) {
    for (long long number = blockIdx.x; number < rows; number += gridDim.x) {
        const long long offset = number * columns;
        T* const row_gradient = gradient ? gradient + offset : nullptr;
        if (silent && silent[number]) {
            silence(values + number, row_gradient, columns);
            continue;
        }
#if TARGETS_ARE_CLASSES
        const T* const shares = nullptr;
        const long long label = targets[number];
#else
        const T* const shares = targets + offset;
        const long long label = -1;
#endif
        const Row row{predictions + offset, shares, label, columns, row_gradient,
                      scales ? scales[number] : scale};
        T value;
        evaluate(row, columns, label, value ARGUMENTS);
        if (threadIdx.x == 0) values[number] = value;
    }
}
