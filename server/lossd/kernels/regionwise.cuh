// The kernel of the losses of a region, a team of threads a region; what a text may say is told in
// overlaps.hpp.  The text of a loss is the body of evaluate(): it sets `value` and writes the gradient,
// from `region` and the loss's parameters.  `scales`, `silent` and `gradient` may be null; the first
// `kept` columns of a row are kept on the chip.

struct Larger {
    __device__ double operator()(double left, double right) const { return larger(left, right); }
};

// One example: its elements, and where its gradient goes.
struct Region {
    Source<FIRST> predictions;
    Source<SECOND> truth;
    long long columns;
    FIRST* gradient;
    T scale;
    mutable T taint = 0;
    mutable bool outside = false;

    // Calls visit(prediction, true share) for every element of this thread, one after the other.
    template <typename Visit>
    __device__ void each(Visit visit) const {
        each_pack(columns, [&](long long start, long long left) {
            const Pack prediction = predictions.own_pack(start, left);
            const Pack share = truth.own_pack(start, left);
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                if (i >= left) break;
                visit(prediction.items[i], share.items[i]);
            }
        });
    }

    // The same in few instructions, for what is rarely done.
    template <typename Visit>
    __device__ void each_briefly(Visit visit) const {
        each_pack(columns, [&](long long start, long long left) {
#pragma unroll 1
            for (long long i = start; i < start + elements_of(left); ++i)
                visit(predictions.own(i), truth.own(i));
        });
    }

    template <typename Kind, typename Slope>
    __device__ void write(Kind kind, Slope slope) const {
        if (!gradient) return;
        each_pack(columns, [&](long long start, long long left) {
            const Pack prediction = predictions.own_pack(start, left);
            const Pack share = truth.own_pack(start, left);
            Stored<FIRST> slopes{};
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                if (i >= left) break;
                const T bend = kind.bend(kind.shares(prediction.items[i]));
                slopes.items[i] = sent(weighed(scale, slope(bend, share.items[i])), taint);
            }
            store(gradient + start, slopes, left);
        });
    }

    template <typename Slope>
    __device__ void write_each(Slope slope) const {
        if (!gradient) return;
        each_pack(columns, [&](long long start, long long left) {
#pragma unroll 1
            for (long long i = start; i < start + elements_of(left); ++i)
                gradient[i] = sent(weighed(scale, slope(predictions.own(i), truth.own(i))), taint);
        });
    }

    template <typename Kind, typename Term>
    __device__ Counts<double> counts(Kind kind, Term term) const {
        Counts<double> own{0, 0, 0};
        each([&](T prediction, T share) {
            outside |= first_is_outside(prediction) || second_is_outside(share);
            const Counts<T> more = term(kind.shares(prediction), share);
            own.both += more.both;
            own.falsely += more.falsely;
            own.missed += more.missed;
        });
        return {sum_over_team(own.both), sum_over_team(own.falsely), sum_over_team(own.missed)};
    }

    template <typename Term>
    __device__ double sum(Term term) const {
        double own = 0;
        each_briefly([&](T prediction, T share) { own += term(prediction, share); });
        return sum_over_team(own);
    }
    template <typename Term>
    __device__ double largest(Term term) const {
        double own = LOWEST;
        each_briefly([&](T prediction, T share) { own = larger(own, term(prediction, share)); });
        return over_team(own, Larger{});
    }
    __device__ double raised(double x, double y) const { return pow(x, y); }
};

__device__ void evaluate(const Region& region, T& value PARAMETERS);

extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1) ROWS_KERNEL(
    const long long rows, const long long columns, const FIRST* predictions, const SECOND* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values, FIRST* gradient,
    unsigned char* nonfinite, const long long kept PARAMETERS) {
    each_row(rows, [&](long long row) {
        const long long offset = row * columns;
        const Results results{values + row, gradient ? gradient + offset : nullptr, nonfinite + row};
        if (silent && silent[row]) return results.silence(columns);
        Region region{{predictions + offset}, {targets + offset}, columns, results.gradient,
                      scales ? scales[row] : scale};
        region.predictions.keep(kept, 0);
        region.truth.keep(kept, WIDTH * sizeof(FIRST));
        T value;
        evaluate(region, value ARGUMENTS);
        results.write(value, region.taint, region.outside);
    });
}
