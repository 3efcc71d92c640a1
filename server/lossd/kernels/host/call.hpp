// How blocks of numbers are read and written.

constexpr Kind OWN = sizeof(T) == 4 ? FLOAT32 : FLOAT64;
typedef Format<T>::Signed Column;  // as wide as T, so that columns are compared as fast as T are
typedef Format<T>::Unsigned Bits;
constexpr T SMALLEST = Format<T>::SMALLEST_NORMAL;

// A share of a cost: a share of 0 takes nothing of it, also of infinity and NaN.
template <typename Share, typename Cost>
INLINE auto weighed(Share share, Cost cost) {
    const auto product = share * cost;
    return pick(share == 0, decltype(share * cost)(0), product);
}

// Bits of which any is set where a number is not finite.  Those of a half have the largest exponent then:
// one more reaches the sign.
INLINE Bits overflow_of(T x) { return bits<Bits>(x - x); }
template <typename Number>
INLINE Number overflow_of(Number all, int digits) {
    const Number sign = Number(Number(1) << (sizeof(Number) * 8 - 1));
    return Number((all & Number(~sign)) + Number(Number(1) << digits)) & sign;
}

INLINE bool is_finite(T x) { return x - x == 0; }

// Whether any of whole groups of numbers breaks a rule.
OUTLINE bool any_outside(const Input& input, const T* numbers, int count) {
    const T low = T(input.low), high = T(input.high);
    Bits found = 0;
    if (input.rule == BETWEEN) {
        INDEPENDENT
        for (int i = 0; i < count; ++i)
            found |= numbers[i] >= low && numbers[i] <= high ? Bits(0) : Bits(1);
    } else if (input.rule == BETWEEN_OR_NAN) {
        INDEPENDENT
        for (int i = 0; i < count; ++i)
            found |= numbers[i] < low || numbers[i] > high ? Bits(1) : Bits(0);
    } else {
        INDEPENDENT
        for (int i = 0; i < count; ++i)
            found |= numbers[i] != low && numbers[i] != high ? Bits(1) : Bits(0);
    }
    return found != 0;
}

// Elements of an input from one place on, in whole groups, of which the last is filled up with the last
// element.  They are used where they are if they can be, and else copied to `room`.
INLINE const T* stage(const Input& input, int64_t first, int count, T* room) {
    const char* from = input.place + first * size_of(input.kind);
    const bool fits = input.kind == OWN && uintptr_t(from) % sizeof(T) == 0;
    if (fits && count % GROUP == 0) return reinterpret_cast<const T*>(from);
    if (input.kind == OWN) __builtin_memcpy(room, from, count * sizeof(T));
    else read(input.kind, from, room, count);
    for (int i = count; i < whole_groups(count); ++i) room[i] = room[count - 1];
    return room;
}

// What is written so goes to memory past the caches, without being read from there before; whoever writes
// so fences at the end.
#ifdef __x86_64__
INLINE void fence() { _mm_sfence(); }

INLINE void stream_line(char* to, const char* from) {
    for (int i = 0; i < LINE_BYTES; i += VECTOR_BYTES) {
#if defined(__AVX512F__)
        _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), _mm512_loadu_si512(from + i));
#elif defined(__AVX__)
        _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i),
                            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)));
#else
        _mm_stream_si128(reinterpret_cast<__m128i*>(to + i),
                         _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
#endif
    }
}

// Parts of lines go there word by word: the processor puts lines together whose parts follow each other.
// Written otherwise they would be read first, and all that is written after them would wait for that.
INLINE void stream_part(char* to, const char* from, int bytes) {
    int done = 0;
    if (uintptr_t(to) % sizeof(int) == 0)
        for (; done + int(sizeof(int)) <= bytes; done += int(sizeof(int))) {
            int word;
            __builtin_memcpy(&word, from + done, sizeof word);
            _mm_stream_si32(reinterpret_cast<int*>(to + done), word);
        }
    __builtin_memcpy(to + done, from + done, bytes - done);
}
#else
INLINE void fence() {}
INLINE void stream_line(char* to, const char* from) { __builtin_memcpy(to, from, LINE_BYTES); }
INLINE void stream_part(char* to, const char* from, int bytes) { __builtin_memcpy(to, from, bytes); }
#endif

OUTLINE void stream(char* to, const char* from, int bytes) {
    if (bytes < 2 * LINE_BYTES) {  // of which few lines are whole
        __builtin_memcpy(to, from, bytes);
        return;
    }
    const int before = int(-uintptr_t(to) % LINE_BYTES), head = before < bytes ? before : bytes;
    stream_part(to, from, head);
    int done = head;
    for (; done + LINE_BYTES <= bytes; done += LINE_BYTES) stream_line(to + done, from + done);
    stream_part(to + done, from + done, bytes - done);
}

// Writes finished numbers to their place in the gradient.
INLINE void send(const Call& call, char* to, const void* from, int bytes) {
    if (call.streams) stream(to, static_cast<const char*>(from), bytes);
    else __builtin_memcpy(to, from, bytes);
}

// Rounds whole groups, and returns whether all of that is finite.
template <typename Half, typename Convert>
INLINE bool round_all(const T* numbers, int count, Half* rounded, int digits, Convert half) {
    Half found = 0;
    INDEPENDENT
    for (int i = 0; i < count; ++i) {
        rounded[i] = half(float(numbers[i]));
        found |= overflow_of(rounded[i], digits);
    }
    return found == 0;
}

OUTLINE bool round_to_float16(const T* numbers, int count, uint16_t* rounded) {
#ifdef __F16C__
    static_assert(GROUP % HALVES == 0, "groups are converted whole");
    __m128i found = _mm_setzero_si128();
    for (int i = 0; i < count; i += HALVES) {
        float given[HALVES];
        for (int k = 0; k < HALVES; ++k) given[k] = float(numbers[i + k]);
        const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(given), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(rounded + i), halves);
        const __m128i size = _mm_and_si128(halves, _mm_set1_epi16(0x7fff));
        found = _mm_or_si128(found, _mm_add_epi16(size, _mm_set1_epi16(1 << 10)));
    }
    return !(_mm_movemask_epi8(found) & 0xaaaa);  // the sign of any
#else
    return round_all(numbers, count, rounded, 10, to_float16);
#endif
}

OUTLINE bool round_to_bfloat16(const T* numbers, int count, uint16_t* rounded) {
    return round_all(numbers, count, rounded, 7, to_bfloat16);
}

// Writes whole groups of slopes, times what scale(i) says, and returns whether all of that is finite.
template <typename Scale>
INLINE bool scale_all(const T* slopes, int count, T* out, Scale scale) {
    Bits found = 0;
    INDEPENDENT
    for (int i = 0; i < count; ++i) {
        const T scaled = weighed(scale(i), slopes[i]);
        out[i] = scaled;
        found |= overflow_of(scaled);
    }
    return found == 0;
}

INLINE Gradient gradient_of(const Call& call, int input) {
    return input ? call.others[input - 1] : Gradient{call.gradient, call.gradient_kind};
}

// Where finished numbers of a block of a gradient are made: in their place, or else in `room`.
struct Place {
    char* to;
    T* out;
    bool is_direct;
};

INLINE Place place_in(
    const Call& call, const Gradient& gradient, int64_t first, int count, T* room) {
    char* const to = gradient.place + first * size_of(gradient.kind);
    const bool is_direct = gradient.kind == OWN && !call.streams && count % GROUP == 0 &&
                           uintptr_t(to) % sizeof(T) == 0;
    return {to, is_direct ? reinterpret_cast<T*>(to) : room, is_direct};
}

// Writes `count` finished numbers to their place, rounded once.  Returns whether those of whole groups
// are finite when they are rounded.
INLINE bool send_finished(
    const Call& call, const Gradient& gradient, const Place& place, int count, bool are_finite) {
    if (gradient.kind != OWN) {
        ON_LINES uint16_t rounded[BLOCK];
        const int groups = whole_groups(count);
        const bool are_still_finite =
            gradient.kind == FLOAT16 ? round_to_float16(place.out, groups, rounded)
                                     : round_to_bfloat16(place.out, groups, rounded);
        send(call, place.to, rounded, count * int(sizeof *rounded));
        return are_still_finite;
    }
    if (!place.is_direct) send(call, place.to, place.out, count * int(sizeof(T)));
    return are_finite;
}

// Multiplies whole groups of slopes, by one number each if there are `scales`, and writes `count` of
// them from element `first` on, rounded once.  Returns whether all of what is rounded is finite.
OUTLINE bool put(
    const Call& call, int64_t first, int count, T* slopes, T scale, const T* scales = nullptr) {
    const int groups = whole_groups(count);
    const Gradient gradient = gradient_of(call, 0);
    const Place place = place_in(call, gradient, first, count, slopes);
    for (int i = count; i < groups; ++i) slopes[i] = 0;
    const bool are_finite =
        scales ? scale_all(slopes, groups, place.out, [=](int i) { return scales[i]; })
               : scale_all(slopes, groups, place.out, [=](int) { return scale; });
    return send_finished(call, gradient, place, count, are_finite);
}

// No block of a row is followed by one of fewer columns: lines that are written in parts take as long as
// many.
constexpr int FEW = 64;

// The number of columns of the block that begins at one.
INLINE int block_at(int64_t start, int64_t columns) {
    const int64_t left = columns - start;
    return left <= BLOCK ? int(left) : left < BLOCK + FEW ? BLOCK / 2 : BLOCK;
}

// Calls visit(first column, number of columns) for every block of a row.
template <typename Index, typename Visit>
INLINE void each_block_of(Index columns, Visit visit) {
    for (Index start = 0, count; start < columns; start += count) {
        count = block_at(start, columns);
        visit(start, int(count));
    }
}

// Writes the slopes of a row past the caches, of which all but one are 0: `columns` from element `first`
// on.  Returns whether that one is finite, and so is what is rounded.
OUTLINE bool stream_alone(
    const Call& call, int64_t first, int64_t columns, int64_t column, T slope, T scale) {
    ON_LINES static const char NOTHING[BLOCK * sizeof(T)] = {};
    const Gradient gradient = gradient_of(call, 0);
    const int64_t size = size_of(gradient.kind);
    bool are_finite = true;
    each_block_of(columns, [&](int64_t start, int count) INLINED {
        if (column < start || column >= start + count) {
            stream(gradient.place + (first + start) * size, NOTHING, int(count * size));
            return;
        }
        ON_LINES T slopes[BLOCK];
        for (int i = 0; i < whole_groups(count); ++i) slopes[i] = 0;
        slopes[column - start] = slope;
        are_finite = put(call, first + start, count, slopes, scale);
    });
    return are_finite;
}

// Whether what was written of the gradient of a row is finite.
OUTLINE bool has_finite_gradient(const Call& call, int64_t row) {
    if (!call.gradient) return true;
    T numbers[GROUP];
    for (int64_t start = 0; start < call.columns; start += GROUP) {
        const int count = call.columns - start < GROUP ? int(call.columns - start) : GROUP;
        const int64_t first = row * call.columns + start;
        const char* const from = call.gradient + first * size_of(call.gradient_kind);
        read(call.gradient_kind, from, numbers, count);
        for (int i = 0; i < count; ++i)
            if (!is_finite(numbers[i])) return false;
    }
    return true;
}

// Joins lanes, one half with the other until one is left.
template <int HALF, typename Number, typename Join>
INLINE Number fold(Number* lanes, Join join) {
    for (int lane = 0; lane < HALF; ++lane) lanes[lane] = join(lanes[lane], lanes[lane + HALF]);
    if constexpr (HALF > 1) return fold<HALF / 2>(lanes, join);
    return lanes[0];
}

// A group of numbers in as many vectors as the machine needs for it.
template <typename Number>
struct Group {
    typedef Number Vector __attribute__((vector_size(VECTOR_BYTES)));
    static constexpr int LENGTH = VECTOR_BYTES / int(sizeof(Number)), COUNT = GROUP / LENGTH;

    Vector vectors[COUNT];

    METHOD void fill(Number number) {
        for (int v = 0; v < COUNT; ++v) vectors[v] = Vector{} + number;
    }
    METHOD void read(const Number* numbers) {
        for (int v = 0; v < COUNT; ++v)
            __builtin_memcpy(&vectors[v], numbers + v * LENGTH, sizeof(Vector));
    }
    METHOD void write(Number* numbers) const {
        for (int v = 0; v < COUNT; ++v)
            __builtin_memcpy(numbers + v * LENGTH, &vectors[v], sizeof(Vector));
    }
    // Sets all numbers after the first ones.
    METHOD void cut(int count, Number rest) {
        Number numbers[GROUP];
        write(numbers);
        for (int i = count; i < GROUP; ++i) numbers[i] = rest;
        read(numbers);
    }
    METHOD void add(const Group& more) {
        for (int v = 0; v < COUNT; ++v) vectors[v] += more.vectors[v];
    }
    // Adds the first of a group of terms, and makes 0 of the others.
    METHOD void add_first(Number* terms, int count) {
        for (int i = count; i < GROUP; ++i) terms[i] = 0;
        Group more;
        more.read(terms);
        add(more);
    }
    // Adds numbers of another type.
    template <typename Other>
    METHOD void add_widened(const Other* numbers) {
        typedef Other Narrow __attribute__((vector_size(LENGTH * sizeof(Other))));
        for (int v = 0; v < COUNT; ++v) {
            Narrow more;
            __builtin_memcpy(&more, numbers + v * LENGTH, sizeof more);
            vectors[v] += __builtin_convertvector(more, Vector);
        }
    }
    // Adds the bits of a group of numbers.
    METHOD void merge(const Number* numbers) {
        Group more;
        more.read(numbers);
        for (int v = 0; v < COUNT; ++v) vectors[v] |= more.vectors[v];
    }
    // Joins all numbers of the group, one half with the other until one is left.
    template <typename Join>
    METHOD Number folded(Join join) const {
        Number lanes[GROUP];
        __builtin_memcpy(lanes, vectors, sizeof lanes);
        return fold<GROUP / 2>(lanes, join);
    }
    METHOD Number merged() const {
        return folded([](Number one, Number other) INLINED { return Number(one | other); });
    }
    METHOD void take_larger(const Group& more) {
        for (int v = 0; v < COUNT; ++v)
            vectors[v] = more.vectors[v] > vectors[v] ? more.vectors[v] : vectors[v];
    }
};

// Adds whole groups of numbers to sums in lanes, in double: few numbers may add up to more than float
// holds.
template <typename Number>
OUTLINE void add_widened_to_lanes(double* lanes, const Number* numbers, int count) {
    for (int i = 0; i < count; ++i) lanes[i % GROUP] += numbers[i];
}

template <typename Number>
INLINE bool are_finite(const Number (&lanes)[GROUP]) {
    Number taint = 0;
    for (int lane = 0; lane < GROUP; ++lane) taint += lanes[lane] * Number(0);
    return taint == 0;
}

// Adds whole groups of numbers to sums in lanes.
template <typename Number>
OUTLINE void add_to_lanes(double* lanes, const Number* numbers, int count) {
    constexpr int AHEAD = 4;
    Group<Number> sums[AHEAD], more;
    for (int a = 0; a < AHEAD; ++a) sums[a].fill(0);
    int start = 0;
    for (; start + AHEAD * GROUP <= count; start += AHEAD * GROUP)
        UNROLLED
        for (int a = 0; a < AHEAD; ++a) {
            more.read(numbers + start + a * GROUP);
            sums[a].add(more);
        }
    for (; start < count; start += GROUP) {
        more.read(numbers + start);
        sums[0].add(more);
    }
    sums[0].add(sums[1]);
    sums[2].add(sums[3]);
    sums[0].add(sums[2]);
    Number own[GROUP];
    __builtin_memcpy(own, sums[0].vectors, sizeof own);
    if (sizeof(Number) < sizeof(double) && !are_finite(own))
        return add_widened_to_lanes(lanes, numbers, count);
    for (int lane = 0; lane < GROUP; ++lane) lanes[lane] += own[lane];
}

// The largest of numbers, of which NaN is none: of several groups at a time, since each step waits for the
// one before.
template <typename Number>
struct Most {
    static constexpr int AHEAD = 4, COUNT = AHEAD * GROUP;

    Group<Number> most[AHEAD];

    METHOD Most() {
        for (int a = 0; a < AHEAD; ++a) most[a].fill(-INFINITE<Number>);
    }
    METHOD void take(const Group<Number>& more, int place = 0) { most[place].take_larger(more); }
    METHOD Number largest() const {
        Group<Number> all = most[0];
        for (int a = 1; a < AHEAD; ++a) all.take_larger(most[a]);
        return all.folded([](Number one, Number other) INLINED { return other > one ? other : one; });
    }
};

// The largest of whole groups of numbers.
template <typename Number>
OUTLINE Number largest_of(const Number* numbers, int count) {
    Most<Number> most;
    Group<Number> more;
    int start = 0;
    for (; start + Most<Number>::COUNT <= count; start += Most<Number>::COUNT)
        UNROLLED
        for (int a = 0; a < Most<Number>::AHEAD; ++a) {
            more.read(numbers + start + a * GROUP);
            most.take(more, a);
        }
    for (; start < count; start += GROUP) {
        more.read(numbers + start);
        most.take(more);
    }
    return most.largest();
}

// Sums in lanes, which are added in a fixed order.
struct Lanes {
    double lanes[GROUP] = {};

    template <typename Number>
    METHOD void add(const Number* numbers, int count) {
        add_to_lanes(lanes, numbers, count);
    }

    // Adds each number of a group to its lane.
    template <typename Number>
    METHOD void add(const Group<Number>& sums) {
        Number own[GROUP];
        __builtin_memcpy(own, sums.vectors, sizeof own);
        for (int lane = 0; lane < GROUP; ++lane) lanes[lane] += own[lane];
    }

    // Adds each number to its lane, with no sum in between.  Returns false, and does nothing, if one is
    // not finite: then neither is the sum of its lane, which is wide enough for all that are.
    template <typename Number>
    METHOD bool add_each(const Number* numbers, int count) {
        Group<double> sums;
        sums.read(lanes);
        for (int start = 0; start < count; start += GROUP) sums.add_widened(numbers + start);
        double found[GROUP];
        __builtin_memcpy(found, sums.vectors, sizeof found);
        bool is_sound = true;
        for (int lane = 0; lane < GROUP; ++lane) is_sound &= found[lane] - found[lane] == 0;
        if (is_sound) __builtin_memcpy(lanes, found, sizeof lanes);
        return is_sound;
    }

    METHOD double total() const {
        double sums[GROUP];
        __builtin_memcpy(sums, lanes, sizeof sums);
        return fold<GROUP / 2>(sums, [](double one, double other) INLINED { return one + other; });
    }
};

// Some rows that are summed together.
struct Block {
    int64_t first, end;
};

// What becomes of the values of rows: written, looked at, and summed.
struct Results {
    Call& call;
    Lanes sum;
    int64_t first;  // row of the block

    METHOD void add(int64_t row, T value, bool gradient_is_finite) {
        if (call.values) call.values[row] = value;
        sum.lanes[(row - first) % GROUP] +=
            call.weights ? call.weights[row] * value : double(value);
        if (!gradient_is_finite || !is_finite(value)) flag(row);
    }

    // The same for some rows of one element each, from a row that begins a group of its block.  Returns
    // false, and does nothing, if a value is not finite.
    METHOD bool add_all(int64_t row, int count, T* values) {
        for (int i = count; i < whole_groups(count); ++i) values[i] = 0;
        if (!(call.weights ? add_weighted(row, count, values) : sum.add_each(values, whole_groups(count))))
            return false;
        if (call.values)
            send(call, reinterpret_cast<char*>(call.values + row), values, count * int(sizeof(T)));
        return true;
    }

    METHOD bool add_weighted(int64_t row, int count, const T* values) {
        ON_LINES double terms[BLOCK];
        INDEPENDENT
        for (int i = 0; i < whole_groups(count); ++i) terms[i] = values[i];
        for (int i = 0; i < count; ++i) terms[i] *= call.weights[row + i];
        return sum.add_each(terms, whole_groups(count));
    }

    METHOD void flag(int64_t row) {
        call.nonfinite_rows += !call.nonfinite[row];
        call.nonfinite[row] = 1;
    }

    // A silent row leaves exact zeros, without a look at its inputs.
    METHOD void silence(int64_t row) {
        if (call.values) call.values[row] = 0;
        for (int input = 0; input < MOST_INPUTS; ++input) {
            const Gradient gradient = gradient_of(call, input);
            const int64_t bytes = call.columns * size_of(gradient.kind);
            if (gradient.place) __builtin_memset(gradient.place + row * bytes, 0, bytes);
        }
    }
};

// Computes rows block by block, each with a sum of its own: rows(results, block) computes those of one.
template <typename Rows>
INLINE void each_block_of_rows(Call& call, Rows rows) {
    for (int64_t first = 0; first < call.rows; first += call.block) {
        const int64_t end = call.rows - first < call.block ? call.rows : first + call.block;
        Results results{call, {}, first};
        rows(results, Block{first, end});
        call.sums[first / call.block] = results.sum.total();
    }
    if (call.streams) fence();
}

// Runs a kernel on a call of its own: that of another thread may lie in the same line of the cache.
INLINE bool answered(Call& given, bool (*run)(Call&)) {
    ON_LINES Call call = given;
    const bool has_run = run(call);
    given.nonfinite_rows = call.nonfinite_rows;
    given.outside = call.outside;
    return has_run;
}
