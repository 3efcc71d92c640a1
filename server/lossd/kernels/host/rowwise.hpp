// The kernel of the losses whose example is a row of classes; what a text may say is told in
// ../rowwise.cuh.  A row is read several times while it is in the cache.
//
// What an expression comes to is computed for a block of columns in one loop, whose rounds do not know
// of each other: the compiler makes vectors of it, as wide as the machine has them.  Then it is summed
// in lanes.  rowwise_text.hpp is what each text stands in.

// One number for each column of a row, in whole groups; 1 where the request gave none.  Then there are
// items all the same, of any value: a loop reads them and selects, where it could not skip them.
struct Weights {
    const T* items;
    bool is_given;
    METHOD T operator[](int64_t column) const {
        const Bits kept = is_given ? ~Bits(0) : Bits(0);
        return bits<T>((bits<Bits>(items[column]) & kept) | (bits<Bits>(T(1)) & ~kept));
    }
};

INLINE int64_t padded(int64_t columns) { return (columns + GROUP - 1) / GROUP * GROUP; }

// The largest of some numbers, the lowest column of equals; a NaN is larger than any number.
struct Largest {
    T value;
    Column column;  // -1: of no numbers
};

// Takes what is larger in a block; returns whether it is a NaN.
OUTLINE bool take_largest(const T* terms, Column start, int count, Largest& found) {
    Bits is_nan = 0;
    INDEPENDENT
    for (int i = 0; i < whole_groups(count); ++i)
        is_nan |= terms[i] != terms[i] ? Bits(1) : Bits(0);
    const T most = largest_of(terms, whole_groups(count));
    if (!is_nan && !(most > found.value)) return false;
    int place = 0;
    while (is_nan ? terms[place] == terms[place] : terms[place] != most) ++place;
    found = Largest{terms[place], Column(start + place)};
    return is_nan;
}

// A row of numbers in blocks, of which the last is filled up to whole groups.
struct Numbers {
    const T* items;
    const T* last;  // the last block
    METHOD const T* block(int64_t start, int count, int64_t columns) const {
        return start + count == columns ? last : items + start;
    }
};

// One example: the inputs of its row and where its gradient goes.
struct Example {
    Call& call;
    Numbers predictions;
    Numbers shares;  // the target distribution, where the target is not a class
    Column label;
    Column columns;
    int64_t first;  // of the elements of the row, in the gradient
    T scale;
    const T* next;           // where the predictions of the next row are, if they are
    const Weights* vectors;  // the lists among the parameters
    T* kept;                 // room for the exponentials of each softmax
    bool& is_finite;
};

// The same, as a text knows it: with class indices, or a share of each class.
template <bool TARGETS_ARE_CLASSES>
struct Row : Example {
    // Calls visit(first column, number of columns) for every block.
    template <typename Visit>
    METHOD void each_block(Visit visit) const {
        for (Column start = 0; start < columns; start += BLOCK)
            visit(start, columns - start < BLOCK ? int(columns - start) : BLOCK);
    }

    // Has the memory bring what comes next while there is much to compute: where the gradient of a
    // block goes, and the same block of the next row.
    METHOD void fetch_ahead(Column start, int count) const {
        constexpr int LINE = 64 / sizeof(T);
        for (int i = 0; i < count; i += LINE) __builtin_prefetch(next + start + i);
        if (!call.gradient) return;
        const int64_t size = size_of(call.gradient_kind);
        const char* const to = call.gradient + (first + start) * size;
        for (int64_t i = 0; i < count * size; i += 64) __builtin_prefetch(to + i, 1);
    }

    // What a term comes to at the columns of a block, in whole groups.
    template <typename Term>
    METHOD void evaluate(Term term, Column start, int count, T* __restrict terms) const {
        const T* const prediction = predictions.block(start, count, columns);
        const T* const share = TARGETS_ARE_CLASSES ? nullptr : shares.block(start, count, columns);
        const auto target = [&](Column i) {
            return !TARGETS_ARE_CLASSES ? share[i] : start + i == label ? T(1) : T(0);
        };
        const Column groups = whole_groups(count);
        INDEPENDENT
        for (Column i = 0; i < groups; ++i) terms[i] = term(start + i, prediction[i], target(i));
    }

    template <typename Term>
    METHOD T sum(Term term) const {
        Lanes sum;
        each_block([&](Column start, int count) {
            T terms[BLOCK];
            evaluate(term, start, count, terms);
            for (int i = count; i < whole_groups(count); ++i) terms[i] = 0;
            sum.add(terms, whole_groups(count));
        });
        return T(sum.total());
    }

    // The largest of all columns but one.
    template <typename Term>
    METHOD Largest largest(Term term, Column excluded = -1) const {
        Largest found{-INFINITE<T>, excluded == 0 && columns > 1 ? Column(1) : Column(0)};
        if (columns == 1 && excluded == 0) return Largest{T(0), -1};
        bool is_nan = false;
        each_block([&](Column start, int count) {
            T terms[BLOCK];
            evaluate(term, start, count, terms);
            for (int i = count; i < whole_groups(count); ++i) terms[i] = -INFINITE<T>;
            if (excluded >= start && excluded < start + count) terms[excluded - start] = -INFINITE<T>;
            if (!is_nan) is_nan = take_largest(terms, start, count, found);
        });
        return found;
    }

    template <typename Slope>
    METHOD void write(Slope slope) const {
        if (!call.gradient) return;
        each_block([&](Column start, int count) {
            T slopes[BLOCK];
            evaluate(slope, start, count, slopes);
            is_finite &= put(call, first + start, count, slopes, scale);
        });
    }
};

// The logits of a row as a softmax takes them: divided by a temperature and, where there are priors
// of the classes, with strength * log(prior / their sum) added.  Large logits would swallow that, so
// what they have in `common` is taken off first.  Plain ones are the predictions as they are, which a
// loop had better know before it begins.
template <bool IS_PLAIN>
struct LogitsOf {
    T temperature;
    Weights priors;
    T strength;
    T total;
    T common;

    METHOD T operator()(int64_t column, T prediction) const {
        if (IS_PLAIN) return prediction;
        const T scaled = prediction / temperature;
        const T shifted = (scaled - common) + strength * log(priors[column] / total);
        return priors.is_given ? shifted : scaled;
    }
};

INLINE bool is_plain(T temperature, Weights priors, T) {
    return temperature == 1 && !priors.is_given;
}

template <bool IS_PLAIN, typename Row>
INLINE LogitsOf<IS_PLAIN> logits_of(const Row& row, T temperature, Weights priors, T strength) {
    if (!priors.is_given) return {temperature, priors, strength, T(1), T(0)};
    const T total = row.sum([&](Column column, T, T) { return priors[column]; });
    const T largest =
        row.largest([](Column, T prediction, T) { return prediction; }).value / temperature;
    return {temperature, priors, strength, total, is_finite(largest) ? largest : T(0)};
}

// The first place of a number; where it is not, no less than count.
OUTLINE int place_of(const T* numbers, int count, T wanted) {
    for (int start = 0; start < count; start += GROUP) {
        Bits found = 0;
        INDEPENDENT
        for (int i = 0; i < GROUP; ++i) found |= numbers[start + i] == wanted ? Bits(1) : Bits(0);
        for (int i = 0; found && i < GROUP; ++i)
            if (numbers[start + i] == wanted) return start + i;
    }
    return count;
}

// The largest of a softmax's logits.  It is looked for again in the block that has it, which is quicker
// than to carry its place along; where there is a NaN, the sum of the exponentials shows it.
template <typename Row, typename Logit>
INLINE Largest best_of(const Row& row, Logit logit) {
    T best = -INFINITE<T>;
    Column begin = 0;
    row.each_block([&](Column start, int count) {
        T logits[BLOCK];
        row.evaluate(logit, start, count, logits);
        for (int i = count; i < whole_groups(count); ++i) logits[i] = -INFINITE<T>;
        const T most = largest_of(logits, whole_groups(count));
        if (!(most > best)) return;
        best = most;
        begin = start;
    });
    const int count = row.columns - begin < BLOCK ? int(row.columns - begin) : BLOCK;
    T logits[BLOCK];
    row.evaluate(logit, begin, count, logits);
    const int place = place_of(logits, count, best);
    return Largest{best, begin + (place < count ? place : 0)};
}

// The softmax of a row in the parts that keep full relative accuracy, see losses/_softmax.py.
struct Softmax {
    Largest best;
    T rest;   // sum of the exponentials without that of the best, which is 1
    T total;  // with it
    const T* kept;

    METHOD T exponential(int64_t column, T) const { return kept[column]; }
    METHOD T log_sum_exp() const { return best.value + log1p(rest); }
    // -log p of a class.
    METHOD T negative_log(int64_t column, T logit) const {
        return (column == best.column ? T(0) : best.value - logit) + log1p(rest);
    }
    // (1 - p) times the total, of a class.
    METHOD T others(int64_t column, T logit) const {
        return column == best.column ? rest : 1 + (rest - exponential(column, logit));
    }
};

template <typename Row, typename Logit>
INLINE Softmax softmax_of(const Row& row, int number, Logit logit) {
    const Largest best = best_of(row, logit);
    T* const kept = row.kept + number * int64_t(padded(row.columns));
    Lanes sum;
    row.each_block([&](Column start, int count) {
        row.fetch_ahead(start, count);
        T* const exponentials = kept + start;
        const auto exponential = [&](Column column, T prediction, T target) {
            return exp(logit(column, prediction, target) - best.value);
        };
        row.evaluate(exponential, start, count, exponentials);
        for (int i = count; i < whole_groups(count); ++i) exponentials[i] = 0;
        const bool is_here = best.column >= start && best.column < start + count;
        if (is_here) kept[best.column] = 0;
        sum.add(exponentials, whole_groups(count));
        if (is_here) kept[best.column] = 1;
    });
    const T rest = T(sum.total());
    // A NaN and a row of nothing but -inf have no softmax, also where there is but one class: their
    // difference with themselves is NaN.
    const T found = best.value > 0 ? rest : rest + (best.value - best.value);
    return Softmax{best, found, 1 + found, kept};
}

#define AT_COLUMN(...) [&](Column column, T prediction, T target) -> T { return __VA_ARGS__; }
#define PREDICTION_AT(column) (row.predictions.items[column])
#define TARGET_AT(column) (row.shares.items[column])
#define SUM_OVER_ROW(...) row.sum(AT_COLUMN(__VA_ARGS__))
#define LARGEST_BUT(excluded, ...) row.largest(AT_COLUMN(__VA_ARGS__), excluded)
#define LOGITS_OF_ROW(...) logits_of<IS_PLAIN>(row, __VA_ARGS__)
#define SOFTMAX_OF_ROW(...) softmax_of(row, softmaxes++, AT_COLUMN(__VA_ARGS__))
#define GRADIENT_OF_ROW(...) row.write(AT_COLUMN(__VA_ARGS__))

// The value of an example, by the text of a loss; also writes its gradient.
typedef T (*EvaluateRow)(const Example& example);

// A text, and how much it is given.
struct Rowwise {
    EvaluateRow evaluate;
    bool targets_are_classes;
    int vectors, softmaxes;
};

// Rows of an input, used where they are if they can be.
struct Rows {
    const Input& input;
    int64_t columns;
    T* room;  // for a row, null if none is needed
    T last[BLOCK];

    METHOD bool is_in_place() const {
        return input.kind == OWN && uintptr_t(input.place) % sizeof(T) == 0;
    }

    METHOD Numbers at(int64_t row) {
        const char* const from = input.place + row * columns * size_of(input.kind);
        const int tail = int((columns - 1) % BLOCK + 1);
        const int64_t before = columns - tail;
        if (!is_in_place())
            for (int64_t start = 0; start < columns; start += BLOCK)
                read(input.kind, from + start * size_of(input.kind), room + start,
                     start == before ? tail : BLOCK);
        const T* const items = is_in_place() ? reinterpret_cast<const T*>(from) : room;
        const Input own{reinterpret_cast<const char*>(items), OWN, ANY, 0, 0};
        return Numbers{items, stage(own, before, tail, last)};
    }
};

INLINE bool breaks_a_rule(const Call& call, const Input& input, const Numbers& numbers) {
    bool found = false;
    for (int64_t start = 0; start < call.columns && input.rule != ANY; start += BLOCK) {
        const int64_t left = call.columns - start;
        const int count = left < BLOCK ? int(left) : BLOCK;
        const T* const block = numbers.block(start, count, call.columns);
        found |= any_outside(input, block, whole_groups(count));
    }
    return found;
}

// Room for rows of numbers, one after the other.
struct Room {
    T* free;
    int64_t length;

    METHOD T* take() {
        T* const taken = free;
        free += length;
        return taken;
    }
};

// Returns false where there is not the memory.
OUTLINE bool compute(const Rowwise& text, Call& call) {
    const int64_t length = padded(call.columns);
    T* const all = static_cast<T*>(malloc((3 + text.vectors + text.softmaxes) * length * sizeof(T)));
    if (!all) return false;
    Room room{all, length};
    T* const kept = room.take();
    for (int i = 1; i < text.softmaxes; ++i) room.take();
    Weights vectors[MOST_VECTORS];
    for (int v = 0; v < text.vectors; ++v) {
        const T* const given = call.vectors[v];
        T* const items = given ? room.take() : kept;
        if (given) __builtin_memcpy(items, given, call.columns * sizeof(T));
        vectors[v] = Weights{items, given != nullptr};
    }
    Results results{call, {}};
    Rows predictions{call.inputs[0], call.columns, room.take(), {}};
    Rows shares{call.inputs[1], call.columns, room.take(), {}};
    for (int64_t number = 0; number < call.rows; ++number) {
        if (call.silent && call.silent[number]) {
            results.silence(number);
            continue;
        }
        const Numbers prediction = predictions.at(number);
        Numbers share{nullptr, nullptr};
        int64_t label = -1;
        if (text.targets_are_classes) {
            __builtin_memcpy(&label, call.inputs[1].place + number * 8, 8);
        } else {
            share = shares.at(number);
            call.outside |= breaks_a_rule(call, call.inputs[1], share);
        }
        call.outside |= breaks_a_rule(call, call.inputs[0], prediction);
        bool is_finite = true;
        const T* const next = prediction.items + (predictions.is_in_place() ? call.columns : 0);
        const Example example{
            call, prediction, share, Column(label), Column(call.columns), number * call.columns,
            call.scales ? call.scales[number] : T(call.scale), next, vectors, kept, is_finite};
        const T value = text.evaluate(example);
        results.add(number, value, is_finite);
    }
    free(all);
    call.sum = results.sum.total();
    return true;
}
