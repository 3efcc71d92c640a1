// The kernel of the losses that compare element with element; what a text may say is told in
// ../pointwise.cuh.  An example is a row of `columns` elements; its value is their mean.
//
// What is here is compiled once for all texts; pointwise_text.hpp is what each of them stands in.

// One number for each element of a block.
struct Weights {
    const T* items;
    METHOD T operator[](int column) const { return items[column]; }
};

struct Elements {
    const T* inputs[MOST_INPUTS];
    Weights vectors[MOST_VECTORS];  // the lists among the parameters
};

// Values and slopes of whole groups of elements, by the text of a loss.
typedef void (*Evaluate)(
    const Call& call, const Elements& given, int count, T* values, T* slopes);

// A text, and how much it is given.
struct Pointwise {
    Evaluate evaluate;
    int inputs, vectors;
};

// Where blocks are computed.
struct Room {
    ON_LINES T inputs[MOST_INPUTS][spaced<T>(BLOCK)];
    ON_LINES T vectors[MOST_VECTORS][spaced<T>(BLOCK)];
    ON_LINES T values[spaced<T>(BLOCK)], slopes[spaced<T>(BLOCK)];
};

INLINE Elements staged(
    const Pointwise& text, const Call& call, int64_t first, int count, Room& room) {
    Elements given;
    for (int i = 0; i < text.inputs; ++i)
        given.inputs[i] = stage(call.inputs[i], first, count, room.inputs[i]);
    for (int i = 0; i < text.vectors; ++i) given.vectors[i] = Weights{room.vectors[i]};
    return given;
}

INLINE bool breaks_a_rule(
    const Pointwise& text, const Call& call, const Elements& given, int count) {
    bool found = false;
    for (int i = 0; i < text.inputs; ++i)
        if (call.inputs[i].rule != ANY)
            found |= any_outside(call.inputs[i], given.inputs[i], count);
    return found;
}

// Lays the lists of parameters along the elements of a block, whose first is of column `first`.
INLINE void lay_vectors(
    const Pointwise& text, const Call& call, int64_t first, int count, Room& room) {
    for (int v = 0; v < text.vectors; ++v) {
        T* const laid = room.vectors[v];
        const T* const items = call.vectors[v];
        for (int i = 0; i < BLOCK; ++i) laid[i] = 1;
        if (!items) continue;
        for (int i = 0; i < count;) {
            const int64_t left = call.columns - first;
            const int here = left < count - i ? int(left) : count - i;
            __builtin_memcpy(laid + i, items + first, here * sizeof(T));
            first = 0;
            i += here;
        }
    }
}

constexpr double SHRINK = 5.421010862427522e-20;  // 2^-64

// The mean of a row from the sum of its numbers; add(sum, shrink) adds them all, each times `shrink`.  A
// sum may be beyond double where the mean is not.
template <typename Add>
INLINE T mean_of_row(const Call& call, Add add) {
    Lanes sum;
    add(sum, T(1));
    const double mean = sum.total() / call.elements;
    if (sizeof(T) < sizeof(double) || is_finite(T(mean))) return T(mean);
    Lanes shrunk;
    add(shrunk, T(SHRINK));
    return T(shrunk.total() / call.elements / SHRINK);
}

INLINE void shrink_all(T* numbers, int count, T shrink) {
    INDEPENDENT
    for (int i = 0; i < count; ++i) numbers[i] *= shrink;
}

// Calls visit(first element, count) for each block of a row, when its values and slopes are in the room.
template <typename Visit>
INLINE void each_block_of_row(
    const Pointwise& text, Call& call, int64_t row, Room& room, Visit visit) {
    each_block_of(call.columns, [&](int64_t start, int count) INLINED {
        const int64_t first = row * call.columns + start;
        const int groups = whole_groups(count);
        const Elements given = staged(text, call, first, count, room);
        call.outside |= breaks_a_rule(text, call, given, groups);
        lay_vectors(text, call, start, count, room);
        text.evaluate(call, given, groups, room.values, room.slopes);
        for (int i = count; i < groups; ++i) room.values[i] = 0;
        visit(first, count);
    });
}

// Rows of several blocks each.
OUTLINE void compute_long(const Pointwise& text, Call& call, Results& results, Block block) {
    Room room;
    for (int64_t row = block.first; row < block.end; ++row) {
        if (call.silent && call.silent[row]) {
            results.silence(row);
            continue;
        }
        const T scale = call.scales ? call.scales[row] : T(call.scale);
        bool is_finite = true;
        const T mean = mean_of_row(call, [&](Lanes& sum, T shrink) INLINED {
            each_block_of_row(text, call, row, room, [&](int64_t first, int count) INLINED {
                if (shrink != 1) shrink_all(room.values, whole_groups(count), shrink);
                else if (call.gradient) is_finite &= put(call, first, count, room.slopes, scale);
                sum.add(room.values, whole_groups(count));
            });
        });
        results.add(row, mean, is_finite);
    }
}

// The mean of the few elements of a row, summed in the lanes that a longer one would have.
INLINE T mean_of(const Call& call, const T* numbers) {
    const int count = int(call.columns);
    if (count == 1) return T(numbers[0] / call.elements);
    ON_LINES T padded[BLOCK] = {};
    __builtin_memcpy(padded, numbers, count * sizeof(T));
    return mean_of_row(call, [&](Lanes& sum, T shrink) INLINED {
        if (shrink != 1) shrink_all(padded, count, shrink);
        sum.add(padded, whole_groups(count));
    });
}

// Writes the slopes of whole rows.
INLINE bool put_rows(const Call& call, int64_t row, int rows, Room& room) {
    const int columns = int(call.columns);
    const int64_t first = row * columns;
    if (!call.silent && !call.scales) {
        const T scale = T(call.scale);
        return put(call, first, rows * columns, room.slopes, scale);
    }
    ON_LINES T scales[BLOCK] = {};
    for (int r = 0; r < rows; ++r) {
        const bool is_silent = call.silent && call.silent[row + r];
        const T scale = call.scales ? call.scales[row + r] : T(call.scale);
        for (int i = 0; i < columns; ++i) scales[r * columns + i] = is_silent ? T(0) : scale;
    }
    return put(call, first, rows * columns, room.slopes, T(1), scales);
}

// Notes whether a row that is not silent breaks a rule.
INLINE void look_for_outside(
    const Pointwise& text, Call& call, const Elements& given, int64_t row, int rows) {
    const int columns = int(call.columns);
    for (int r = 0; r < rows; ++r) {
        if (call.silent && call.silent[row + r]) continue;
        for (int i = 0; i < text.inputs; ++i)
            for (int c = 0; c < columns && call.inputs[i].rule != ANY; ++c)
                call.outside |= any_outside(call.inputs[i], given.inputs[i] + r * columns + c, 1);
    }
}

// Rows of one block or less: several rows a block.
OUTLINE void compute_short(const Pointwise& text, Call& call, Results& results, Block block) {
    Room room;
    const int columns = int(call.columns), most = BLOCK / columns;
    lay_vectors(text, call, 0, most * columns, room);
    for (int64_t row = block.first; row < block.end; row += most) {
        const int rows = block.end - row < most ? int(block.end - row) : most;
        const int count = rows * columns, groups = whole_groups(count);
        const Elements given = staged(text, call, row * columns, count, room);
        if (breaks_a_rule(text, call, given, groups)) look_for_outside(text, call, given, row, rows);
        text.evaluate(call, given, groups, room.values, room.slopes);
        const bool is_finite = !call.gradient || put_rows(call, row, rows, room);
        if (columns == 1 && is_finite && !call.silent && results.add_all(row, rows, room.values))
            continue;
        for (int r = 0; r < rows; ++r) {
            const bool is_silent = call.silent && call.silent[row + r];
            const T value = is_silent ? T(0) : mean_of(call, room.values + r * columns);
            results.add(row + r, value, is_finite || has_finite_gradient(call, row + r));
        }
    }
}

OUTLINE bool compute(const Pointwise& text, Call& call) {
    each_block_of_rows(call, [&](Results& results, Block block) {
        if (call.columns > BLOCK)
            compute_long(text, call, results, block);
        else
            compute_short(text, call, results, block);
    });
    return true;
}
