// All alignments of a row of labels with a longer row of frames, and everything that is not one:
// the text of losses of sequences, for the GPU and for the CPU.  losses/_maths/ctc_alignments.py
// and ctc_misalignments.py have the formulas; positions, directions and scales are named as they
// are there.  Everything is computed in double.
//
// It is written for a team that computes one sequence: the threads of a block, or one thread whose loops
// become vectors.  The template (sequence.cuh, host/sequence.hpp) defines it:
//
//     team.each(count, work)      calls work(0), work(1), ... in any order, and waits for all of them
//     team.parts(count, work)     calls work(part, 0), work(part, 1), ... likewise, each with a part of
//                                 the team, which has `each`, without the wait, and
//     part.once(work)             calls work() once
//     part.sum(count, term), part.largest(count, term), part.best(count, term)
//                                 in an order that the count alone decides; every thread of the part
//                                 has the result, and a NaN is larger than any number
//     team.whole()                the same for the whole team, all of whose threads have the result
//     team.wait()                 waits for all threads
//     frames(time, class)         a number of a frame as it was given, as a double
//     write(part, time, slope)    writes the gradient of a frame, slope(class) for each
//
// and pick(is_first, one, other), of numbers that are both computed, and how functions are declared:
// SHARED, of a class SHARED_METHOD and SHARED_STEP_METHOD for long ones, and of lambdas INLINED.

typedef long long Index;

// The power of two above which numbers that double loses, below 2^-1022, do not count.
constexpr int FAINTEST = -900;
// Frames between two rescalings: in between numbers may shrink by 2^-900, and grow by 3^16.
constexpr int STRETCH = 16;
// One more than the labels that a state leads on to.
constexpr Index MOST_KEPT = 3;
constexpr double LOG_2 = 0.6931471805599453;

// What follows from the kind of numbers that describe the distribution of a frame.
struct Logits {
    static constexpr bool ARE_LOGITS = true, ARE_PROBABILITIES = false;
};
struct LogProbabilities {
    static constexpr bool ARE_LOGITS = false, ARE_PROBABILITIES = false;
};
struct Probabilities {
    static constexpr bool ARE_LOGITS = false, ARE_PROBABILITIES = true;
};

SHARED double infinite() {
    const double large = 1e300;
    return large * large;
}

// Weights as plain numbers, scaled by powers of two on the way, and as logarithms.
struct Plain {
    static constexpr bool IS_SCALED = true;
    SHARED_METHOD static double nothing() { return 0; }
    SHARED_METHOD static double one() { return 1; }
    SHARED_METHOD static double add(double left, double right) { return left + right; }
    SHARED_METHOD static double times(double left, double right) { return left * right; }
    SHARED_METHOD static double of_log(double log) { return exp(log); }
    SHARED_METHOD static double number(double weight) { return weight; }
};
struct Logarithms {
    static constexpr bool IS_SCALED = false;
    SHARED_METHOD static double nothing() { return -infinite(); }
    SHARED_METHOD static double one() { return 0; }
    SHARED_METHOD static double add(double left, double right) {
        const double more = left > right ? left : right, less = left > right ? right : left;
        return left == right ? left + LOG_2 : more + log1p(exp(less - more));
    }
    SHARED_METHOD static double times(double left, double right) { return left + right; }
    SHARED_METHOD static double of_log(double log) { return log; }
    SHARED_METHOD static double number(double weight) { return exp(weight); }
};

// The exponent of a number as frexp has it, 0 if it is not finite.
SHARED int exponent_of(double number) {
    int exponent = 0;
    if (number - number == 0) frexp(number, &exponent);
    return exponent;
}

// Memory for one sequence, in doubles, for the most frames, classes and labels that any sequence
// has.
SHARED Index room_for(Index frames, Index classes, Index labels) {
    const Index slots = 1 + (labels < classes ? labels : classes);
    return (2 * frames + 12) * (labels + 3) + frames * (slots + 13) + classes;
}

// The log of the sum over all alignments, and whether its digits can be trusted.
struct Total {
    double log;
    bool is_trusted;
};

template <typename Kind, typename Team, typename Frames>
struct Sequence {
    const Team& team;
    const Frames& frames;
    const long long* labels;
    Index length, classes, count;  // frames, classes and labels that it has
    Index blank;
    // In the room of the sequence; positions are those of the blank before the labels, and theirs.
    double* states;   // (frames, 2, positions): of the blank after each position, and of its label
    double* leaving;  // (2, 2, positions and one on either side), that of the last frame and the next
    double* skips;    // for each position, and one beyond
    double* weights;  // (frames, slots)
    double *largest, *best_score, *rest, *taken, *lost, *left;  // for each frame
    Index* best;                                               // of each frame
    double* most_masses;  // (frames, MOST_KEPT): the largest probabilities of labels in a frame,
    Index* most_slots;    // and of which slots they are
    Index *slot, *next_same;                                   // of each position
    Index *class_of, *head;                                    // of each slot
    Index* slot_of;                                            // of each class, -1 for none
    Index slots;

    SHARED_METHOD Index positions() const { return count + 1; }
    SHARED_METHOD double* state(Index time) const { return states + time * 2 * positions(); }
    SHARED_METHOD double* weight(Index time) const { return weights + time * slots; }
    SHARED_METHOD double* leaving_blanks(int turn) const {
        return leaving + turn * 2 * (positions() + 2) + 1;
    }
    SHARED_METHOD double* leaving_marks(int turn) const {
        return leaving_blanks(turn) + positions() + 2;
    }
    SHARED_METHOD double score(Index time, Index of_class) const {
        const double given = frames(time, of_class);
        return Kind::ARE_PROBABILITIES ? log(given) : given;
    }

    // Divides the memory among the arrays.
    SHARED_METHOD void settle(double* room, Index most_frames, Index most_classes, Index most_labels) {
        const Index slots_at_most = 1 + (most_labels < most_classes ? most_labels : most_classes);
        const auto take = [&](Index size) INLINED {
            double* const taken_room = room;
            room += size;
            return taken_room;
        };
        const auto take_places = [&](Index size) INLINED {
            return reinterpret_cast<Index*>(take(size));
        };
        states = take(2 * most_frames * (most_labels + 1));
        leaving = take(4 * (most_labels + 3));
        skips = take(most_labels + 3);
        weights = take(most_frames * slots_at_most);
        largest = take(most_frames);
        best_score = take(most_frames);
        rest = take(most_frames);
        taken = take(most_frames);
        lost = take(most_frames);
        left = take(most_frames);
        best = take_places(most_frames);
        most_masses = take(MOST_KEPT * most_frames);
        most_slots = take_places(MOST_KEPT * most_frames);
        slot = take_places(most_labels + 3);
        next_same = take_places(most_labels + 3);
        class_of = take_places(most_labels + 1);
        head = take_places(most_labels + 1);
        slot_of = take_places(most_classes);
    }

    // How many frames an alignment takes: one more for each label that equals the one before.
    SHARED_METHOD Index frames_needed() const {
        const double repeats = team.whole().sum(count, [&](Index i) INLINED {
            return i > 0 && labels[i] == labels[i - 1] ? 1.0 : 0.0;
        });
        return count + Index(repeats);
    }

    // Gives a slot to the blank and to each class that is a label.
    SHARED_STEP_METHOD void place() {
        const Index* const label = labels - 1;
        team.each(count, [&](Index i) INLINED {
            Index found = 1;
            while (label[found] != label[i + 1]) ++found;
            next_same[i + 1] = found;
        });
        slots = 1 + Index(team.whole().sum(count, [&](Index i) INLINED {
            return next_same[i + 1] == i + 1 ? 1.0 : 0.0;
        }));
        team.each(classes, [&](Index c) INLINED { slot_of[c] = -1; });
        team.each(count + 2, [&](Index s) INLINED {
            const Index own = s >= 1 && s <= count ? next_same[s] : 0;
            Index number = s > count ? -1 : 0;
            for (Index i = 1; i <= own; ++i) number += next_same[i] == i;
            slot[s] = number;
            const bool differs = s >= 2 && s <= count && label[s] != label[s - 1];
            skips[s] = differs ? 1.0 : 0.0;
        });
        team.each(count, [&](Index i) INLINED {
            if (next_same[i + 1] != i + 1) return;
            class_of[slot[i + 1]] = label[i + 1];
            head[slot[i + 1]] = i + 1;
        });
        team.each(count, [&](Index i) INLINED {
            Index following = i + 2;
            while (following <= count && slot[following] != slot[i + 1]) ++following;
            next_same[i + 1] = following <= count ? following : 0;
        });
        team.each(1, [&](Index) INLINED { class_of[0] = blank; });
        team.each(slots, [&](Index k) INLINED { slot_of[class_of[k]] = k; });
    }

    // The best class of each frame, and the sum of the exponentials of the others minus it.
    SHARED_STEP_METHOD void make_softmax() {
        team.parts(length, [&](const auto& part, Index time) INLINED {
            const auto found =
                part.best(classes, [&](Index c) INLINED { return score(time, c); });
            const double sum = part.sum(classes, [&](Index c) INLINED {
                const double own = exp(score(time, c) - found.value);
                return pick(c == found.place, 0.0, own);
            });
            part.once([&] INLINED {
                best[time] = found.place;
                best_score[time] = found.value;
                // A frame with a NaN and a frame of only -inf have no softmax, even with a single
                // class.
                rest[time] = found.value > 0 ? sum : sum + (found.value - found.value);
            });
        });
    }

    // The probabilities of the classes of a frame.
    SHARED_METHOD auto probabilities(Index time) const {
        const Index likeliest = best[time];
        const double most = best_score[time], total = 1 + rest[time];
        return [this, time, likeliest, most, total](Index of_class) INLINED {
            const double own = exp(score(time, of_class) - most);
            return pick(of_class == likeliest, 1.0, own) / total;
        };
    }

    template <typename Algebra>
    SHARED_STEP_METHOD void make_weights() {
        team.parts(length, [&](const auto& part, Index time) INLINED {
            double* const own = weight(time);
            part.each(slots, [&](Index k) INLINED { own[k] = score(time, class_of[k]); });
            const double found = part.largest(slots, [&](Index k) INLINED { return own[k]; });
            const double base = found == -infinite() ? 0 : found;
            part.once([&] INLINED { largest[time] = base; });
            part.each(slots, [=](Index k) INLINED { own[k] = Algebra::of_log(own[k] - base); });
        });
    }

    template <typename Algebra>
    SHARED_METHOD double skip(Index position) const {
        return pick(skips[position] != 0, Algebra::one(), Algebra::nothing());
    }

    // Nothing leaves before the first frame.
    SHARED_METHOD void clear(double nothing) const {
        team.each(4 * (positions() + 2), [&](Index i) INLINED { leaving[i] = nothing; });
    }

    // Divides what leaves a frame by a power of two, and returns that.
    SHARED_STEP_METHOD int rescale(int turn) const {
        double* const blanks = leaving_blanks(turn);
        double* const marks = leaving_marks(turn);
        const double most = team.whole().largest(positions(), [&](Index s) INLINED {
            return blanks[s] > marks[s] ? blanks[s] : marks[s];
        });
        const int power = most == 0 ? 2 * FAINTEST : exponent_of(most);
        const double scale = ldexp(1.0, -power);
        team.wait();
        team.each(positions(), [&](Index s) INLINED {
            blanks[s] *= scale;
            marks[s] *= scale;
        });
        return power;
    }

    // Sums over all alignments, and leaves in each weight the share of its slot in its frame;
    // divided by the weight itself if the given numbers are probabilities.
    template <typename Algebra>
    SHARED_STEP_METHOD Total align() const {
        int faintest = 0, turn = 0;
        Index power = 0;
        clear(Algebra::nothing());
        for (Index time = 0; time < length; ++time, turn ^= 1) {
            team.whole().once([&] INLINED { taken[time] = double(power); });
            arrive<Algebra>(time, turn);
            if (Algebra::IS_SCALED && (time + 1) % STRETCH == 0 && time + 1 < length) {
                const int found = rescale(turn ^ 1);
                faintest = found < faintest ? found : faintest;
                power += found;
            }
        }
        const Index at_end = power;
        const double total = Algebra::add(leaving_blanks(turn)[count], leaving_marks(turn)[count]);
        team.wait();
        double common = -infinite();
        power = 0;
        clear(Algebra::nothing());
        for (Index time = length - 1; time >= 0; --time, turn ^= 1) {
            const double together = taken[time] + double(power) - double(at_end);
            common = together > common ? together : common;
            const double factor = Algebra::IS_SCALED ? ldexp(1 / total, int(together)) : -total;
            part_ways<Algebra>(time, turn, factor);
            if (Algebra::IS_SCALED && time % STRETCH == 0 && time > 0) {
                const int found = rescale(turn ^ 1);
                faintest = found < faintest ? found : faintest;
                power += found;
            }
        }
        gather<Algebra>();
        if (!Algebra::IS_SCALED) return Total{total, true};
        const int size = exponent_of(total);
        bool is_trusted = total > 0 && common - size < -FAINTEST && size > FAINTEST;
        is_trusted = is_trusted && faintest > FAINTEST;
        if (Kind::ARE_PROBABILITIES && is_trusted) {
            const double least = -team.whole().largest(
                length, [&](Index time) INLINED { return -largest[time]; });
            is_trusted = least > FAINTEST * LOG_2;  // its reciprocal is a plain number too
        }
        return Total{log(total) + double(at_end) * LOG_2, is_trusted};
    }

    // The arrivals at a frame, from what leaves the one before.
    template <typename Algebra>
    SHARED_STEP_METHOD void arrive(Index time, int turn) const {
        const double* const blank_before = leaving_blanks(turn);
        const double* const mark_before = leaving_marks(turn);
        double* const to_blank = leaving_blanks(turn ^ 1);
        double* const to_mark = leaving_marks(turn ^ 1);
        double* const blanks = state(time);
        double* const marks = blanks + positions();
        const double* const own = weight(time);
        const bool is_first = time == 0;
        team.each(positions(), [&](Index s) INLINED {
            double at_blank = Algebra::add(blank_before[s], mark_before[s]);
            double at_mark = Algebra::add(
                Algebra::add(mark_before[s], blank_before[s - 1]),
                Algebra::times(skip<Algebra>(s), mark_before[s - 1]));
            at_blank = pick(is_first, pick(s == 0, Algebra::one(), Algebra::nothing()), at_blank);
            at_mark = pick(is_first, pick(s == 1, Algebra::one(), Algebra::nothing()), at_mark);
            blanks[s] = at_blank;
            marks[s] = at_mark;
            to_blank[s] = Algebra::times(at_blank, own[0]);
            const double leaves = Algebra::times(at_mark, own[slot[s]]);
            to_mark[s] = pick(s == 0, Algebra::nothing(), leaves);
        });
    }

    // The same backwards; the product of both directions takes the place of the arrivals.
    template <typename Algebra>
    SHARED_STEP_METHOD void part_ways(Index time, int turn, double factor) const {
        const double* const blank_after = leaving_blanks(turn);
        const double* const mark_after = leaving_marks(turn);
        double* const to_blank = leaving_blanks(turn ^ 1);
        double* const to_mark = leaving_marks(turn ^ 1);
        double* const blanks = state(time);
        double* const marks = blanks + positions();
        const double* const own = weight(time);
        const bool is_last = time == length - 1;
        const double inverse = Algebra::of_log(-largest[time]);
        team.each(positions(), [&](Index s) INLINED {
            double at_blank = Algebra::add(blank_after[s], mark_after[s + 1]);
            double at_mark = Algebra::add(
                Algebra::add(mark_after[s], blank_after[s]),
                Algebra::times(skip<Algebra>(s + 1), mark_after[s + 1]));
            const double at_end = pick(s == count, Algebra::one(), Algebra::nothing());
            at_blank = pick(is_last, at_end, at_blank);
            at_mark = pick(s == 0, Algebra::nothing(), pick(is_last, at_end, at_mark));
            const double of_blank = own[0], of_mark = own[slot[s]];
            to_blank[s] = Algebra::times(at_blank, of_blank);
            const double leaves = Algebra::times(at_mark, of_mark);
            to_mark[s] = pick(s == 0, Algebra::nothing(), leaves);
            const double by_blank = Kind::ARE_PROBABILITIES ? inverse : of_blank;
            const double by_mark = Kind::ARE_PROBABILITIES ? inverse : of_mark;
            blanks[s] = Algebra::times(
                Algebra::times(Algebra::times(blanks[s], at_blank), by_blank), factor);
            marks[s] = Algebra::times(
                Algebra::times(Algebra::times(marks[s], at_mark), by_mark), factor);
        });
    }

    // Sums the shares of the positions of each slot.
    template <typename Algebra>
    SHARED_STEP_METHOD void gather() const {
        team.parts(length, [&](const auto& part, Index time) INLINED {
            const double* const blanks = state(time);
            const double* const marks = blanks + positions();
            const double of_blank = part.sum(
                positions(), [&](Index s) INLINED { return Algebra::number(blanks[s]); });
            double* const shares = weight(time);
            part.each(slots, [&](Index k) INLINED {
                double sum = 0;
                for (Index s = k ? head[k] : 0; s > 0; s = next_same[s])
                    sum += Algebra::number(marks[s]);
                shares[k] = k ? sum : of_blank;
            });
        });
    }

    // ------------------------------------------------------------ everything that is no alignment

    // The probabilities of slots take the place of weights.  The largest of labels are kept, and
    // `left` has that of all other classes.
    SHARED_STEP_METHOD void make_masses() const {
        team.parts(length, [&](const auto& part, Index time) INLINED {
            double* const masses = weight(time);
            const auto own = probabilities(time);
            part.each(slots, [&](Index k) INLINED { masses[k] = own(class_of[k]); });
            const double of_others = part.sum(classes, [&](Index c) INLINED {
                return pick(slot_of[c] < 0, own(c), 0.0);
            });
            part.once([&] INLINED { left[time] = of_others; });
        });
        team.each(length, [&](Index time) INLINED { keep_largest(time); });
    }

    SHARED_METHOD void keep_largest(Index time) const {
        const double* const masses = weight(time);
        double* const kept = most_masses + time * MOST_KEPT;
        Index* const of = most_slots + time * MOST_KEPT;
        for (Index i = 0; i < MOST_KEPT; ++i) kept[i] = 0, of[i] = -2;
        double others = 0;
        for (Index k = 1; k < slots; ++k) {
            double mass = masses[k];
            Index own = k;
            for (Index i = 0; i < MOST_KEPT; ++i) {
                if (!(mass > kept[i])) continue;
                const double less = kept[i];
                const Index of_less = of[i];
                kept[i] = mass, of[i] = own;
                mass = less, own = of_less;
            }
            others += mass;
        }
        left[time] += others;
    }

    // The probability that a frame leads from the blank or the label of a position to being lost: that
    // of all labels but two.  One that is subtracted is no larger than one that is added, so that no
    // digits cancel.
    SHARED_METHOD double miss(Index time, Index position, bool is_mark) const {
        const double* const kept = most_masses + time * MOST_KEPT;
        const Index* const of = most_slots + time * MOST_KEPT;
        const Index following = slot[position + 1];
        const Index own = is_mark && slot[position] != following ? slot[position] : -1;
        double sum = left[time];
        bool has_own = own <= 0, has_following = following <= 0;
        for (Index i = 0; i < MOST_KEPT; ++i) {
            const bool is_own = of[i] == own, is_following = of[i] == following;
            sum += pick(is_own | is_following, 0.0, kept[i]);
            has_own |= is_own;
            has_following |= is_following;
        }
        const double* const masses = weight(time);
        sum -= pick(has_own, 0.0, masses[has_own ? 0 : own]);
        return sum - pick(has_following, 0.0, masses[has_following ? 0 : following]);
    }

    // The probability of all states before a frame that lead with a slot to being lost.
    SHARED_METHOD double missing(Index time, Index of_slot) const {
        const double* const blanks = state(time);
        const double* const marks = blanks + positions();
        double sum = 0;
        for (Index s = 0; s <= count; ++s) {
            const bool is_next = slot[s + 1] == of_slot, is_own = s > 0 && slot[s] == of_slot;
            sum += pick(is_next, 0.0, blanks[s]) + pick(is_next | is_own, 0.0, marks[s]);
        }
        return sum;
    }

    // Reads all frames, and returns the probability that they are read as other labels.
    SHARED_STEP_METHOD double read() const {
        int turn = 0;
        clear(0);
        team.each(1, [&](Index) INLINED { leaving_blanks(0)[0] = 1; });
        for (Index time = 0; time < length; ++time, turn ^= 1) {
            const double* const blank = leaving_blanks(turn);
            const double* const mark = leaving_marks(turn);
            double* const to_blank = leaving_blanks(turn ^ 1);
            double* const to_mark = leaving_marks(turn ^ 1);
            double* const kept = state(time);
            const double* const masses = weight(time);
            team.each(positions(), [&](Index s) INLINED {
                const double arrived = mark[s] + blank[s - 1] + skips[s] * mark[s - 1];
                to_blank[s] = (blank[s] + mark[s]) * masses[0];
                to_mark[s] = s == 0 ? 0.0 : arrived * masses[slot[s]];
                kept[s] = blank[s];
                kept[positions() + s] = mark[s];
            });
        }
        team.parts(length, [&](const auto& part, Index time) INLINED {
            const double* const blanks = state(time);
            const double* const marks = blanks + positions();
            const double here = part.sum(positions(), [&](Index s) INLINED {
                return blanks[s] * miss(time, s, false) + marks[s] * miss(time, s, true);
            });
            part.once([&] INLINED { lost[time] = here; });
        });
        const double* const blanks = leaving_blanks(turn);
        const double* const marks = leaving_marks(turn);
        double sum = team.whole().sum(count, [&](Index s) INLINED { return blanks[s] + marks[s]; });
        sum += team.whole().sum(length, [&](Index time) INLINED { return lost[time]; });
        team.wait();
        // From what is lost at each frame to what is lost before it.
        team.each(1, [&](Index) INLINED {
            double before = 0;
            for (Index time = 0; time < length; ++time) {
                const double here = lost[time];
                lost[time] = before;
                before += here;
            }
        });
        return sum;
    }

    // Leaves in each weight how much more probable being wrong is with the slot's class in the frame,
    // relative to the complement.
    SHARED_STEP_METHOD void make_surplus(double wrong) const {
        int turn = 0;
        team.each(positions(), [&](Index s) INLINED {
            leaving_blanks(0)[s] = leaving_marks(0)[s] = s != count ? 1.0 : 0.0;
        });
        for (Index time = length - 1; time >= 0; --time, turn ^= 1) {
            const double* const blank_after = leaving_blanks(turn);
            const double* const mark_after = leaving_marks(turn);
            double* const by_blank = leaving_blanks(turn ^ 1);
            double* const by_mark = leaving_marks(turn ^ 1);
            double* const own = weight(time);
            team.each(positions(), [&](Index s) INLINED {
                const double to_blank = own[0] * blank_after[s];
                const double to_same = s == 0 ? 0.0 : own[slot[s]] * mark_after[s];
                const double to_next = s == count ? 0.0 : own[slot[s + 1]] * mark_after[s + 1];
                by_blank[s] = miss(time, s, false) + to_blank + to_next;
                by_mark[s] = miss(time, s, true) + to_blank + to_same + skips[s + 1] * to_next;
            });
            const double* const blanks = state(time);
            const double* const marks = blanks + positions();
            const auto here = [&](Index s) INLINED { return blanks[s] + marks[s]; };
            const double all = team.whole().sum(positions(), here);
            const double by_blank_wrong = team.whole().sum(
                positions(), [&](Index s) INLINED { return here(s) * blank_after[s]; });
            team.each(slots, [&](Index k) INLINED {
                double found = lost[time] + (k == 0 ? by_blank_wrong : 0.0), led_on = 0;
                for (Index s = k ? head[k] : 0; s > 0; s = next_same[s]) {
                    const double arrived = marks[s] + blanks[s - 1] + skips[s] * marks[s - 1];
                    led_on += arrived;
                    found += arrived * mark_after[s];
                }
                // A state leads on with two labels, so with few of them do most states: only there
                // would digits cancel.
                if (k) found += led_on <= all / 2 ? all - led_on : missing(time, k);
                own[k] = (found - wrong) / (1 - wrong);
            });
        }
    }

    // ------------------------------------------------------------ value and gradient

    // The value, infinite where there is no alignment; writes the gradient of all frames that there may be.
    template <typename Write>
    SHARED_STEP_METHOD double value_of(Index most_frames, const Write& write) {
        const auto none = [](Index) INLINED { return 0.0; };
        const bool is_possible = frames_needed() <= length;
        if (!is_possible) length = 0;
        team.parts(most_frames - length, [&](const auto& part, Index late) INLINED {
            write(part, length + late, none);
        });
        if (!is_possible) return infinite();
        return length ? aligned(write) : 0;
    }

    template <typename Write>
    SHARED_STEP_METHOD double aligned(const Write& write) {
        place();
        if (Kind::ARE_LOGITS) make_softmax();
        make_weights<Plain>();
        Total total = align<Plain>();
        if (!total.is_trusted) {
            make_weights<Logarithms>();
            total = align<Logarithms>();
        }
        double value = team.whole().sum(length, [&](Index time) INLINED {
            if (!Kind::ARE_LOGITS) return -largest[time];
            return log1p(rest[time]) + (best_score[time] - largest[time]);
        });
        value -= total.log;
        // Only rounding could make it negative.
        if (Kind::ARE_LOGITS && value < 0) value = 0;
        // Below this cost of a frame, cancellation in it and in its gradient shows in the input's type.
        const bool is_sure = fabs(value) < (sizeof(T) == 4 ? 1e-8 : 1e-4) * double(length);
        if (!Kind::ARE_LOGITS) {
            write_slopes(value, write, [&](Index, double, double share) INLINED { return -share; });
            return is_sure ? refined(value) : value;
        }
        if (!is_sure) {
            write_slopes(value, write, [&](Index, double own, double share) INLINED {
                return own - share;
            });
            return value;
        }
        make_masses();
        const double wrong = read();
        make_surplus(wrong);
        value = -log1p(-wrong);
        write_slopes(value, write, [&](Index place, double own, double surplus) INLINED {
            return pick(place < 0, own, own * surplus);
        });
        return value;
    }

    // The value of a row that is nearly certain, whose frames may sum to slightly more or less than
    // 1; gradients keep their digits anyway.
    SHARED_STEP_METHOD double refined(double value) {
        make_softmax();
        make_masses();
        const double wrong = read();
        const double more = team.whole().sum(
            length, [&](Index time) INLINED { return best_score[time] + log1p(rest[time]); });
        return wrong < 0.5 ? -log1p(-wrong) - more : value;
    }

    // Writes slope(place, probability, what is kept of the place) for each class of each frame.
    template <typename Write, typename Slope>
    SHARED_STEP_METHOD void write_slopes(double value, const Write& write, Slope slope) const {
        team.parts(length, [&](const auto& part, Index time) INLINED {
            const double* const kept = weight(time);
            const Index likeliest = best[time];
            const auto probability = probabilities(time);
            const auto own = [=](Index c) INLINED {
                const Index place = slot_of[c];
                const double of_place = pick(place < 0, 0.0, kept[place < 0 ? 0 : place]);
                return slope(place, Kind::ARE_LOGITS ? probability(c) : 0, of_place);
            };
            // A row without a value has no gradient.
            if (value != value || value == infinite())
                return write(part, time, [&](Index) INLINED { return value == value ? 0 : value; });
            // The gradient of a frame sums to 0.  That of a class that has most of the probability
            // is the difference of two numbers near 1.
            if (!Kind::ARE_LOGITS || !(rest[time] < 1)) return write(part, time, own);
            const double others = part.sum(
                classes, [&](Index c) INLINED { return pick(c == likeliest, 0.0, own(c)); });
            write(part, time, [&](Index c) INLINED { return pick(c == likeliest, -others, own(c)); });
        });
    }
};
