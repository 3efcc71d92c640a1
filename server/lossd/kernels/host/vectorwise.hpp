// The kernel of the losses of a few vectors side by side; what a text may say is told in ../vectors.hpp.
// A row is read several times while it is in the cache.

constexpr int MOST_VECTORS_OF_ROW = 3;

// Where the vectors of a row, and slopes, are brought if they are not as a loop needs them.
struct Room {
    ON_LINES T components[MOST_VECTORS_OF_ROW][spaced<T>(BLOCK)];
};

// One example: its vectors, and where their gradients go.
struct Row {
    Call& call;
    int vectors;
    int64_t number;
    double scale;
    Room& room;
    bool& is_finite;
    const T* whole[MOST_VECTORS_OF_ROW];  // of a row of one block: where its vectors are

    METHOD void note(uint8_t status) const { call.statuses[number] = status; }

    struct Block {
        const T* vectors[MOST_VECTORS_OF_ROW];
        METHOD Components operator[](int i) const {
            return {double(vectors[0][i]), double(vectors[1][i]), double(vectors[2][i])};
        }
    };

    // Those that it has not are never looked at.
    METHOD Block block(int64_t start, int count) const {
        Block found;
        for (int v = 0; v < MOST_VECTORS_OF_ROW; ++v)
            found.vectors[v] = v >= vectors ? found.vectors[0]
                : call.columns <= BLOCK     ? whole[v]
                : stage(call.inputs[v], number * call.columns + start, count, room.components[v]);
        return found;
    }

    template <typename Visit>
    METHOD void each_block(Visit visit) const {
        each_block_of(call.columns, visit);
    }

    // Adds the terms of a group of places to lanes; beyond `count` there are none.
    template <typename Term>
    METHOD static void add(
        const Block& given, int start, int count, Term term, Group<double>& lanes) {
        ON_LINES double terms[GROUP];
        INDEPENDENT
        for (int i = 0; i < GROUP; ++i) terms[i] = term(given[start + i]);
        for (int i = count; i < GROUP; ++i) terms[i] = 0;
        Group<double> more;
        more.read(terms);
        lanes.add(more);
    }

    template <typename... Terms>
    METHOD Sums<sizeof...(Terms)> sums(Terms... terms) const {
        constexpr int COUNT = sizeof...(Terms);
        Group<double> lanes[COUNT];
        for (int i = 0; i < COUNT; ++i) lanes[i].fill(0);
        each_block([&](int64_t start, int count) INLINED {
            const Block given = block(start, count);
            int first = 0;
            for (; first + GROUP <= count; first += GROUP) {
                int number = 0;
                (add(given, first, GROUP, terms, lanes[number++]), ...);
            }
            int number = 0;
            if (first < count) (add(given, first, count - first, terms, lanes[number++]), ...);
        });
        Sums<COUNT> found;
        for (int i = 0; i < COUNT; ++i) found.items[i] = total_of(lanes[i]);
        return found;
    }

    METHOD static double total_of(const Group<double>& group) {
        Lanes lanes;
        __builtin_memcpy(lanes.lanes, group.vectors, sizeof lanes.lanes);
        return lanes.total();
    }

    template <typename Slope>
    METHOD void put_slopes(
        const Gradient& gradient, const Block& given, int64_t start, int count, Slope slope) const {
        if (!gradient.place) return;
        ON_LINES T slopes[BLOCK];
        const int64_t first = number * call.columns + start;
        const Place place = place_in(call, gradient, first, count, slopes);
        const int groups = whole_groups(count);
        T* const out = place.out;
        const double by = scale;
        Bits found = 0;
        INDEPENDENT
        for (int i = 0; i < groups; ++i) {
            const T scaled = T(weighed(by, double(slope(given[i]))));
            out[i] = scaled;
            found |= overflow_of(scaled);
        }
        is_finite &= send_finished(call, gradient, place, count, found == 0);
    }

    template <typename... Slopes>
    METHOD void write(Slopes... slopes) const {
        each_block([&](int64_t start, int count) INLINED {
            const Block given = block(start, count);
            int number = 0;
            (put_slopes(gradient_of(call, number++), given, start, count, slopes), ...);
        });
    }
};

typedef T (*EvaluateVectors)(const Row& row, T target);

// A text, and how much it is given.
struct Vectorwise {
    EvaluateVectors evaluate;
    int vectors;
    bool has_target;
};

OUTLINE bool compute(const Vectorwise& text, Call& call) {
    Room room;
    each_block_of_rows(call, [&](Results& results, Block block) {
        for (int64_t number = block.first; number < block.end; ++number) {
            call.statuses[number] = 0;
            if (call.silent && call.silent[number]) {
                results.silence(number);
                continue;
            }
            T target = 0;
            if (text.has_target) {
                const Input& given = call.inputs[text.vectors];
                read(given.kind, given.place + number * size_of(given.kind), &target, 1);
                call.outside |= given.rule != ANY && any_outside(given, &target, 1);
            }
            bool is_finite = true;
            Row row{call, text.vectors, number, call.scales ? double(call.scales[number]) : call.scale,
                    room, is_finite, {}};
            for (int v = 0; v < text.vectors && call.columns <= BLOCK; ++v)
                row.whole[v] = stage(call.inputs[v], number * call.columns, int(call.columns),
                                     room.components[v]);
            const T value = text.evaluate(row, target);
            results.add(number, value, is_finite);
        }
    });
    return true;
}
