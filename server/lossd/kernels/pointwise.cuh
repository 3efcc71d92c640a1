// Kernels of the losses that compare elements pairwise.  The text of a loss is the body of
// evaluate(): it sets `value` and `gradient` from `prediction`, `target`, the element of each
// further input (`variance` of `variances`), `column` and the loss's parameters, of which a vector
// has one number for each column.
//
// An example is a row of `columns` elements; its value is their mean.  Derivatives of elements are
// multiplied by `scale` or `scales`, which therefore include the 1 / columns of the mean.  `scales`,
// `silent` and `gradient` may be null; `nonfinite` has the flags of rows: a number that is
// not finite as it is stored, or one outside its domain.

__device__ void evaluate(
    const T prediction, const T target, const long long column, T& value,
    T& gradient OTHERS PARAMETERS);

#define IS_OUTSIDE(i)                                                      \
    (CHECKS && (first_is_outside(prediction.items[i]) || second_is_outside(target.items[i]) || \
                OTHERS_ARE_OUTSIDE(i)))

#if INPUTS > 1
#define LOAD_TARGETS(place) load(targets + (place), left)
#else  // a text that knows no target is given the prediction again
#define LOAD_TARGETS(place) prediction
#endif

constexpr double SHRINK = 5.421010862427522e-20;  // 2^-64

// An example is a row: each row has a team of threads, and a fixed tree over its columns.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1) ROWS_KERNEL(
    const long long rows, const long long columns, const FIRST* predictions, const SECOND* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values, FIRST* gradient,
    unsigned char* nonfinite OTHER_ARRAYS PARAMETERS) {
    each_row(rows, [&](long long row) {
        const long long offset = row * columns;
        const Results results{values + row, gradient ? gradient + offset : nullptr, nonfinite + row};
        if (silent && silent[row]) return results.silence(columns);
        const T row_scale = scales ? scales[row] : scale;
        double own = 0;  // a row may add up to more than T holds, and its mean not
        double shrunk = 0;  // the same of numbers as small as to add up in double, where T is it
        T taint = 0;
        bool outside = false;
        each_pack(columns, [&](long long start, long long left) {
            const Pack prediction = load(predictions + offset + start, left);
            const Pack target = LOAD_TARGETS(offset + start);
            LOAD_OTHERS(offset + start)
            Stored<FIRST> slopes{};
            const int count = elements_of(left);
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                if (i >= count) break;
                T value, slope;
                evaluate(prediction.items[i], target.items[i], start + i, value,
                         slope OTHER_ELEMENTS(i) ARGUMENTS);
                own += value;
                if (sizeof(T) == sizeof(double)) shrunk += value * SHRINK;
                outside |= IS_OUTSIDE(i);
                slopes.items[i] = sent(weighed(row_scale, slope), taint);
            }
            if (gradient) store(results.gradient + start, slopes, left);
        });
        double mean = sum_over_team(own) / columns;
        if (sizeof(T) == sizeof(double)) {
            const double other = sum_over_team(shrunk) / columns / SHRINK;
            mean = is_finite(T(mean)) ? mean : other;
        }
        results.write(T(mean), gradient ? taint : T(0), outside);
    });
}

// An example is an element (columns is 1): nothing is summed, so a thread takes whole packs of
// examples.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1) ELEMENTS_KERNEL(
    const long long rows, const long long columns, const FIRST* predictions, const SECOND* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values, FIRST* gradient,
    unsigned char* nonfinite OTHER_ARRAYS PARAMETERS) {
    const long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long stride = (long long)gridDim.x * blockDim.x * WIDTH;
    for (long long start = thread * WIDTH; start < rows; start += stride) {
        const long long left = rows - start;
        const Pack prediction = load(predictions + start, left);
        const Pack target = LOAD_TARGETS(start);
        LOAD_OTHERS(start)
        Stored<T> results{};
        Stored<FIRST> slopes{};
        Stored<unsigned char> flags{};
        const int count = elements_of(left);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            if (i >= count) break;
            if (silent && silent[start + i]) continue;
            T value, slope, taint = 0;
            evaluate(prediction.items[i], target.items[i], 0, value,
                     slope OTHER_ELEMENTS(i) ARGUMENTS);
            results.items[i] = value;
            slopes.items[i] = sent(weighed(scales ? scales[start + i] : scale, slope), taint);
            flags.items[i] = (is_finite(gradient ? value + taint : value) ? 0 : NONFINITE) |
                             (IS_OUTSIDE(i) ? OUTSIDE : 0);
        }
        store(values + start, results, left);
        store(nonfinite + start, flags, left);
        if (gradient) store(gradient + start, slopes, left);
    }
}
