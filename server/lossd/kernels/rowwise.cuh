// The kernel of the losses whose example is a row of classes, a block a row.  The text of a loss is
// the body of evaluate(): it sets `value` and, with GRADIENT_OF_ROW, the gradient, from
//
//     columns                the number of classes
//     label                  the row's class index, where targets are class indices
//     the loss's parameters  of which a vector has one number a column
//     PREDICTION_AT(column), TARGET_AT(column), the latter where targets are no class indices
//     SUM_OVER_ROW(e), LARGEST_OF_ROW(e), LARGEST_BUT(column, e), SOFTMAX_OF_ROW(e)
//     with_logits(row, temperature, priors, strength, use), surplus_of(row, softmax, logit, share)
//
// where the expression e may use `column`, `prediction` and `target`, the share of this column in
// the target (1 or 0 with class indices).  What is made of an expression is of its type, T or double.
// Every thread of the block runs the text and gets the same numbers.  `scales`, `silent` and
// `gradient` may be null; class indices were checked before.

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

template <typename Number>
__device__ inline Largest<Number> largest_over_block(Largest<Number> own) {
    __shared__ Number values[MOST_THREADS / WARP];
    __shared__ long long places[MOST_THREADS / WARP];
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        const Largest<Number> other{__shfl_xor_sync(ALL_LANES, own.value, distance),
                                    __shfl_xor_sync(ALL_LANES, own.column, distance)};
        if (is_before(other, own)) own = other;
    }
    __syncthreads();  // the slowest warp may still be reading those of the previous row
    if (threadIdx.x % WARP == 0) {
        values[threadIdx.x / WARP] = own.value;
        places[threadIdx.x / WARP] = own.column;
    }
    __syncthreads();  // every warp's must be there before one is read
    Largest<Number> found{values[0], places[0]};
    for (unsigned warp = 1; warp < blockDim.x / WARP; ++warp) {
        const Largest<Number> other{values[warp], places[warp]};
        if (is_before(other, found)) found = other;
    }
    return found;
}

// The type of what is computed for a column.
template <typename Term>
using NumberOf = decltype(((Term*)0)->operator()(0LL, T(0), T(0)));

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
    __device__ NumberOf<Term> sum(Term term) const {
        NumberOf<Term> own = 0;
        each([&](long long column, T prediction, T target) {
            own += term(column, prediction, target);
        });
        return sum_over_block(own);
    }

    // The largest of all columns but one.
    template <typename Term>
    __device__ Largest<NumberOf<Term>> largest(Term term, long long excluded = -1) const {
        Largest<NumberOf<Term>> own{0, -1};
        each([&](long long column, T prediction, T target) {
            if (column == excluded) return;
            const Largest<NumberOf<Term>> other{term(column, prediction, target), column};
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
                    slopes.items[i] = scale * slope(start + i, prediction.items[i],
                                                    target(loaded, i, start + i));
            store(gradient + start, slopes, left);
        });
    }
};

// Calls use(logit, common) with the logits of a row as a softmax takes them: divided by a
// temperature and, where there are priors of the classes, with strength * log(prior / their sum)
// added.  Then they are doubles: a distance of 80 that is rounded to float is off by 4e-6.  Large
// logits would swallow the priors, so what they have in `common` is taken off first.
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

// The softmax of a row in the parts that keep full relative accuracy, see losses/_softmax.py.
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
    const Largest<Number> best = row.largest(logit);
    const Number rest = row.sum([&](long long column, T prediction, T target) {
        return column == best.column ? Number(0)
                                     : exp(logit(column, prediction, target) - best.value);
    });
    // A NaN and a row of nothing but -inf have no softmax, also where there is but one class: their
    // difference with themselves is NaN.
    const Number sum = best.value > 0 ? rest : rest + (best.value - best.value);
    return Softmax<Number>{best, sum, 1 + sum};
}

// A distribution is near another one if they differ by less than this part of it.
constexpr double NEAR = 0.5;

// sum(s) p - s of a row, the derivative of -sum(s log p) by the logits.  A row whose p and s are
// nearly uniform is computed once more, in double: see losses/_softmax.py.
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
    found.mass = row.sum(share);
    found.others = row.sum([&](long long column, T prediction, T target) {
        return column == best ? Number(0) : Number(share(column, prediction, target));
    });
    const Number distance = row.sum([&](long long column, T prediction, T target) {
        return fabs(found.plain(column, logit(column, prediction, target),
                                share(column, prediction, target)));
    });
    if (!(distance < Number(NEAR) * found.mass)) return found;
    found.count = row.columns;
    found.exact_mass = row.sum([&](long long column, T prediction, T target) {
        return double(share(column, prediction, target));
    });
    found.share_of_best = row.sum([&](long long column, T prediction, T target) {
        return column == best ? double(share(column, prediction, target)) : 0.0;
    });
    found.apart = row.sum([&](long long column, T prediction, T target) {
        return share(column, prediction, target) - found.share_of_best;
    });
    const double spread = row.sum([&](long long column, T prediction, T target) {
        return fabs(share(column, prediction, target) - found.share_of_best);
    });
    if (!(spread < NEAR * found.exact_mass)) return found;
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
#define PREDICTION_AT(column) (row.predictions[column])
#define TARGET_AT(column) (row.shares[column])
#define SUM_OVER_ROW(...) row.sum(AT_COLUMN(__VA_ARGS__))
#define LARGEST_OF_ROW(...) row.largest(AT_COLUMN(__VA_ARGS__))
#define LARGEST_BUT(excluded, ...) row.largest(AT_COLUMN(__VA_ARGS__), excluded)
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
