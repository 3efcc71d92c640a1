// The kernel of the losses of a region; what a text may say is told in ../overlaps.hpp.  A region is
// walked twice: for its counts, and for its gradient.

struct Room {
    ON_LINES T predictions[spaced<T>(BLOCK)];
    ON_LINES T truth[spaced<T>(BLOCK)];
};

// One example: its elements, and where its gradient goes.
struct Region {
    Call& call;
    int64_t first;  // of its elements
    T scale;
    Room& room;
    T* bends;  // of its elements, in whole groups: kept from the first walk for the second
    bool& is_finite;

    METHOD double raised(double x, double y) const { return power_of<ANY_POWER>(x, y); }

    struct Elements {
        const T *predictions, *truth;
    };

    // Calls visit(place of the first, elements, their number) for every block.
    template <typename Visit>
    METHOD void each_block(Visit visit) const {
        each_block_of(call.columns, [&](int64_t start, int count) INLINED {
            visit(first + start,
                  Elements{stage(call.inputs[0], first + start, count, room.predictions),
                           stage(call.inputs[1], first + start, count, room.truth)},
                  count);
        });
    }

    METHOD void look_at(int input, const T* numbers, int count) const {
        if (call.inputs[input].rule != ANY)
            call.outside |= any_outside(call.inputs[input], numbers, whole_groups(count));
    }

    // Whether all predictions of a block are near 0.
    template <typename Kind>
    METHOD static bool are_near(Kind, const T* predictions, int count) {
        Bits far = 0;
        INDEPENDENT
        for (int i = 0; i < count; ++i) far |= Kind::is_near(predictions[i]) ? Bits(0) : Bits(1);
        return far == 0;
    }

    // Adds up a block group by group: what is made of each is used at once.
    template <typename Kind, typename Term>
    METHOD static void add_block(
        Kind kind, const Elements& given, int count, Term term, Counts<Lanes>& lanes,
        T* __restrict bends) {
        Group<T> both, falsely, missed;
        both.fill(0), falsely.fill(0), missed.fill(0);
        for (int start = 0; start < count; start += GROUP) {
            ON_LINES T hits[GROUP];
            ON_LINES T extra[GROUP];
            ON_LINES T lost[GROUP];
            INDEPENDENT
            for (int i = 0; i < GROUP; ++i) {
                const Shares<T> shares = kind.shares(given.predictions[start + i]);
                const Counts<T> counts = term(shares, given.truth[start + i]);
                bends[start + i] = kind.bend(shares);
                hits[i] = counts.both;
                extra[i] = counts.falsely;
                lost[i] = counts.missed;
            }
            both.add_first(hits, count - start);
            falsely.add_first(extra, count - start);
            missed.add_first(lost, count - start);
        }
        lanes.both.add(both), lanes.falsely.add(falsely);
        lanes.missed.add(missed);
    }

    template <typename Kind, typename Term>
    METHOD Counts<double> counts(Kind kind, Term term) const {
        Counts<Lanes> lanes;
        each_block([&](int64_t place, const Elements& given, int count) INLINED {
            look_at(0, given.predictions, count);
            look_at(1, given.truth, count);
            if (are_near(kind, given.predictions, whole_groups(count)))
                add_block(typename Kind::Near{}, given, count, term, lanes, bends + place - first);
            else
                add_block(kind, given, count, term, lanes, bends + place - first);
        });
        return {lanes.both.total(), lanes.falsely.total(), lanes.missed.total()};
    }

    template <typename Term>
    METHOD int block_of(const Elements& given, int count, Term term, double filler, double* terms) const {
        const int groups = whole_groups(count);
        INDEPENDENT
        for (int i = 0; i < groups; ++i) terms[i] = term(given.predictions[i], given.truth[i]);
        for (int i = count; i < groups; ++i) terms[i] = filler;
        return groups;
    }

    template <typename Term>
    METHOD double sum(Term term) const {
        Lanes lanes;
        each_block([&](int64_t, const Elements& given, int count) INLINED {
            ON_LINES double terms[BLOCK];
            lanes.add(terms, block_of(given, count, term, 0, terms));
        });
        return lanes.total();
    }
    template <typename Term>
    METHOD double largest(Term term) const {
        double found = LOWEST;
        each_block([&](int64_t, const Elements& given, int count) INLINED {
            ON_LINES double terms[BLOCK];
            found = larger(largest_of(terms, block_of(given, count, term, LOWEST, terms)), found);
        });
        return found;
    }

    // Writes the gradient from two numbers of each element: those of a block, and the true shares.
    template <typename Numbers, typename Slope>
    METHOD void write_from(Numbers numbers, Slope slope) const {
        if (!call.gradient) return;
        const Gradient gradient = gradient_of(call, 0);
        const T by = scale;
        each_block([&](int64_t start, const Elements& given, int count) INLINED {
            ON_LINES T slopes[BLOCK];
            const Place place = place_in(call, gradient, start, count, slopes);
            const T *const own = numbers(start, given), *const truth = given.truth;
            T* const out = place.out;
            const int groups = whole_groups(count);
            Bits found = 0;
            INDEPENDENT
            for (int i = 0; i < groups; ++i) {
                const T scaled = weighed(by, T(slope(own[i], truth[i])));
                out[i] = scaled;
                found |= overflow_of(scaled);
            }
            is_finite &= send_finished(call, gradient, place, count, found == 0);
        });
    }

    template <typename Kind, typename Slope>
    METHOD void write(Kind, Slope slope) const {
        write_from(
            [&](int64_t place, const Elements&) INLINED { return bends + place - first; }, slope);
    }
    template <typename Slope>
    METHOD void write_each(Slope slope) const {
        write_from([](int64_t, const Elements& given) INLINED { return given.predictions; }, slope);
    }
};

typedef T (*EvaluateRegion)(const Region& region);

// Returns false where there is not the memory.
OUTLINE bool compute(EvaluateRegion evaluate, Call& call) {
    Room room;
    const int64_t kept = (call.columns + GROUP - 1) / GROUP * GROUP;
    T* const bends = static_cast<T*>(aligned_alloc(LINE_BYTES, kept * int64_t(sizeof(T))));
    if (!bends) return false;
    each_block_of_rows(call, [&](Results& results, Block block) {
        for (int64_t row = block.first; row < block.end; ++row) {
            if (call.silent && call.silent[row]) {
                results.silence(row);
                continue;
            }
            bool is_finite = true;
            const Region region{call, row * call.columns,
                                call.scales ? call.scales[row] : T(call.scale), room, bends,
                                is_finite};
            const T value = evaluate(region);
            results.add(row, value, is_finite);
        }
    });
    free(bends);
    return true;
}
