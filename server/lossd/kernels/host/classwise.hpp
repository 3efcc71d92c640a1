// The kernel of the losses of regions of classes; what a text may say is told in ../class_overlaps.hpp.
// A row is walked twice, block by block of positions with all their classes: for the counts of each class,
// and for its gradient.  The classes of a position lie as far apart as a row has positions, or side by side
// with `call.classes_last`; then a block is turned on the way.

namespace {  // what is not inlined is no other object's

// Numbers of a block that should stay in the cache between the steps.
constexpr int64_t CACHED = 1 << 13;
constexpr int LEAST_POSITIONS = 64;
// Classes whose terms are added up before they are added to the others'.
constexpr int TOGETHER = 16;

// Of more than these a block would have more elements than an int counts.
constexpr int64_t MOST_CLASSES = int64_t(1) << 24;

struct Sizes {
    int64_t classes, positions;
    int64_t block;  // of positions: it depends on the shape alone, since it decides how sums are taken
    int64_t apart;  // how far from each other classes lie in a block

    METHOD static Sizes of(const Call& call) {
        const int64_t fitting = CACHED / call.parts / GROUP * GROUP;
        const int64_t least = fitting < LEAST_POSITIONS ? LEAST_POSITIONS : fitting;
        const int64_t block = least < BLOCK ? least : BLOCK;
        return {call.parts, call.columns / call.parts, block, spaced<T>(block)};
    }
};

// Hands out memory in whole lines, with one between; or, where there is none, counts how much would be
// handed out.
struct Memory {
    char* start;
    int64_t used;

    template <typename Item>
    METHOD Item* take(int64_t count) {
        char* const taken = start + used;
        used += (count * int64_t(sizeof(Item)) + 2 * LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
        return start ? reinterpret_cast<Item*>(taken) : nullptr;
    }
};

// Of a row of one shape after the other.
struct Room {
    // Of a block, class by class:
    T *given, *true_shares;          // where inputs are brought if they are not as a loop needs them
    const T **predictions, **truth;  // where they are
    T* numbers;                      // what is made of them
    T* turned;                       // the same with classes side by side
    Column* labels;
    T* inverse;  // of the sum of all exponentials
    // Of every position, where shares are a softmax:
    T *most, *rest;     // the largest logit, and the sum of the exponentials of all others
    Column* best;       // the class that it is of
    double* wide_rest;  // the same sum in double
    // Of every class:
    Counts<Lanes>* counts;
    Slopes* slopes;

    METHOD Room(Memory& memory, const Sizes& sizes) {
        const int64_t cells = sizes.classes * sizes.apart;
        const int64_t positions = (sizes.positions + GROUP - 1) / GROUP * GROUP;
        given = memory.take<T>(cells), true_shares = memory.take<T>(cells);
        predictions = memory.take<const T*>(sizes.classes);
        truth = memory.take<const T*>(sizes.classes);
        numbers = memory.take<T>(cells), turned = memory.take<T>(cells + BLOCK);
        labels = memory.take<Column>(sizes.block), inverse = memory.take<T>(sizes.block);
        most = memory.take<T>(positions), rest = memory.take<T>(positions);
        best = memory.take<Column>(positions), wide_rest = memory.take<double>(positions);
        counts = memory.take<Counts<Lanes>>(sizes.classes);
        slopes = memory.take<Slopes>(sizes.classes);
    }
};

// One example, and where its gradient goes.
struct Example {
    Call& call;
    const Sizes& sizes;
    const Room& room;
    int64_t row;
    T scale;
    bool& is_finite;
};

// Some positions, whose inputs were brought.
struct Positions {
    int64_t start;
    int count;
    METHOD int groups() const { return whole_groups(count); }
};

template <bool TARGETS_ARE_CLASSES>
struct Regions : Example {
    METHOD Class classes() const { return Class(sizes.classes); }
    METHOD double raised(double x, double y) const { return power_of<ANY_POWER>(x, y); }
    METHOD void keep(Class c, const Slopes& slopes) const { room.slopes[c] = slopes; }
    METHOD const Slopes& slopes(Class c) const { return room.slopes[c]; }

    template <typename Visit>
    METHOD void each_block(Visit visit) const {
        for (int64_t start = 0; start < sizes.positions; start += sizes.block) {
            const int64_t left = sizes.positions - start;
            visit(Positions{start, int(left < sizes.block ? left : sizes.block)});
        }
    }

    // The first element of some positions of a class; of all classes, if they lie side by side.
    METHOD int64_t place_of(const Positions& at, Class c) const {
        const int64_t first = row * call.columns;
        return first + (call.classes_last ? at.start * sizes.classes : c * sizes.positions + at.start);
    }

    // Brings some positions of an input, and says where they are for each class.
    SHARED_STEP_METHOD void bring(int input, const Positions& at, T* given, const T** found) const {
        const Input& from = call.inputs[input];
        if (!call.classes_last) {
            for (Class c = 0; c < classes(); ++c)
                found[c] = stage(from, place_of(at, c), at.count, given + c * sizes.apart);
            return;
        }
        const int count = at.count * classes();
        const T* const side_by_side = stage(from, place_of(at, 0), count, room.turned);
        const Class step = classes();
        for (Class c = 0; c < classes(); ++c) {
            T* const to = given + c * sizes.apart;
            INDEPENDENT
            for (int i = 0; i < at.count; ++i) to[i] = side_by_side[i * step + c];
            for (int i = at.count; i < at.groups(); ++i) to[i] = to[at.count - 1];
            found[c] = to;
        }
    }

    METHOD void bring_targets(const Positions& at) const {
        if (!TARGETS_ARE_CLASSES) return bring(1, at, room.true_shares, room.truth);
        const char* const from = call.inputs[1].place + (row * sizes.positions + at.start) * 8;
        for (int i = 0; i < at.count; ++i) {
            int64_t label;
            __builtin_memcpy(&label, from + i * 8, sizeof label);
            room.labels[i] = Column(label);
        }
        for (int i = at.count; i < at.groups(); ++i) room.labels[i] = room.labels[at.count - 1];
    }

    METHOD void bring(const Positions& at) const {
        bring(0, at, room.given, room.predictions);
        bring_targets(at);
    }

    // The true shares of a class at the positions of a block.
    METHOD auto truth_of(Class c) const {
        const T* const truth = TARGETS_ARE_CLASSES ? nullptr : room.truth[c];
        const Column* const labels = room.labels;
        const Column own = Column(c);
        return [=](int i) INLINED {
            return !TARGETS_ARE_CLASSES ? truth[i] : labels[i] == own ? T(1) : T(0);
        };
    }

    METHOD void look_at(int input, const T* const* numbers, const Positions& at) const {
        if (call.inputs[input].rule == ANY) return;
        for (Class c = 0; c < classes(); ++c)
            call.outside |= any_outside(call.inputs[input], numbers[c], at.groups());
    }

    // Calls add(c, sums) for each class, sums that begin at 0 for some classes together.
    template <typename Add>
    METHOD void add_up(const Positions& at, T* sums, Add add) const {
        ON_LINES T some[BLOCK];
        const int groups = at.groups();
        for (int i = 0; i < groups; ++i) sums[i] = 0;
        for (Class first = 0; first < classes(); first += TOGETHER) {
            const Class end = classes() - first < TOGETHER ? classes() : first + TOGETHER;
            for (int i = 0; i < groups; ++i) some[i] = 0;
            for (Class c = first; c < end; ++c) add(c, some);
            for (int i = 0; i < groups; ++i) sums[i] += some[i];
        }
    }

    // The exponentials of the logits of a class less the largest ones; that of the largest is 1.
    METHOD void exponentials(Class c, const Positions& at) const {
        const int groups = at.groups();
        const T *const x = room.predictions[c], *const most = room.most + at.start;
        const Column* const best = room.best + at.start;
        const Column own = Column(c);
        T* const __restrict to = room.numbers + c * sizes.apart;
        Bits far = 0;
        INDEPENDENT
        for (int i = 0; i < groups; ++i) {
            const T below = x[i] - most[i];
            far |= (below >= Format<T>::FAINT) | (best[i] == own) ? Bits(0) : Bits(1);
            to[i] = pick(best[i] == own, T(1), exp_within(below));
        }
        if (!far) return;
        INDEPENDENT
        for (int i = 0; i < groups; ++i) to[i] = pick(best[i] == own, T(1), exp(x[i] - most[i]));
    }

    SHARED_STEP_METHOD void find_best(const Positions& at) const {
        const int groups = at.groups();
        T* const __restrict most = room.most + at.start;
        Column* const __restrict best = room.best + at.start;
        for (int i = 0; i < groups; ++i) most[i] = -INFINITE<T>, best[i] = 0;
        for (Class c = 0; c < classes(); ++c) {
            const T* const x = room.predictions[c];
            const Column own = Column(c);
            INDEPENDENT
            for (int i = 0; i < groups; ++i) {
                const bool is_more = x[i] > most[i];
                best[i] = is_more ? own : best[i];
                most[i] = is_more ? x[i] : most[i];
            }
        }
    }

    SHARED_STEP_METHOD void make_softmax(const Positions& at) const {
        find_best(at);
        const int groups = at.groups();
        T *const most = room.most + at.start, *const rest = room.rest + at.start;
        const Column* const best = room.best + at.start;
        add_up(at, rest, [&](Class c, T* __restrict sums) INLINED {
            exponentials(c, at);
            const T* const own = room.numbers + c * sizes.apart;
            const Column number = Column(c);
            INDEPENDENT
            for (int i = 0; i < groups; ++i) sums[i] += pick(best[i] == number, T(0), own[i]);
        });
        // A position with a NaN and one of only -inf have no softmax, even with a single class.
        INDEPENDENT
        for (int i = 0; i < groups; ++i)
            rest[i] = pick(most[i] > 0, rest[i], rest[i] + (most[i] - most[i]));
        invert(at);
    }

    METHOD void invert(const Positions& at) const {
        const int groups = at.groups();
        const T* const rest = room.rest + at.start;
        T* const __restrict inverse = room.inverse;
        INDEPENDENT
        for (int i = 0; i < groups; ++i) inverse[i] = 1 / (1 + rest[i]);
    }

    METHOD auto shares_of(OfClasses, Class c, const Positions& at) const {
        const T *const numbers = room.numbers + c * sizes.apart, *const rest = room.rest + at.start;
        const T* const inverse = room.inverse;
        const Column* const best = room.best + at.start;
        const Column own = Column(c);
        return [=](int i) INLINED {
            const T others = pick(best[i] == own, rest[i], 1 + (rest[i] - numbers[i]));
            return Shares<T>{numbers[i] * inverse[i], others * inverse[i]};
        };
    }
    template <typename Kind>
    METHOD auto shares_of(Kind kind, Class c, const Positions&) const {
        const T* const predictions = room.predictions[c];
        return [=](int i) INLINED { return kind.shares(predictions[i]); };
    }

    template <typename SharesOf, typename Truth>
    METHOD static void count_class(
        const Positions& at, SharesOf shares_of, Truth truth, Counts<Lanes>& lanes) {
        Group<T> both, falsely, missed;
        both.fill(0), falsely.fill(0), missed.fill(0);
        for (int start = 0; start < at.count; start += GROUP) {
            ON_LINES T hits[GROUP];
            ON_LINES T extra[GROUP];
            ON_LINES T lost[GROUP];
            INDEPENDENT
            for (int i = 0; i < GROUP; ++i) {
                const Shares<T> shares = shares_of(start + i);
                const T share = truth(start + i);
                hits[i] = shares.inside * share;
                extra[i] = shares.inside * (1 - share);
                lost[i] = shares.outside * share;
            }
            both.add_first(hits, at.count - start);
            falsely.add_first(extra, at.count - start);
            missed.add_first(lost, at.count - start);
        }
        lanes.both.add(both), lanes.falsely.add(falsely);
        lanes.missed.add(missed);
    }

    template <typename Kind>
    SHARED_STEP_METHOD void count_up(Kind kind) const {
        for (Class c = 0; c < classes(); ++c) room.counts[c] = Counts<Lanes>{};
        each_block([&](const Positions& at) INLINED {
            bring(at);
            look_at(0, room.predictions, at);
            if (!TARGETS_ARE_CLASSES) look_at(1, room.truth, at);
            if constexpr (Kind::IS_EXCLUSIVE) make_softmax(at);
            for (Class c = 0; c < classes(); ++c)
                count_class(at, shares_of(kind, c, at), truth_of(c), room.counts[c]);
        });
    }

    template <typename Kind>
    METHOD Counts<double> counts(Kind, Class c) const {
        const Counts<Lanes>& own = room.counts[c];
        return {own.both.total(), own.falsely.total(), own.missed.total()};
    }

    SHARED_STEP_METHOD bool has(Class c) const {
        bool found = false;
        each_block([&](const Positions& at) INLINED {
            bring_targets(at);
            const auto truth = truth_of(c);
            for (int i = 0; i < at.count; ++i) found |= truth(i) != 0;
        });
        return found;
    }

    // The slope of a share of a class at the positions of a block.
    METHOD auto slope_of_share(Class c) const {
        const T by_hit = T(slopes(c).by_hit), by_false = T(slopes(c).by_false);
        const auto truth = truth_of(c);
        return [=](int i) INLINED { return truth(i) * by_hit + (1 - truth(i)) * by_false; };
    }

    // Makes slopes of the logits of a block: p (g - mean of g), from differences to the g of the largest
    // class, whose own is exactly 0, so that its large p multiplies no rounding error.
    METHOD void make_slopes(OfClasses, const Positions& at) const {
        ON_LINES T of_best[BLOCK];
        ON_LINES T mean[BLOCK];
        invert(at);
        const int groups = at.groups();
        const T* const inverse = room.inverse;
        const Column* const best = room.best + at.start;
        for (int i = 0; i < groups; ++i) of_best[i] = 0;
        for (Class c = 0; c < classes(); ++c) {
            const auto slope = slope_of_share(c);
            const Column own = Column(c);
            INDEPENDENT
            for (int i = 0; i < groups; ++i) of_best[i] = pick(best[i] == own, slope(i), of_best[i]);
        }
        add_up(at, mean, [&](Class c, T* __restrict sums) INLINED {
            exponentials(c, at);
            T* const __restrict shares = room.numbers + c * sizes.apart;
            const auto slope = slope_of_share(c);
            INDEPENDENT
            for (int i = 0; i < groups; ++i) {
                const T share = shares[i] * inverse[i];
                shares[i] = share;
                sums[i] += share * (slope(i) - of_best[i]);
            }
        });
        for (Class c = 0; c < classes(); ++c) {
            T* const __restrict shares = room.numbers + c * sizes.apart;
            const auto slope = slope_of_share(c);
            INDEPENDENT
            for (int i = 0; i < groups; ++i)
                shares[i] = shares[i] * (slope(i) - of_best[i] - mean[i]);
        }
    }
    template <typename Kind>
    METHOD void make_slopes(Kind kind, const Positions& at) const {
        for (Class c = 0; c < classes(); ++c) {
            T* const __restrict to = room.numbers + c * sizes.apart;
            const T* const x = room.predictions[c];
            const auto slope = slope_of_share(c);
            const int groups = at.groups();
            INDEPENDENT
            for (int i = 0; i < groups; ++i) to[i] = kind.bend(kind.shares(x[i])) * slope(i);
        }
    }

    template <typename Kind>
    SHARED_STEP_METHOD void write(Kind kind, T part) const {
        if (!call.gradient) return;
        each_block([&](const Positions& at) INLINED {
            bring(at);
            make_slopes(kind, at);
            send(at, part);
        });
    }

    // Multiplies the slopes of a block, and writes them.
    SHARED_STEP_METHOD void send(const Positions& at, T part) const {
        const Gradient gradient = gradient_of(call, 0);
        for (Class c = 0; c < classes(); ++c) {
            T* const __restrict own = room.numbers + c * sizes.apart;
            const T by = scale;
            const int groups = at.groups();
            Bits found = 0;
            INDEPENDENT
            for (int i = 0; i < groups; ++i) {
                const T scaled = weighed(by, part * own[i]);
                own[i] = scaled;
                found |= overflow_of(scaled);
            }
            if (call.classes_last) is_finite &= found == 0;
            else is_finite &= send_numbers(gradient, place_of(at, c), own, at.count, found == 0);
        }
        if (call.classes_last) send_turned(gradient, at);
    }

    METHOD bool send_numbers(
        const Gradient& gradient, int64_t first, T* numbers, int count, bool are_finite) const {
        char* const to = gradient.place + first * size_of(gradient.kind);
        return send_finished(call, gradient, Place{to, numbers, false}, count, are_finite);
    }

    METHOD void send_turned(const Gradient& gradient, const Positions& at) const {
        T* const __restrict turned = room.turned;
        const Class step = classes();
        for (Class c = 0; c < classes(); ++c) {
            const T* const own = room.numbers + c * sizes.apart;
            INDEPENDENT
            for (int i = 0; i < at.count; ++i) turned[i * step + c] = own[i];
        }
        const int all = at.count * classes();
        for (int i = all; i < whole_groups(all); ++i) turned[i] = 0;
        for (int start = 0; start < all; start += BLOCK) {
            const int count = all - start < BLOCK ? all - start : BLOCK;
            is_finite &= send_numbers(gradient, place_of(at, 0) + start, turned + start, count, true);
        }
    }

    // ---------------------------------------------------------------- what is rarely done, in double

    template <typename Kind>
    SHARED_STEP_METHOD void look_closer(Kind) const {
        if constexpr (Kind::IS_EXCLUSIVE)
            each_block([&](const Positions& at) INLINED {
                bring(at);
                for (int i = 0; i < at.count; ++i) {
                    const int64_t position = at.start + i;
                    double sum = 0;
                    for (Class c = 0; c < classes(); ++c)
                        sum += c == room.best[position] ? 0 : exp(below(c, i, position));
                    room.wide_rest[position] = sum;
                }
            });
    }

    METHOD double below(Class c, int i, int64_t position) const {
        return double(room.predictions[c][i]) - double(room.most[position]);
    }

    METHOD Shares<double> log_shares(OfClasses, Class c, int i, int64_t position) const {
        const double rest = room.wide_rest[position], log_total = log1p(rest);
        if (c == room.best[position]) return {-log_total, rest / (1 + rest)};
        const double x = below(c, i, position);
        return {x - log_total, (1 + (rest - exp(x))) / (1 + rest)};
    }
    template <typename Kind>
    METHOD Shares<double> log_shares(Kind kind, Class c, int i, int64_t) const {
        return kind.log_shares(room.predictions[c][i]);
    }

    // Calls visit(term) for every position of a class.
    template <typename Kind, typename Term, typename Visit>
    METHOD void each_term(Kind kind, Class c, Term term, Visit visit) const {
        each_block([&](const Positions& at) INLINED {
            bring(at);
            const auto truth = truth_of(c);
            for (int i = 0; i < at.count; ++i)
                visit(term(log_shares(kind, c, i, at.start + i), double(truth(i))));
        });
    }
    template <typename Kind, typename Term>
    SHARED_STEP_METHOD double sum(Kind kind, Class c, Term term) const {
        double found = 0;
        each_term(kind, c, term, [&](double more) INLINED { found += more; });
        return found;
    }
    template <typename Kind, typename Term>
    SHARED_STEP_METHOD double largest(Kind kind, Class c, Term term) const {
        double found = LOWEST;
        each_term(kind, c, term, [&](double more) INLINED { found = larger(found, more); });
        return found;
    }

    template <typename Kind>
    struct Closer {
        const Regions& regions;
        Kind kind;
        int i;
        int64_t position;
        METHOD Shares<double> shares(Class c) const {
            return regions.log_shares(kind, c, i, position);
        }
        METHOD double truth(Class c) const { return regions.truth_of(c)(i); }
        METHOD T prediction(Class c) const { return regions.room.predictions[c][i]; }
        METHOD Class best() const { return regions.room.best[position]; }
        METHOD void put(Class c, double slope) const {
            regions.room.numbers[c * regions.sizes.apart + i] = T(slope);
        }
    };

    template <typename Kind>
    SHARED_STEP_METHOD void write_closer(Kind kind, double part) const {
        if (!call.gradient) return;
        each_block([&](const Positions& at) INLINED {
            bring(at);
            for (int i = 0; i < at.count; ++i)
                write_closer_position(kind, *this, Closer<Kind>{*this, kind, i, at.start + i});
            for (Class c = 0; c < classes(); ++c)
                for (int i = at.count; i < at.groups(); ++i) room.numbers[c * sizes.apart + i] = 0;
            send(at, T(part));
        });
    }
};

typedef T (*EvaluateClasses)(const Example& example);

// Returns false where there is not the memory.
OUTLINE bool compute(EvaluateClasses evaluate, Call& call) {
    if (!call.rows) return true;
    const Sizes sizes = Sizes::of(call);
    if (sizes.classes > MOST_CLASSES) return false;
    Memory counted{nullptr, 0};
    (void)Room(counted, sizes);
    char* const all = static_cast<char*>(aligned_alloc(LINE_BYTES, counted.used));
    if (!all) return false;
    Memory memory{all, 0};
    const Room room(memory, sizes);
    each_block_of_rows(call, [&](Results& results, Block block) {
        for (int64_t row = block.first; row < block.end; ++row) {
            if (call.silent && call.silent[row]) {
                results.silence(row);
                continue;
            }
            bool is_finite = true;
            const T scale = call.scales ? call.scales[row] : T(call.scale);
            const T value = evaluate(Example{call, sizes, room, row, scale, is_finite});
            results.add(row, value, is_finite);
        }
    });
    free(all);
    return true;
}

}  // namespace
