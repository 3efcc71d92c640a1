// Kernels of the losses that compare elements pairwise.  The text of a loss is the body of
// evaluate(): it sets `value` and `gradient` from `prediction`, `target`, the element of each
// further input (`variance` of `variances`), `column` and the loss's parameters, of which a vector
// has one number for each column.
//
// An example is a row of `columns` elements; its value is their mean.  Derivatives of elements are
// multiplied by `scale` or `scales`, which therefore include the 1 / columns of the mean.  `scales`,
// `silent` and `gradient` may be null; `nonfinite` has the flags of rows: a number that is
// not finite as it is stored, or one outside its domain.
//
// A row of more than `segment` columns is cut into segments of as many, each with a block:
// SEGMENTS_KERNEL writes the gradient of a segment and what it adds to its row, and SUMS_KERNEL adds
// that up.  A shorter row takes ROWS_KERNEL alone.  So the order of a sum follows from the length of a
// row.

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

// What a thread adds up of a row.
struct Own {
    double sum = 0;     // a row may add up to more than T holds, and its mean not
    double shrunk = 0;  // the same of numbers as small as to add up in double, where T is it
    T taint = 0;
    bool outside = false;
};

// What a segment adds to its row: PART_BYTES in _launch.py.
struct Part {
    double sum, shrunk;
    bool is_tainted, is_outside;
};
static_assert(sizeof(Part) == 24, "the host makes room for so much");

// Evaluates so many elements from `begin` on, of which the first is of column `first`, and writes their
// gradient to `slopes`.
__device__ inline Own add_up(
    const long long begin, const long long first, const long long count, const FIRST* predictions,
    const SECOND* targets, const T scale, FIRST* slopes OTHER_ARRAYS PARAMETERS) {
    Own own;
    each_pack(count, [&](long long start, long long left) {
        const Pack prediction = load(predictions + begin + start, left);
        const Pack target = LOAD_TARGETS(begin + start);
        LOAD_OTHERS(begin + start)
        Stored<FIRST> stored{};
        const int elements = elements_of(left);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            if (i >= elements) break;
            T value, slope;
            evaluate(prediction.items[i], target.items[i], first + start + i, value,
                     slope OTHER_ELEMENTS(i) ARGUMENTS);
            own.sum += value;
            if (sizeof(T) == sizeof(double)) own.shrunk += value * SHRINK;
            own.outside |= IS_OUTSIDE(i);
            stored.items[i] = sent(weighed(scale, slope), own.taint);
        }
        if (slopes) store(slopes + start, stored, left);
    });
    return own;
}

// The mean of a row of which every thread of the team has added up a part.
__device__ inline T mean_of(const Own& own, long long columns) {
    const double mean = sum_over_team(own.sum) / columns;
    if (sizeof(T) == sizeof(float)) return T(mean);
    const double other = sum_over_team(own.shrunk) / columns / SHRINK;
    return T(is_finite(T(mean)) ? mean : other);
}

// An example is a row: each row has a team of threads, and a fixed tree over its columns.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1) ROWS_KERNEL(
    const long long rows, const long long columns, const FIRST* predictions, const SECOND* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values, FIRST* gradient,
    unsigned char* nonfinite, const long long segment, Part* workspace OTHER_ARRAYS PARAMETERS) {
    each_row(rows, [&](long long row) {
        const long long offset = row * columns;
        const Results results{values + row, gradient ? gradient + offset : nullptr, nonfinite + row};
        if (silent && silent[row]) return results.silence(columns);
        const Own own = add_up(offset, 0, columns, predictions, targets, scales ? scales[row] : scale,
                               results.gradient OTHER_NAMES ARGUMENTS);
        results.write(mean_of(own, columns), gradient ? own.taint : T(0), own.outside);
    });
}

// A block for each segment.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1) SEGMENTS_KERNEL(
    const long long rows, const long long columns, const FIRST* predictions, const SECOND* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values, FIRST* gradient,
    unsigned char* nonfinite, const long long segment, Part* workspace OTHER_ARRAYS PARAMETERS) {
    const long long segments = (columns + segment - 1) / segment;
    const long long row = blockIdx.x / segments, first = blockIdx.x % segments * segment;
    const long long begin = row * columns + first, left = columns - first;
    const long long count = left < segment ? left : segment;
    FIRST* const slopes = gradient ? gradient + begin : nullptr;
    if (silent && silent[row]) {
        if (!slopes) return;
        return each_pack(count, [&](long long start, long long rest) {
            store(slopes + start, Stored<FIRST>{}, rest);
        });
    }
    const Own own = add_up(begin, first, count, predictions, targets, scales ? scales[row] : scale,
                           slopes OTHER_NAMES ARGUMENTS);
    Part part;
    part.sum = sum_over_team(own.sum);
    part.shrunk = sizeof(T) == sizeof(double) ? sum_over_team(own.shrunk) : 0;
    part.is_tainted = any_of_team(gradient && own.taint != 0);
    part.is_outside = CHECKS && any_of_team(own.outside);
    if (threadIdx.x == 0) workspace[blockIdx.x] = part;
}

// What the segments of a row add up to, a team of threads a row.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1) SUMS_KERNEL(
    const long long rows, const long long columns, const FIRST* predictions, const SECOND* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values, FIRST* gradient,
    unsigned char* nonfinite, const long long segment, Part* workspace OTHER_ARRAYS PARAMETERS) {
    const long long segments = (columns + segment - 1) / segment;
    each_row(rows, [&](long long row) {
        const Results results{values + row, nullptr, nonfinite + row};
        if (silent && silent[row]) return results.silence(columns);
        Own own;
        for (long long s = threadIdx.x; s < segments; s += blockDim.x) {
            const Part part = workspace[row * segments + s];
            own.sum += part.sum;
            own.shrunk += part.shrunk;
            own.taint += part.is_tainted;
            own.outside |= part.is_outside;
        }
        results.write(mean_of(own, columns), own.taint, own.outside);
    });
}

// An example is an element (columns is 1): nothing is summed, so a thread takes whole packs of
// examples.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1) ELEMENTS_KERNEL(
    const long long rows, const long long columns, const FIRST* predictions, const SECOND* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values, FIRST* gradient,
    unsigned char* nonfinite, const long long segment, Part* workspace OTHER_ARRAYS PARAMETERS) {
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
