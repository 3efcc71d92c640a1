// The kernel of the losses of a few vectors side by side, a team of threads a row; what a text may say is
// told in vectors.hpp.  The text of a loss is the body of evaluate(): it sets `value` and writes the
// gradients, from `row`, the loss's parameters and `target`, the number that an example may have beside
// its vectors.
//
// VECTORS are 1 to 3, of the types FIRST, SECOND and THIRD, and so are their gradients, any of which may
// be null, like `scales` and `silent`.

template <typename S>
__device__ inline S sent_as(T slope, T& taint) {
    S rounded;
    round_to(rounded, slope);
    taint += widened(rounded) * T(0);
    return rounded;
}

// One example: its vectors, and where their gradients go.
struct Row {
    const FIRST* first;
    const SECOND* second;
    const THIRD* third;
    long long columns;
    FIRST* by_first;
    SECOND* by_second;
    THIRD* by_third;
    double scale;
    mutable T taint = 0;
    mutable unsigned char status = 0;

    __device__ void note(unsigned char found) const { status = found; }

    // Calls visit(start, left, components of a place in the pack) for every pack of this thread.
    template <typename Visit>
    __device__ void each(Visit visit) const {
        each_pack(columns, [&](long long start, long long left) {
            const Pack a = load(first + start, left);
            const Pack b = VECTORS > 1 ? load(second + start, left) : a;
            const Pack c = VECTORS > 2 ? load(third + start, left) : a;
            visit(start, left, [&](int i) {
                return Components{double(a.items[i]), double(b.items[i]), double(c.items[i])};
            });
        });
    }

    template <typename... Terms>
    __device__ Sums<sizeof...(Terms)> sums(Terms... terms) const {
        Sums<sizeof...(Terms)> own{};
        each([&](long long, long long left, auto components) {
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                if (i >= left) break;
                int number = 0;
                const Components x = components(i);
                ((own.items[number++] += terms(x)), ...);
            }
        });
#pragma unroll
        for (double& sum : own.items) sum = sum_over_team(sum);
        return own;
    }

    template <typename S, typename Slope, typename At>
    __device__ void store_slopes(
        S* gradient, long long start, long long left, Slope slope, At components) const {
        if (!gradient) return;
        Stored<S> slopes{};
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            if (i >= left) break;
            slopes.items[i] = sent_as<S>(T(weighed(scale, double(slope(components(i))))), taint);
        }
        store(gradient + start, slopes, left);
    }

    struct Nothing {
        __device__ double operator()(const Components&) const { return 0; }
    };

    template <typename One, typename Two = Nothing, typename Three = Nothing>
    __device__ void write(One one, Two two = {}, Three three = {}) const {
        if (!by_first && !by_second && !by_third) return;
        each([&](long long start, long long left, auto components) {
            store_slopes(by_first, start, left, one, components);
            if (VECTORS > 1) store_slopes(by_second, start, left, two, components);
            if (VECTORS > 2) store_slopes(by_third, start, left, three, components);
        });
    }
};

__device__ void evaluate(const Row& row, const T target, T& value PARAMETERS);

template <typename S>
__device__ inline void silence(S* gradient, long long columns) {
    if (!gradient) return;
    each_pack(columns, [&](long long start, long long left) {
        store(gradient + start, Stored<S>{}, left);
    });
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1) ROWS_KERNEL(
    const long long rows, const long long columns, const FIRST* predictions, const SECOND* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values, FIRST* gradient,
    unsigned char* nonfinite, unsigned char* statuses, SECOND* second_gradient,
    THIRD* third_gradient OTHER_ARRAYS PARAMETERS) {
    const THIRD* const third = THIRD_ARRAY;
    each_row(rows, [&](long long number) {
        const long long offset = number * columns;
        const Results results{values + number, gradient ? gradient + offset : nullptr,
                              nonfinite + number};
        SECOND* const by_second = second_gradient ? second_gradient + offset : nullptr;
        THIRD* const by_third = third_gradient ? third_gradient + offset : nullptr;
        if (threadIdx.x == 0) statuses[number] = 0;
        if (silent && silent[number]) {
            silence(by_second, columns);
            silence(by_third, columns);
            return results.silence(columns);
        }
        const bool has_target = VECTORS < 3 && third;
        const Row row{predictions + offset, targets + offset, third + offset, columns,
                      results.gradient, by_second, by_third,
                      double(scales ? scales[number] : scale)};
        T value;
        const T target = has_target ? widened(third[number]) : T(0);
        evaluate(row, target, value ARGUMENTS);
        results.write(value, row.taint, has_target && THIRD_IS_OUTSIDE(target));
        if (threadIdx.x == 0) statuses[number] = row.status;
    });
}
