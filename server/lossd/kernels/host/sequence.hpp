// The kernel of the losses whose example is a sequence of frames with a row of labels; what it does, and
// what a text may say, is told in ../alignments.hpp.  One thread computes a sequence, in loops that the
// compiler makes vectors of.

// One thread, which is the whole team and each part of it.
struct Team {
    METHOD void wait() const {}
    METHOD const Team& whole() const { return *this; }

    template <typename Work>
    METHOD void once(Work work) const { work(); }

    template <typename Work>
    METHOD void each(Index count, Work work) const {
        INDEPENDENT
        for (Index i = 0; i < count; ++i) work(i);
    }
    template <typename Work>
    METHOD void parts(Index count, Work work) const {
        for (Index i = 0; i < count; ++i) work(*this, i);
    }

    // Terms of a block, in whole groups of which the last is filled up.
    template <typename Term>
    METHOD static int block_of(
        Index start, Index count, double filler, double* numbers, Term term) {
        const int here = count - start < BLOCK ? int(count - start) : BLOCK;
        INDEPENDENT
        for (int i = 0; i < here; ++i) numbers[i] = term(start + i);
        for (int i = here; i < whole_groups(here); ++i) numbers[i] = filler;
        return whole_groups(here);
    }

    template <typename Term>
    METHOD double sum(Index count, Term term) const {
        Lanes lanes;
        double numbers[BLOCK];
        for (Index start = 0; start < count; start += BLOCK)
            lanes.add(numbers, block_of(start, count, 0, numbers, term));
        return lanes.total();
    }
    template <typename Term>
    METHOD double largest(Index count, Term term) const {
        return best(count, term).value;
    }

    struct Best {
        double value;
        Index place;
    };
    template <typename Term>
    METHOD Best best(Index count, Term term) const {
        double numbers[BLOCK];
        Best found{-INFINITE<double>, 0};
        for (Index start = 0; start < count; start += BLOCK) {
            const int groups = block_of(start, count, -INFINITE<double>, numbers, term);
            const double most = largest_of(numbers, groups);
            uint64_t nan = 0;
            INDEPENDENT
            for (int i = 0; i < groups; ++i) nan |= numbers[i] != numbers[i] ? 1 : 0;
            if (!nan && !(most > found.value)) continue;
            int place = 0;
            while (nan ? numbers[place] == numbers[place] : numbers[place] != most) ++place;
            found = {numbers[place], start + place};
            if (nan) break;
        }
        return found;
    }
};

struct Frames {
    const T* predictions;
    Index classes;
    METHOD double operator()(Index time, Index of_class) const {
        return double(predictions[time * classes + of_class]);
    }
};

// A sequence as a text sees it.
struct Example {
    Call& call;
    Index most_frames, most_labels, classes, length, count;
    int64_t first;  // of its numbers, in the gradient
    const T* predictions;
    const long long* labels;
    double* room;
    double scale;
    bool& is_finite;
    bool& is_infeasible;

    template <typename Slope>
    METHOD void write(Index time, Slope slope) const {
        if (!call.gradient) return;
        for (Index start = 0; start < classes; start += BLOCK) {
            const int count = classes - start < BLOCK ? int(classes - start) : BLOCK;
            T slopes[BLOCK];
            INDEPENDENT
            for (int i = 0; i < count; ++i)
                slopes[i] = T(weighed(scale, double(slope(start + i))));
            is_finite &= put(call, first + time * classes + start, count, slopes, T(1));
        }
    }
};

// -log of the probability of all alignments.  If there is none it is infinite, or 0 if the loss
// says so.
template <typename Kind>
INLINE T likelihood(Kind, const Example& example, double blank, double zero_infinity) {
    const Team team;
    const Frames frames{example.predictions, example.classes};
    Sequence<Kind, Team, Frames> sequence{team, frames, example.labels, example.length,
                                          example.classes, example.count, Index(blank)};
    sequence.settle(example.room, example.most_frames, example.classes, example.most_labels);
    const auto write = [&](const Team&, Index time, auto slope) INLINED {
        example.write(time, slope);
    };
    const double value = sequence.value_of(example.most_frames, write);
    example.is_infeasible = value == infinite();
    return T(example.is_infeasible && zero_infinity != 0 ? 0 : value);
}

typedef T (*EvaluateSequence)(const Example& example);

constexpr uint8_t INFEASIBLE = 2;

// The row of an input of whole numbers, which were checked before.
INLINE const long long* row_of(const Input& input, int64_t row, int64_t length) {
    return reinterpret_cast<const long long*>(input.place) + row * length;
}

// Returns false where there is not the memory.
OUTLINE bool compute(EvaluateSequence evaluate, Call& call) {
    const Index frames = call.parts, classes = frames ? call.columns / frames : 0;
    const Input& given = call.inputs[0];
    const bool is_in_place = given.kind == OWN && uintptr_t(given.place) % sizeof(T) == 0;
    const int64_t bytes = room_for(frames, classes, call.labels) * int64_t(sizeof(double));
    const int64_t copied = is_in_place ? 0 : call.columns * int64_t(sizeof(T));
    char* const room = static_cast<char*>(malloc(bytes + copied));
    if (!room) return false;
    each_block_of_rows(call, [&](Results& results, Block block) {
        for (int64_t row = block.first; row < block.end; ++row) {
            call.statuses[row] = 0;
            if (call.silent && call.silent[row]) {
                results.silence(row);
                continue;
            }
            const int64_t first = row * call.columns;
            const char* const from = given.place + first * size_of(given.kind);
            T* const copy = reinterpret_cast<T*>(room + bytes);
            for (int64_t start = 0; !is_in_place && start < call.columns; start += BLOCK) {
                const int64_t left = call.columns - start;
                read(given.kind, from + start * size_of(given.kind), copy + start,
                     left < BLOCK ? int(left) : BLOCK);
            }
            bool is_finite = true, is_infeasible = false;
            const Example example{
                call, frames, call.labels, classes, *row_of(call.inputs[2], row, 1),
                *row_of(call.inputs[3], row, 1), first,
                is_in_place ? reinterpret_cast<const T*>(from) : copy,
                row_of(call.inputs[1], row, call.labels), reinterpret_cast<double*>(room),
                call.scales ? double(call.scales[row]) : call.scale, is_finite, is_infeasible};
            const T value = evaluate(example);
            results.add(row, value, is_finite);
            if (is_infeasible) call.statuses[row] = INFEASIBLE;
        }
    });
    free(room);
    return true;
}
