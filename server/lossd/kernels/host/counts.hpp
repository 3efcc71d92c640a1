// What soft counts over all examples take: of each label, the weighted sums of p t, p (1 - t) and
// (1 - p) t, where p is the sigmoid of a prediction; and derivatives with respect to it.
//
// Numbers are taken in runs.  Of few labels a run is some whole rows, so many that whole groups of
// numbers meet the same labels again; else it is a part of a row.  What is added to a sum, and in which
// order, depends on the number of labels alone.

constexpr int COUNTS = 3;

struct Runs {
    int64_t labels, elements;
    int period;  // numbers after which labels begin again with a group; 0 for parts of rows

    explicit Runs(const Call& call) : labels(call.columns), elements(call.rows * call.columns), period(0) {
        for (int64_t found = labels; found <= BLOCK && !period; found += labels)
            if (found % GROUP == 0) period = int(found);
    }
    METHOD int64_t places() const { return period ? period : (labels + GROUP - 1) / GROUP * GROUP; }

    // Calls visit(first number, count, place in the row of the first).
    template <typename Visit>
    METHOD void each(Visit visit) const {
        const int64_t most = period ? BLOCK / period * period : BLOCK;
        const int64_t length = period ? elements : labels;
        for (int64_t row = 0; row < elements; row += length)
            for (int64_t start = 0; start < length; start += most)
                visit(row + start, int(length - start < most ? length - start : most),
                      period ? 0 : start);
    }
};

struct Room {
    ON_LINES T predictions[spaced<T>(BLOCK)];
    ON_LINES T targets[spaced<T>(BLOCK)];
    ON_LINES T weights[spaced<T>(BLOCK)];
    ON_LINES T terms[COUNTS][spaced<T>(BLOCK)];
    ON_LINES T products[spaced<T>(BLOCK)];
    ON_LINES T by_true[spaced<T>(BLOCK)];
    ON_LINES T by_false[spaced<T>(BLOCK)];
};

// Lays the weights of examples along a run.
INLINE void lay_weights(const Call& call, const Runs& runs, int64_t first, int count, T* laid) {
    if (runs.labels == 1) {
        INDEPENDENT
        for (int i = 0; i < count; ++i) laid[i] = T(call.weights[first + i]);
        return;
    }
    int64_t row = first / runs.labels, column = first % runs.labels;
    for (int i = 0; i < count; ++i) {
        laid[i] = T(call.weights[row]);
        if (++column == runs.labels) column = 0, ++row;
    }
}

// Of whole groups of logits: p t, p (1 - t), (1 - p) t, and p (1 - p), to `products`.  Returns whether
// there are exponentials so small that they have to be made with more care.
template <typename Exponential>
INLINE bool count_all(
    const T* __restrict predictions, const T* __restrict targets, int count, Room& room,
    T* __restrict products, Exponential exponential) {
    T* __restrict const hits = room.terms[0];
    T* __restrict const extra = room.terms[1];
    T* __restrict const missed = room.terms[2];
    Bits far = 0;
    INDEPENDENT
    for (int i = 0; i < count; ++i) {
        const T size = fabs(predictions[i]);
        far |= size <= -Format<T>::FAINT ? Bits(0) : Bits(1);
        const T tail = exponential(-size), large = 1 / (1 + tail), small = tail * large;
        const bool is_positive = predictions[i] >= 0;
        const T inside = pick(is_positive, large, small), outside = pick(is_positive, small, large);
        hits[i] = inside * targets[i];
        extra[i] = inside * (1 - targets[i]);
        missed[i] = outside * targets[i];
        products[i] = large * small;
    }
    return far != 0;
}

INLINE void add_run(double* sums, int period, const T* terms, int count) {
    if (period == GROUP) return add_to_lanes(sums, terms, count);
    const int step = period ? period : whole_groups(count);
    for (int start = 0; start < count; start += step) {
        INDEPENDENT
        for (int i = 0; i < step; ++i) sums[i] += terms[start + i];
    }
}

// Returns false where there is not the memory.
OUTLINE bool count(Call& call) {
    const Runs runs(call);
    const int64_t places = runs.places();
    double* const sums =
        static_cast<double*>(aligned_alloc(LINE_BYTES, COUNTS * places * int64_t(sizeof(double))));
    if (!sums) return false;
    for (int64_t i = 0; i < COUNTS * places; ++i) sums[i] = 0;
    Room room;
    runs.each([&](int64_t first, int count, int64_t place) INLINED {
        const T* const predictions = stage(call.inputs[0], first, count, room.predictions);
        const T* const targets = stage(call.inputs[1], first, count, room.targets);
        const int groups = whole_groups(count);
        call.outside |= any_outside(call.inputs[1], targets, groups);
        char* const to = call.gradient + first * int64_t(sizeof(T));
        const bool is_direct = call.gradient && count == groups && uintptr_t(to) % sizeof(T) == 0;
        T* const products = is_direct ? reinterpret_cast<T*>(to) : room.products;
        const auto quick = [](T x) INLINED { return exp_within(x); };
        const auto careful = [](T x) INLINED { return exp(x); };
        if (count_all(predictions, targets, groups, room, products, quick))
            count_all(predictions, targets, groups, room, products, careful);
        if (call.gradient && !is_direct) __builtin_memcpy(to, products, count * sizeof(T));
        if (call.weights) lay_weights(call, runs, first, count, room.weights);
        const int step = runs.period ? runs.period : GROUP;
        const int end = (count + step - 1) / step * step;
        for (int sum = 0; sum < COUNTS; ++sum) {
            T* const terms = room.terms[sum];
            if (call.weights)
                for (int i = 0; i < count; ++i) terms[i] *= room.weights[i];
            for (int i = count; i < end; ++i) terms[i] = 0;
            add_run(sums + sum * places + place, runs.period, terms, end);
        }
    });
    for (int sum = 0; sum < COUNTS; ++sum)
        for (int64_t label = 0; label < runs.labels; ++label) {
            double total = 0;
            for (int64_t i = label; i < places; i += runs.labels) total += sums[sum * places + i];
            call.sums[sum * runs.labels + label] = total;
        }
    free(sums);
    return true;
}

// Makes derivatives of the products p (1 - p) that were left in their place, from what each label has
// for a share that is true and one that is false.  A row counts as not finite where any of them is not.
OUTLINE bool slope(Call& call) {
    const Runs runs(call);
    Room room;
    for (int i = 0; i < BLOCK && runs.period; ++i) {
        room.by_true[i] = call.vectors[0][i % runs.labels];
        room.by_false[i] = call.vectors[1][i % runs.labels];
    }
    runs.each([&](int64_t first, int count, int64_t place) INLINED {
        const T* const targets = stage(call.inputs[1], first, count, room.targets);
        T* const slopes = reinterpret_cast<T*>(call.gradient) + first;
        if (call.weights) lay_weights(call, runs, first, count, room.weights);
        const T* const by_true = runs.period ? room.by_true : call.vectors[0] + place;
        const T* const by_false = runs.period ? room.by_false : call.vectors[1] + place;
        Bits found = 0;
        INDEPENDENT
        for (int i = 0; i < count; ++i) {
            slopes[i] *= targets[i] * by_true[i] + (1 - targets[i]) * by_false[i];
            found |= overflow_of(slopes[i]);
        }
        call.nonfinite_rows |= found != 0;
        if (!call.weights) return;
        INDEPENDENT
        for (int i = 0; i < count; ++i) {
            slopes[i] *= room.weights[i];
            found |= overflow_of(slopes[i]);
        }
        call.nonfinite_rows |= found != 0;
    });
    return true;
}
