// The kernel of the losses whose example is a sequence of frames with a row of labels, with a block
// of threads for each: alignments.hpp says what it does, and what a text may use.  The text of a
// loss is the body of evaluate(): it sets `value` and writes the gradient, from `sequence` and the
// loss's parameters.
//
// `columns` counts the numbers of a sequence, `parts` its frames and `labels` its labels, at most;
// `workspace` has room for one sequence a block.  `scales`, `silent` and `gradient` may be null; labels
// and lengths were checked before.  `statuses` tells which sequences have no alignment.

constexpr unsigned char INFEASIBLE = 2;
// With more threads each would have too few registers.
constexpr int MOST_OF_SEQUENCE = 256;

// Some threads of the block: the lanes of a warp.  They alone decide the order of a sum, so that no
// result depends on the number of threads.
struct Lanes {
    __device__ unsigned lane() const { return threadIdx.x % WARP; }

    template <typename Work>
    __device__ void each(Index count, Work work) const {
        for (Index i = lane(); i < count; i += WARP) work(i);
    }
    template <typename Work>
    __device__ void once(Work work) const {
        if (lane() == 0) work();
    }
    template <typename Term>
    __device__ double sum(Index count, Term term) const {
        double own = 0;
        each(count, [&](Index i) { own += double(term(i)); });
        for (int distance = WARP / 2; distance > 0; distance /= 2)
            own += exchanged(own, distance, 0xffffffffu);
        return own;
    }
    template <typename Term>
    __device__ double largest(Index count, Term term) const {
        double own = -infinite();
        each(count, [&](Index i) { own = larger(own, term(i)); });
        for (int distance = WARP / 2; distance > 0; distance /= 2)
            own = larger(own, exchanged(own, distance, 0xffffffffu));
        return own;
    }
    static __device__ double larger(double left, double right) {
        return left > right || left != left ? left : right;
    }

    // The largest and its index, the lowest of equals.
    struct Best {
        double value;
        Index place;
    };
    template <typename Term>
    __device__ Best best(Index count, Term term) const {
        const double value = largest(count, term);
        Index own = count;
        each(count, [&](Index i) {
            const double number = term(i);
            if ((number == value || number != number) && i < own) own = i;
        });
        for (int distance = WARP / 2; distance > 0; distance /= 2) {
            const Index other = __shfl_xor_sync(0xffffffffu, own, distance);
            own = other < own ? other : own;
        }
        return {value, own};
    }
};

// The same if all warps compute the same.
struct Whole : Lanes {
    template <typename Work>
    __device__ void once(Work work) const {
        if (threadIdx.x == 0) work();
    }
};

// The threads of a block.  Each of its warps computes what all of them need, so that warps exchange
// data through memory only.
struct Team {
    __device__ void wait() const { __syncthreads(); }
    __device__ Whole whole() const { return {}; }

    template <typename Work>
    __device__ void each(Index count, Work work) const {
        for (Index i = threadIdx.x; i < count; i += blockDim.x) work(i);
        wait();
    }
    template <typename Work>
    __device__ void parts(Index count, Work work) const {
        for (Index i = threadIdx.x / WARP; i < count; i += blockDim.x / WARP) work(Lanes{}, i);
        wait();
    }
};

struct Frames {
    const FIRST* predictions;
    Index classes;
    __device__ double operator()(Index time, Index of_class) const {
        return double(widened(predictions[time * classes + of_class]));
    }
};

// A sequence as a text sees it.
struct Example {
    Index most_frames, most_labels, classes, length, count;
    const FIRST* predictions;
    const long long* labels;
    double* room;
    FIRST* gradient;
    T scale;
    mutable T taint = 0;
    mutable bool is_infeasible = false;

    template <typename Slope>
    __device__ void write(const Lanes& lanes, Index time, Slope slope) const {
        if (!gradient) return;
        lanes.each(classes, [&](Index c) {
            const double scaled = weighed(double(scale), double(slope(c)));
            gradient[time * classes + c] = sent(T(scaled), taint);
        });
    }
};

// -log of the probability of all alignments.  If there is none it is infinite, or 0 if the loss
// says so.
template <typename Kind>
__device__ T likelihood(Kind, const Example& example, double blank, double zero_infinity) {
    const Team team;
    const Frames frames{example.predictions, example.classes};
    Sequence<Kind, Team, Frames> sequence{team, frames, example.labels, example.length,
                                          example.classes, example.count, Index(blank)};
    sequence.settle(example.room, example.most_frames, example.classes, example.most_labels);
    const auto write = [&](const Lanes& lanes, Index time, auto slope) {
        example.write(lanes, time, slope);
    };
    double value = sequence.value_of(example.most_frames, write);
    example.is_infeasible = value == infinite();
    return T(example.is_infeasible && zero_infinity != 0 ? 0 : value);
}

// Whether this thread finds a number outside its domain in the frames that a sequence has.
__device__ inline bool has_outside(const FIRST* predictions, long long numbers) {
    bool found = false;
#if CHECKS
    for (long long i = threadIdx.x; i < numbers; i += blockDim.x)
        found |= first_is_outside(widened(predictions[i]));
#endif
    return found;
}

__device__ void evaluate(const Example& sequence, T& value PARAMETERS);

extern "C" __global__ void __launch_bounds__(MOST_OF_SEQUENCE, 1) ROWS_KERNEL(
    const long long rows, const long long columns, const FIRST* predictions, const long long* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values, FIRST* gradient,
    unsigned char* nonfinite, const long long parts, const long long labels, unsigned char* statuses,
    double* workspace, const long long* prediction_lengths, const long long* target_lengths PARAMETERS) {
    const long long classes = parts ? columns / parts : 0;
    double* const room = workspace + blockIdx.x * room_for(parts, classes, labels);
    for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
        const long long offset = row * columns;
        const Results results{values + row, gradient ? gradient + offset : nullptr, nonfinite + row};
        if (threadIdx.x == 0) statuses[row] = 0;
        if (silent && silent[row]) {
            results.silence(columns);
            continue;
        }
        const Example sequence{parts, labels, classes, prediction_lengths[row], target_lengths[row],
                               predictions + offset, targets + row * labels, room, results.gradient,
                               scales ? scales[row] : scale};
        T value;
        evaluate(sequence, value ARGUMENTS);
        results.write(value, sequence.taint, has_outside(predictions + offset, sequence.length * classes));
        if (threadIdx.x == 0 && sequence.is_infeasible) statuses[row] = INFEASIBLE;
        __syncthreads();
    }
}
