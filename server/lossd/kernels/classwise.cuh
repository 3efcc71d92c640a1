// The kernel of the losses of regions of classes, a team of threads an example; what a text may say is told
// in class_overlaps.hpp.  The text of a loss is the body of evaluate(): it sets `value` and writes the
// gradient, from `regions` and the loss's parameters.  `scales`, `silent` and `gradient` may be null.
//
// A row of more than `segment` positions is cut into segments of as many, each with a block: COUNTS_KERNEL
// counts what a segment adds to each class, SUMS_KERNEL runs the text on the sums of that, and
// SLOPES_KERNEL writes the gradient.  A shorter row takes ROWS_KERNEL alone.  So the order of a sum
// follows from the length of a row.
//
// A thread has the same positions in every walk over a row, so that it alone reads what it keeps of them.

// With more threads each would have too few registers.
constexpr int MOST_OF_CLASSES = 256;
// Classes whose terms are added up before they are added to the others'.
constexpr int TOGETHER = 16;
// In the place of a part, which is not below 0.
constexpr double WRITTEN = -1;

// What a team keeps of a row: of a position the largest logit, its class and the sum of the exponentials
// of all others; and the slopes of every class, which all threads write alike.  Of a row in segments also
// the counts of each, by class, whether it holds a number outside its domain, and the part of the sum
// over the classes whose gradient is left to be written, or WRITTEN.
struct Room {
    double* rest;
    T* most;
    int* best;
    Slopes* slopes;
    double *counted, *outside, *part;
};

// The numbers of float64 that it takes: room_of_classes() in _launch.py.
__device__ inline long long room_for(long long classes, long long positions, long long segments) {
    return 3 * positions + 5 * classes + (segments > 1 ? segments * (3 * classes + 1) + 1 : 0);
}

__device__ inline Room room_in(
    double* workspace, long long classes, long long positions, long long segments) {
    double* const rest = workspace + 5 * classes;
    T* const most = reinterpret_cast<T*>(rest + positions);
    double* const counted = rest + 3 * positions;
    double* const outside = counted + 3 * classes * segments;
    return {rest, most, reinterpret_cast<int*>(rest + 2 * positions),
            reinterpret_cast<Slopes*>(workspace), counted, outside, outside + segments};
}

// Calls visit(kind) with the kind of shares that predictions are.
template <typename Visit>
__device__ inline void with_kind(double prediction_kind, Visit visit) {
    if (prediction_kind == LOGITS) return visit(OfClasses{});
    if (prediction_kind == LOG_PROBABILITIES) return visit(OfLogs{});
    visit(OfProbabilities{});
}

// One example, or a segment of it: its elements, and where its gradient goes.
struct Regions {
    const FIRST* predictions;
    const TARGET* targets;
    int count;            // of classes
    long long positions;  // elements of each
    FIRST* gradient;
    T scale;
    Room room;
    long long first, end;  // of the positions that are this team's
    long long segments;    // that were counted before; 0 where none were
    mutable T taint = 0;
    mutable bool outside = false;

    __device__ Class classes() const { return count; }
    __device__ double raised(double x, double y) const { return pow(x, y); }
    __device__ void keep(Class c, const Slopes& slopes) const { room.slopes[c] = slopes; }
    __device__ Slopes slopes(Class c) const { return room.slopes[c]; }

    __device__ T prediction(Class c, long long position) const {
        return widened(predictions[c * positions + position]);
    }
    __device__ T truth(Class c, long long position) const {
#if TARGETS_ARE_CLASSES
        return targets[position] == c ? T(1) : T(0);
#else
        return widened(targets[c * positions + position]);
#endif
    }

    // Calls visit(position) for every position of this thread.
    template <typename Visit>
    __device__ void each_position(Visit visit) const {
#pragma unroll 1
        for (long long position = first + threadIdx.x; position < end; position += blockDim.x)
            visit(position);
    }

    // The sum of term(c) over the classes, of some of them at a time.
    template <typename Term>
    __device__ T sum_over_classes(Term term) const {
        T sum = 0;
#pragma unroll 1
        for (Class first = 0; first < count; first += TOGETHER) {
            const Class end = count - first < TOGETHER ? count : first + TOGETHER;
            T some = 0;
#pragma unroll 1
            for (Class c = first; c < end; ++c) some += term(c);
            sum += some;
        }
        return sum;
    }

    // exp of a logit less the largest one.
    __device__ T exponential(Class c, long long position, T most, int best) const {
        return c == best ? T(1) : exp(prediction(c, position) - most);
    }

    __device__ void look_at(long long position) const {
#if CHECKS
#pragma unroll 1
        for (Class c = 0; c < count; ++c) {
            outside |= first_is_outside(prediction(c, position));
            if (!TARGETS_ARE_CLASSES) outside |= second_is_outside(truth(c, position));
        }
#endif
    }

    __device__ void make_softmax(long long position) const {
        T most = 0;
        int best = -1;
#pragma unroll 1
        for (Class c = 0; c < count; ++c) {
            const T x = prediction(c, position);
            if (x == x && (best < 0 || x > most)) most = x, best = int(c);
        }
        if (best < 0) most = prediction(0, position), best = 0;
        const T rest = sum_over_classes([&](Class c) {
            return c == best ? T(0) : exponential(c, position, most, best);
        });
        // A position with a NaN and one of only -inf have no softmax, even with a single class.
        room.rest[position] = most > 0 ? rest : rest + (most - most);
        room.most[position] = most;
        room.best[position] = best;
    }

    template <typename Kind>
    __device__ void count_up(Kind) const {
        if (segments) {
            for (long long s = threadIdx.x; s < segments; s += blockDim.x)
                outside |= room.outside[s] != 0;
            return;
        }
        each_position([&](long long position) {
            look_at(position);
            if constexpr (Kind::IS_EXCLUSIVE) make_softmax(position);
        });
    }

    __device__ Shares<T> shares_of(OfClasses, Class c, long long position) const {
        const int best = room.best[position];
        const T rest = T(room.rest[position]), total = 1 + rest;
        const T own = exponential(c, position, room.most[position], best);
        return {own / total, (c == best ? rest : 1 + (rest - own)) / total};
    }
    template <typename Kind>
    __device__ Shares<T> shares_of(Kind kind, Class c, long long position) const {
        return kind.shares(prediction(c, position));
    }

    template <typename Kind>
    __device__ Counts<double> counts(Kind kind, Class c) const {
        if (segments) return sums_of_segments(room.counted + 3 * segments * c);
        Counts<T> own{0, 0, 0};
        each_position([&](long long position) {
            const Shares<T> shares = shares_of(kind, c, position);
            const T share = truth(c, position);
            own.both += shares.inside * share;
            own.falsely += shares.inside * (1 - share);
            own.missed += shares.outside * share;
        });
        return {double(sum_over_team(own.both)), double(sum_over_team(own.falsely)),
                double(sum_over_team(own.missed))};
    }

    __device__ Counts<double> sums_of_segments(const double* counts) const {
        Counts<double> own{0, 0, 0};
        for (long long s = threadIdx.x; s < segments; s += blockDim.x) {
            own.both += counts[3 * s];
            own.falsely += counts[3 * s + 1];
            own.missed += counts[3 * s + 2];
        }
        return {sum_over_team(own.both), sum_over_team(own.falsely), sum_over_team(own.missed)};
    }

    // Keeps what this segment, of some, adds to each class.
    template <typename Kind>
    __device__ void count_segment(Kind kind, long long segment, long long all) const {
        count_up(kind);
#pragma unroll 1
        for (Class c = 0; c < count; ++c) {
            const Counts<double> own = counts(kind, c);
            double* const place = room.counted + 3 * (all * c + segment);
            if (threadIdx.x == 0) place[0] = own.both, place[1] = own.falsely, place[2] = own.missed;
        }
        const bool is_outside = CHECKS && any_of_team(outside);
        if (threadIdx.x == 0) room.outside[segment] = is_outside;
    }

    __device__ bool has(Class c) const {
        bool own = false;
        each_position([&](long long position) { own |= truth(c, position) != 0; });
        return any_of_team(own);
    }

    __device__ void put(Class c, long long position, T slope) const {
        gradient[c * positions + position] = sent(weighed(scale, slope), taint);
    }

    // The slope of a share of a class.
    __device__ T slope_of_share(Class c, long long position) const {
        const T share = truth(c, position);
        return share * T(room.slopes[c].by_hit) + (1 - share) * T(room.slopes[c].by_false);
    }

    // Of the logits of a position: p (g - mean of g), from differences to the g of the largest class,
    // whose own is exactly 0, so that its large p multiplies no rounding error.
    __device__ void write_position(OfClasses, long long position, T part) const {
        const int best = room.best[position];
        const T most = room.most[position], total = 1 + T(room.rest[position]);
        const T of_best = slope_of_share(best, position);
        const T mean = sum_over_classes([&](Class c) {
            const T own = exponential(c, position, most, best) / total;
            return own * (slope_of_share(c, position) - of_best);
        });
#pragma unroll 1
        for (Class c = 0; c < count; ++c) {
            const T own = exponential(c, position, most, best) / total;
            put(c, position, part * (own * (slope_of_share(c, position) - of_best - mean)));
        }
    }
    template <typename Kind>
    __device__ void write_position(Kind kind, long long position, T part) const {
#pragma unroll 1
        for (Class c = 0; c < count; ++c) {
            const T bend = kind.bend(kind.shares(prediction(c, position)));
            put(c, position, part * (bend * slope_of_share(c, position)));
        }
    }

    template <typename Kind>
    __device__ void write(Kind kind, T part) const {
        if (!gradient) return;
        if (segments) return leave(part);
        each_position([&](long long position) { write_position(kind, position, part); });
    }

    // Leaves the gradient of a part to the segments, or WRITTEN.
    __device__ void leave(double part) const {
        if (threadIdx.x == 0) *room.part = part;
    }

    // ---------------------------------------------------------------- what is rarely done, in double

    __device__ double below(Class c, long long position) const {
        return double(prediction(c, position)) - double(room.most[position]);
    }

    template <typename Kind>
    __device__ void look_closer(Kind) const {
        if constexpr (Kind::IS_EXCLUSIVE)
            each_position([&](long long position) {
                double sum = 0;
#pragma unroll 1
                for (Class c = 0; c < count; ++c)
                    sum += c == room.best[position] ? 0 : exp(below(c, position));
                room.rest[position] = sum;
            });
    }

    __device__ Shares<double> log_shares(OfClasses, Class c, long long position) const {
        const double rest = room.rest[position], log_total = log1p(rest);
        if (c == room.best[position]) return {-log_total, rest / (1 + rest)};
        const double x = below(c, position);
        return {x - log_total, (1 + (rest - exp(x))) / (1 + rest)};
    }
    template <typename Kind>
    __device__ Shares<double> log_shares(Kind kind, Class c, long long position) const {
        return kind.log_shares(prediction(c, position));
    }

    template <typename Kind, typename Term>
    __device__ double sum(Kind kind, Class c, Term term) const {
        double own = 0;
        each_position([&](long long position) {
            own += term(log_shares(kind, c, position), double(truth(c, position)));
        });
        return sum_over_team(own);
    }
    template <typename Kind, typename Term>
    __device__ double largest(Kind kind, Class c, Term term) const {
        double own = LOWEST;
        each_position([&](long long position) {
            own = larger(own, term(log_shares(kind, c, position), double(truth(c, position))));
        });
        return over_team(own, Larger{});
    }

    struct Larger {
        __device__ double operator()(double left, double right) const {
            return larger(left, right);
        }
    };

    template <typename Kind>
    struct Closer {
        const Regions& regions;
        Kind kind;
        long long position;
        double part;
        __device__ Shares<double> shares(Class c) const {
            return regions.log_shares(kind, c, position);
        }
        __device__ double truth(Class c) const { return regions.truth(c, position); }
        __device__ T prediction(Class c) const { return regions.prediction(c, position); }
        __device__ Class best() const { return regions.room.best[position]; }
        __device__ void put(Class c, double slope) const {
            regions.put(c, position, T(part * slope));
        }
    };

    template <typename Kind>
    __device__ void write_closer(Kind kind, double part) const {
        if (!gradient) return;
        if (segments) leave(WRITTEN);
        each_position([&](long long position) {
            write_closer_position(kind, *this, Closer<Kind>{*this, kind, position, part});
        });
    }
};

__device__ void evaluate(const Regions& regions, T& value PARAMETERS);

// How rows lie in segments.
struct Cut {
    long long classes, positions, segment;
    __device__ long long segments() const { return (positions + segment - 1) / segment; }
    __device__ Room room(double* workspace, long long row) const {
        const long long size = room_for(classes, positions, segments());
        return room_in(workspace + row * size, classes, positions, segments());
    }
};

// Whatever all kernels are given.
struct Batch {
    Cut cut;
    long long rows;
    const FIRST* predictions;
    const TARGET* targets;
    const T* scales;
    T scale;
    const unsigned char* silent;
    T* values;
    FIRST* gradient;
    unsigned char* nonfinite;

    __device__ long long columns() const { return cut.classes * cut.positions; }
    __device__ FIRST* gradient_of(long long row) const {
        return gradient ? gradient + row * columns() : nullptr;
    }
    __device__ Results results(long long row) const {
        return {values + row, gradient_of(row), nonfinite + row};
    }
    // A row from a position up to another one, of which so many segments were counted.
    __device__ Regions regions(
        long long row, Room room, long long first, long long end, long long segments) const {
        return {predictions + row * columns(),
                targets + row * (TARGETS_ARE_CLASSES ? cut.positions : columns()), int(cut.classes),
                cut.positions, gradient_of(row), scales ? scales[row] : scale, room, first, end,
                segments};
    }

    // Calls visit(row, segment, regions) for each segment of this block, which is one team, of the rows
    // that are not silent.
    template <typename Visit>
    __device__ void each_segment(double* workspace, Visit visit) const {
        const long long segments = cut.segments();
        for (long long place = blockIdx.x; place < rows * segments; place += gridDim.x) {
            const long long row = place / segments, number = place % segments;
            if (silent && silent[row]) continue;
            const long long first = number * cut.segment, left = cut.positions - first;
            const long long end = first + (left < cut.segment ? left : cut.segment);
            visit(row, number, regions(row, cut.room(workspace, row), first, end, 0));
        }
    }
};

#define BATCH \
    Batch{{parts, columns / parts, segment}, rows, predictions, targets, scales, scale, silent, values, \
          gradient, nonfinite}

extern "C" __global__ void __launch_bounds__(MOST_OF_CLASSES, 1) ROWS_KERNEL(
    const long long rows, const long long columns, const FIRST* predictions, const TARGET* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values, FIRST* gradient,
    unsigned char* nonfinite, const long long parts, const long long segment,
    double* workspace PARAMETERS) {
    const Batch batch = BATCH;
    const long long team = (long long)blockIdx.x * blockDim.y + threadIdx.y;
    const Room room = room_in(workspace + team * room_for(parts, batch.cut.positions, 1), parts,
                              batch.cut.positions, 1);
    each_row(rows, [&](long long row) {
        const Results results = batch.results(row);
        if (silent && silent[row]) return results.silence(columns);
        const Regions regions = batch.regions(row, room, 0, batch.cut.positions, 0);
        T value;
        evaluate(regions, value ARGUMENTS);
        results.write(value, regions.taint, regions.outside);
    });
}

extern "C" __global__ void __launch_bounds__(MOST_OF_CLASSES, 1) COUNTS_KERNEL(
    const long long rows, const long long columns, const FIRST* predictions, const TARGET* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values, FIRST* gradient,
    unsigned char* nonfinite, const long long parts, const long long segment,
    double* workspace PARAMETERS) {
    const Batch batch = BATCH;
    with_kind(prediction_kind, [&](auto kind) {
        batch.each_segment(workspace, [&](long long, long long number, const Regions& regions) {
            regions.count_segment(kind, number, batch.cut.segments());
        });
    });
}

extern "C" __global__ void __launch_bounds__(MOST_OF_CLASSES, 1) SUMS_KERNEL(
    const long long rows, const long long columns, const FIRST* predictions, const TARGET* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values, FIRST* gradient,
    unsigned char* nonfinite, const long long parts, const long long segment,
    double* workspace PARAMETERS) {
    const Batch batch = BATCH;
    each_row(rows, [&](long long row) {
        const Results results = batch.results(row);
        if (silent && silent[row]) return results.silence(columns);
        const Regions regions = batch.regions(row, batch.cut.room(workspace, row), 0,
                                              batch.cut.positions, batch.cut.segments());
        T value;
        evaluate(regions, value ARGUMENTS);
        results.write(value, regions.taint, regions.outside);
    });
}

// Each segment with a number that is not finite flags it, all in the same words.
extern "C" __global__ void __launch_bounds__(MOST_OF_CLASSES, 1) SLOPES_KERNEL(
    const long long rows, const long long columns, const FIRST* predictions, const TARGET* targets,
    const T* scales, const T scale, const unsigned char* silent, T* values, FIRST* gradient,
    unsigned char* nonfinite, const long long parts, const long long segment,
    double* workspace PARAMETERS) {
    if (!gradient) return;
    const Batch batch = BATCH;
    with_kind(prediction_kind, [&](auto kind) {
        batch.each_segment(workspace, [&](long long row, long long, const Regions& regions) {
            const double part = *regions.room.part;
            if (part == WRITTEN) return;
            regions.write(kind, T(part));
            const bool is_tainted = any_of_team(regions.taint != 0);
            if (is_tainted && threadIdx.x == 0) nonfinite[row] |= NONFINITE;
        });
    });
}
