// The kernel of the losses of log-probabilities of tokens; what a text may say is told in
// ../tokens.hpp.  One thread computes a sequence, block by block, each step in a loop that the compiler
// makes vectors of.
//
// A token that does not count is computed as one of which everything is 0, and then left out, so that
// what it holds cannot reach anything.

// Tokens of a block: what is made of them fills half of a first-level cache of 32 KiB.
constexpr int TOKENS = 128;
constexpr int64_t SPACED = spaced<double>(TOKENS);
// How many blocks ahead memory is prefetched that will be read and written: a processor that follows many
// arrays by itself gets each of them late.
constexpr int READ_AHEAD = 6, WRITTEN_AHEAD = 3;
constexpr int MOST_TOKEN_INPUTS = 7;

// What is told of each sequence, and their number: first what policies tell, then what distillation does.
enum Said {
    CLIPPED, RATIO, LARGEST_RATIO, DIVERGENCE, ROLLOUT_GAP, SAMPLING_DIVERGENCE, ENTROPY,
    STUDENT_MASS, TEACHER_MASS, SAID
};
constexpr int SAID_OF_POLICIES = ENTROPY + 1;

// What a kernel of tokens is called with.  _tokens.py describes the same to ctypes.
struct TokenCall {
    int64_t first, end;        // sequences
    const int64_t* starts;     // of each sequence: its first token,
    const int64_t* sizes;      // the places that it has,
    const int64_t* used;       // and how many of them have a token
    const uint8_t* mask;       // one a token: 1 for those that count, else 0; or null
    const uint8_t* silent;     // one a sequence, or null
    const double* scales;      // of derivatives, one a sequence
    const double* shares;      // of the sum of a sequence, one each
    Input inputs[MOST_TOKEN_INPUTS];
    int64_t classes;           // numbers of a token, where it has a distribution; else 0
    int64_t by_sequence;       // bits of the inputs that have one number a sequence
    double* values;            // one a sequence
    char* gradient;            // or null
    int64_t gradient_first;    // the token that it begins with
    int64_t gradient_kind;     // FLOAT32 or FLOAT64
    uint8_t* nonfinite;        // one a sequence: set where the gradient is not finite
    double* said;              // (sequences, SAID), or null
    const double* numbers;     // the parameters
    // What the kernel answers:
    int64_t outside;           // whether a number of a token that counts breaks its rule
};

INLINE bool answered(TokenCall& given, bool (*run)(TokenCall&)) {
    ON_LINES TokenCall call = given;
    const bool has_run = run(call);
    given.outside = call.outside;
    return has_run;
}

// The role of each input; of one that is not there the place is null.
enum Role { LOGS, SAMPLING, ADVANTAGES, REFERENCE, ROLLOUT, WEIGHTS, ENTROPIES };

struct Room {
    ON_LINES double given[MOST_TOKEN_INPUTS][SPACED];
    ON_LINES double kept[SPACED];  // 1 for tokens that count, else 0
    bool are_all_kept;             // because there is no mask
    int ones = 0;                  // at the beginning of `kept`, with zeros up to a whole group
    bool is_narrow;                // no log-probability has more digits than float
    ON_LINES double ratios[SPACED], values[SPACED], slopes[SPACED], clipped[SPACED];
    ON_LINES double estimates[SPACED], terms[SPACED];
    double* rows = nullptr;  // of the distributions of a token, see Classes
};

// What is known of a whole sequence before its tokens are computed.
struct Totals {
    double ratio, weight, slope;
};

// A sequence as the text is given it.
struct Example {
    TokenCall& call;
    int64_t row;
    Room& room;
    double count;  // of tokens that count
};

INLINE bool has(const TokenCall& call, Role role) { return call.inputs[role].place != nullptr; }
INLINE bool is_wide(const TokenCall& call, Role role) { return call.inputs[role].kind == FLOAT64; }

// Makes the numbers of tokens that do not count 0.
INLINE void leave_out(double* __restrict numbers, const double* __restrict kept, int count) {
    INDEPENDENT
    for (int i = 0; i < count; ++i) numbers[i] = pick(kept[i] != 0, numbers[i], 0.0);
}

// Prefetches what lies some blocks further on, into the second-level cache: the first has no room for it.
template <bool IS_WRITTEN>
INLINE void prefetch_ahead(const char* block, int64_t bytes, int blocks) {
    const uintptr_t first = uintptr_t(block) + uintptr_t(bytes * blocks);
    for (int64_t line = 0; line < bytes; line += LINE_BYTES)
        __builtin_prefetch(reinterpret_cast<const char*>(first + uintptr_t(line)), IS_WRITTEN, 2);
}

// Reads an input of some tokens; 0 for those that do not count.
INLINE void read_tokens(const Example& example, Role role, int64_t first, int count) {
    TokenCall& call = example.call;
    const Input& input = call.inputs[role];
    double* const to = example.room.given[role];
    const double* const kept = example.room.kept;
    const int groups = whole_groups(count);
    if (call.by_sequence >> role & 1) {
        double number[1];
        read(input.kind, input.place + example.row * size_of(input.kind), number, 1);
        for (int i = 0; i < count; ++i) to[i] = number[0];
    } else {
        const char* const from = input.place + first * size_of(input.kind);
        prefetch_ahead<false>(from, count * size_of(input.kind), READ_AHEAD);
        read(input.kind, from, to, count);
    }
    for (int i = count; i < groups; ++i) to[i] = 0;
    if (!example.room.are_all_kept) leave_out(to, kept, groups);
    if (input.rule != ANY) call.outside |= any_outside(input, to, groups);
}

INLINE void look_which_count(const Example& example, int64_t first, int count) {
    Room& room = example.room;
    double* const kept = room.kept;
    const uint8_t* const mask = example.call.mask;
    const int groups = whole_groups(count);
    room.are_all_kept = !mask;
    if (!mask && room.ones == count) return;
    room.ones = mask ? 0 : count;
    for (int i = 0; i < groups; ++i) kept[i] = 1;
    if (mask) {
        INDEPENDENT
        for (int i = 0; i < count; ++i) kept[i] = double(mask[first + i]);
    }
    for (int i = count; i < groups; ++i) kept[i] = 0;
}

// Calls visit(first token, count) for each block of a sequence.
template <typename Visit>
INLINE void each_block_of_tokens(const Example& example, Visit visit) {
    const int64_t start = example.call.starts[example.row], used = example.call.used[example.row];
    for (int64_t place = 0; place < used; place += TOKENS)
        visit(start + place, used - place < TOKENS ? int(used - place) : TOKENS);
}

// The sum over a sequence of how far one log-probability is from another.
OUTLINE double total_apart(const Example& example, Role left, Role right) {
    Lanes sum;
    each_block_of_tokens(example, [&](int64_t first, int count) INLINED {
        look_which_count(example, first, count);
        read_tokens(example, left, first, count);
        read_tokens(example, right, first, count);
        double* const terms = example.room.terms;
        const double *const from = example.room.given[left], *const to = example.room.given[right];
        const int groups = whole_groups(count);
        INDEPENDENT
        for (int i = 0; i < groups; ++i) terms[i] = from[i] - to[i];
        sum.add(terms, groups);
    });
    return sum.total();
}

// Numbers whose exponentials are taken in few steps.
constexpr double NEAR = 50;

// exp(x), or what it is beyond 1, of the difference x of two log-probabilities.  Steps that are needed by
// numbers far from 0 alone change no bit of others, and are taken where a block has such a number.
template <bool BEYOND_ONE, typename F>
OUTLINE void take_exponentials(
    const double* __restrict from, const double* __restrict other, double* __restrict to, int count) {
    int64_t most = 0;  // of the bits of their sizes: those of NaN are beyond those of any number
    INDEPENDENT
    for (int i = 0; i < count; ++i) {
        const double x = from[i] - other[i];
        const int64_t size = bits<int64_t>(fabs(x));
        most = size > most ? size : most;
        to[i] = BEYOND_ONE ? expm1_within<double, F>(x) : exp_within<double, F>(x);
    }
    if (most <= bits<int64_t>(NEAR)) return;
    INDEPENDENT
    for (int i = 0; i < count; ++i) {
        const double x = from[i] - other[i];
        to[i] = BEYOND_ONE ? expm1_of<double, F>(x) : exp_of<double, F>(x);
    }
}

template <bool BEYOND_ONE>
INLINE void write_exponentials(const Room& room, Role from, Role other, double* to, int count) {
    const auto take = room.is_narrow ? take_exponentials<BEYOND_ONE, Narrow>
                                     : take_exponentials<BEYOND_ONE, Format<double>>;
    take(room.given[from], room.given[other], to, count);
}

typedef void (*CostOfTokens)(const Policy& policy, Room& room, int count);

template <int OBJECTIVE>
OUTLINE void compute_costs(const Policy& given, Room& room, int count) {
    const Policy policy = given;
    const double* __restrict const logs = room.given[LOGS];
    const double* __restrict const sampling = room.given[SAMPLING];
    const double* __restrict const advantages = room.given[ADVANTAGES];
    const double* __restrict const ratios = room.ratios;
    double* __restrict const values = room.values;
    double* __restrict const slopes = room.slopes;
    double* __restrict const clipped = room.clipped;
    const int groups = count / GROUP * GROUP;
    INDEPENDENT
    for (int i = 0; i < groups; ++i) {
        const Cost cost =
            cost_of<OBJECTIVE>(policy, Token{logs[i], sampling[i], advantages[i], ratios[i]});
        values[i] = cost.value;
        slopes[i] = cost.slope;
        clipped[i] = cost.clipped;
    }
}

template <int ESTIMATOR>
OUTLINE void add_divergences(const Policy& policy, Room& room, int count) {
    const double* __restrict const logs = room.given[LOGS];
    const double* __restrict const reference = room.given[REFERENCE];
    const double* __restrict const weights = room.given[WEIGHTS];
    double* __restrict const values = room.values;
    double* __restrict const slopes = room.slopes;
    double* __restrict const estimates = room.estimates;
    double* __restrict const less = room.terms;
    const double coefficient = policy.coefficient;
    const int groups = count / GROUP * GROUP;
    if (ESTIMATOR == K3) write_exponentials<true>(room, REFERENCE, LOGS, less, groups);
    if (coefficient == 0) {
        INDEPENDENT
        for (int i = 0; i < groups; ++i)
            estimates[i] = divergence_of<ESTIMATOR>(logs[i] - reference[i], less[i]).value;
        return;
    }
    INDEPENDENT
    for (int i = 0; i < groups; ++i) {
        const Cost found = divergence_of<ESTIMATOR>(logs[i] - reference[i], less[i]);
        estimates[i] = found.value;
        values[i] += weighed(weights[i], coefficient * found.value);
        slopes[i] += weighed(weights[i], coefficient * found.slope);
    }
}

template <int... NUMBERS>
struct Numbers {};

template <int... OBJECTIVE>
INLINE CostOfTokens costs_of(int objective, Numbers<OBJECTIVE...>) {
    static constexpr CostOfTokens all[] = {compute_costs<OBJECTIVE>...};
    return all[objective];
}
template <int... ESTIMATOR>
INLINE CostOfTokens divergences_of(int estimator, Numbers<ESTIMATOR...>) {
    static constexpr CostOfTokens all[] = {add_divergences<ESTIMATOR>...};
    return all[estimator];
}

INLINE void compute_ratios(const Policy& policy, const Totals& totals, Room& room, int count) {
    double* __restrict const ratios = room.ratios;
    if (policy.ratio == RATIO_OF_TOKEN)
        return write_exponentials<false>(room, LOGS, SAMPLING, ratios, count);
    for (int i = 0; i < count; ++i) ratios[i] = totals.ratio;
}

INLINE void weigh(double* __restrict numbers, const double* __restrict weights, int count) {
    INDEPENDENT
    for (int i = 0; i < count; ++i) numbers[i] = weighed(weights[i], numbers[i]);
}

INLINE void weigh_costs(const Policy& policy, const Totals& totals, const Example& example, int count) {
    Room& room = example.room;
    if (policy.correction != NO_CORRECTION) {
        const double* __restrict const sampling = room.given[SAMPLING];
        const double* __restrict const rollout = room.given[ROLLOUT];
        double* __restrict const weights = room.terms;
        if (corrects_sequences(policy)) {
            for (int i = 0; i < count; ++i) weights[i] = totals.weight;
        } else {
            INDEPENDENT
            for (int i = 0; i < count; ++i)
                weights[i] = correction_of(policy, sampling[i] - rollout[i]);
        }
        weigh(room.values, weights, count);
        weigh(room.slopes, weights, count);
    }
    if (!has(example.call, WEIGHTS)) return;
    weigh(room.values, room.given[WEIGHTS], count);
    weigh(room.slopes, room.given[WEIGHTS], count);
}

// Costs of a block of tokens, with all that is beside the objective.
INLINE void compute_block(
    const Policy& policy, const Totals& totals, const Example& example, int64_t first, int count,
    Lanes* slopes) {
    Room& room = example.room;
    const int groups = whole_groups(count);
    look_which_count(example, first, count);
    for (int role = LOGS; role <= ENTROPIES; ++role)
        if (has(example.call, Role(role))) read_tokens(example, Role(role), first, count);
    compute_ratios(policy, totals, room, groups);
    costs_of(policy.objective, Numbers<0, 1, 2, 3, 4, 5, 6, 7, 8, 9>())(policy, room, groups);
    weigh_costs(policy, totals, example, groups);
    if (slopes) slopes->add(room.slopes, groups);
    if (spreads(policy))
        for (int i = 0; i < groups; ++i) room.slopes[i] = totals.slope;
    if (policy.estimator != NO_ESTIMATOR)
        divergences_of(policy.estimator, Numbers<0, 1, 2, 3>())(policy, room, groups);
    if (room.are_all_kept && groups == count) return;
    leave_out(room.values, room.kept, groups);
    leave_out(room.slopes, room.kept, groups);
}

// Rounds derivatives of tokens, and writes them; returns whether all are finite.
template <typename Number>
INLINE bool write_as(char* to, const double* slopes, double scale, int count) {
    typedef typename Format<Number>::Unsigned Unsigned;
    ON_LINES Number rounded[TOKENS];
    Unsigned found = 0;
    INDEPENDENT
    for (int i = 0; i < whole_groups(count); ++i) {
        rounded[i] = Number(weighed(scale, slopes[i]));
        found |= overflow_of(bits<Unsigned>(rounded[i]), Format<Number>::DIGITS);
    }
    __builtin_memcpy(to, rounded, count * sizeof(Number));
    return found == 0;
}

OUTLINE void write_slopes(const Example& example, int64_t first, int count) {
    const TokenCall& call = example.call;
    const Kind kind = Kind(call.gradient_kind);
    char* const to = call.gradient + (first - call.gradient_first) * size_of(kind);
    prefetch_ahead<true>(to, count * size_of(kind), WRITTEN_AHEAD);
    const double scale = call.scales[example.row];
    const bool is_finite = kind == FLOAT32 ? write_as<float>(to, example.room.slopes, scale, count)
                                           : write_as<double>(to, example.room.slopes, scale, count);
    if (!is_finite) call.nonfinite[example.row] = 1;
}

// Sums of what is told of a sequence.
struct Telling {
    Lanes sums[SAID_OF_POLICIES];
    double largest = 0;  // of ratios, none of which is less

    template <typename Term>
    METHOD void add(Said said, Room& room, int count, Term term) {
        double* __restrict const terms = room.terms;
        INDEPENDENT
        for (int i = 0; i < count; ++i) terms[i] = pick(room.kept[i] != 0, term(i), 0.0);
        sums[said].add(terms, count);
    }

    METHOD void add_all(const Example& example, int count) {
        Room& room = example.room;
        const double* const logs = room.given[LOGS];
        const double* const sampling = room.given[SAMPLING];
        const double* const rollout = room.given[ROLLOUT];
        const double* const entropies = room.given[ENTROPIES];
        add(CLIPPED, room, count, [&](int i) INLINED { return room.clipped[i]; });
        add(RATIO, room, count, [&](int i) INLINED { return room.ratios[i]; });
        const double most = largest_of(room.terms, count);
        largest = most > largest ? most : largest;
        add(DIVERGENCE, room, count, [&](int i) INLINED { return room.estimates[i]; });
        add(SAMPLING_DIVERGENCE, room, count, [&](int i) INLINED { return sampling[i] - logs[i]; });
        add(ROLLOUT_GAP, room, count, [&](int i) INLINED { return fabs(sampling[i] - rollout[i]); });
        add(ENTROPY, room, count, [&](int i) INLINED { return entropies[i]; });
    }

    METHOD void write(const Example& example) const {
        const TokenCall& call = example.call;
        double* const said = call.said + example.row * SAID;
        const double count = example.count > 0 ? example.count : 1;
        for (int i = 0; i < SAID_OF_POLICIES; ++i) said[i] = sums[i].total() / count;
        said[LARGEST_RATIO] = said[RATIO] == said[RATIO] ? largest : said[RATIO];  // NaN is larger
        // 0 where what it is made of is not given.
        if (!has(call, REFERENCE)) said[DIVERGENCE] = 0;
        if (!has(call, SAMPLING)) said[SAMPLING_DIVERGENCE] = 0;
        if (!has(call, SAMPLING) || !has(call, ROLLOUT)) said[ROLLOUT_GAP] = 0;
        if (!has(call, ENTROPIES)) said[ENTROPY] = 0;
    }
};

INLINE Totals totals_of(const Policy& policy, const Example& example) {
    const double count = example.count > 0 ? example.count : 1;
    Totals totals{1, 1, 0};
    if (has_one_ratio(policy)) totals.ratio = exp(total_apart(example, LOGS, SAMPLING) / count);
    if (corrects_sequences(policy))
        totals.weight = correction_of(policy, total_apart(example, SAMPLING, ROLLOUT));
    if (!spreads(policy)) return totals;
    Lanes slopes;
    each_block_of_tokens(example, [&](int64_t first, int count_of_block) INLINED {
        compute_block(policy, totals, example, first, count_of_block, &slopes);
    });
    totals.slope = slopes.total() / count;
    return totals;
}

// The sum of the costs of a sequence.  Writes its gradient, and what is told of it.
INLINE double cost_of_sequence(const Example& example, const Policy& policy) {
    TokenCall& call = example.call;
    const Totals totals = totals_of(policy, example);
    Lanes sum;
    Telling telling;
    each_block_of_tokens(example, [&](int64_t first, int count) INLINED {
        compute_block(policy, totals, example, first, count, nullptr);
        sum.add(example.room.values, whole_groups(count));
        if (call.gradient) write_slopes(example, first, count);
        if (call.said) telling.add_all(example, whole_groups(count));
    });
    if (call.said) telling.write(example);
    return sum.total();
}

// ------------------------------------------------------------------ distributions of tokens

// The numbers of a token's classes, in whole groups: of student and teacher logarithms and shares, and
// the derivatives with respect to the former.
struct Classes {
    int64_t count, groups;
    double* __restrict logs[2];
    double* __restrict shares[2];
    double* __restrict slopes;

    static double* allocated(int64_t classes) {
        const int64_t numbers = 5 * spaced<double>(padded_classes(classes));
        return static_cast<double*>(aligned_alloc(LINE_BYTES, size_t(numbers) * sizeof(double)));
    }
    static int64_t padded_classes(int64_t classes) { return (classes + GROUP - 1) / GROUP * GROUP; }

    METHOD Classes(int64_t classes, double* rows)
        : count(classes), groups(padded_classes(classes)) {
        const int64_t apart = spaced<double>(groups);
        for (int side = 0; side < 2; ++side) {
            logs[side] = rows + side * apart;
            shares[side] = rows + (2 + side) * apart;
        }
        slopes = rows + 4 * apart;
    }
};

// Calls visit(first, count) for blocks of whole groups; sums of long rows are taken block by block.
template <typename Visit>
INLINE void each_block_of_classes(int64_t groups, Visit visit) {
    for (int64_t start = 0; start < groups; start += BLOCK)
        visit(start, groups - start < BLOCK ? int(groups - start) : BLOCK);
}

INLINE double sum_of_classes(const double* numbers, int64_t groups) {
    Lanes sum;
    each_block_of_classes(groups, [&](int64_t start, int count) INLINED { sum.add(numbers + start, count); });
    return sum.total();
}

// Reads numbers of a type; the address may be unfit for it.
template <typename Number>
INLINE void read_as(const char* from, double* __restrict to, int64_t count) {
    for (int64_t start = 0; start < count; start += BLOCK) {
        const int here = count - start < BLOCK ? int(count - start) : BLOCK;
        ON_LINES Number given[BLOCK];
        __builtin_memcpy(given, from + start * int64_t(sizeof(Number)), here * sizeof(Number));
        INDEPENDENT
        for (int i = 0; i < here; ++i) to[start + i] = double(given[i]);
    }
}

OUTLINE void read_classes(const Input& input, int64_t first, double* to, int64_t count) {
    const char* const from = input.place + first * size_of(input.kind);
    if (input.kind == FLOAT32) return read_as<float>(from, to, count);
    if (input.kind == FLOAT64) return read_as<double>(from, to, count);
    for (int64_t start = 0; start < count; start += BLOCK)
        read(input.kind, from + start * size_of(input.kind), to + start,
             count - start < BLOCK ? int(count - start) : BLOCK);
}

// Takes a number from all logarithms, and makes exponentials of them; 0 beyond the classes.
OUTLINE void make_shares(
    double* __restrict logs, double* __restrict shares, double most, const Classes& classes) {
    for (int64_t start = 0; start < classes.groups; start += BLOCK) {
        const int64_t end = classes.groups - start < BLOCK ? classes.groups : start + BLOCK;
        // Of numbers that are all near 0, as they mostly are, in fewer steps.
        uint64_t far = 0;
        INDEPENDENT
        for (int64_t i = start; i < end; ++i) {
            const double log = logs[i] - most;
            logs[i] = log;
            far |= (log >= Format<double>::FAINT) & (log <= 0) ? uint64_t(0) : uint64_t(1);
            shares[i] = exp_within(log);
        }
        if (!far) continue;
        INDEPENDENT
        for (int64_t i = start; i < end; ++i) shares[i] = exp(logs[i]);
    }
    for (int64_t i = classes.count; i < classes.groups; ++i) shares[i] = 0;
}

// Reads a side of a token and makes a distribution of it; returns what is left to other classes.
OUTLINE Part read_distribution(const Example& example, const Distilling& how, int side, int64_t token,
                               const Classes& classes) {
    const Input& input = example.call.inputs[side];
    double* __restrict const logs = classes.logs[side];
    double* __restrict const shares = classes.shares[side];
    const int64_t count = classes.count, groups = classes.groups;
    read_classes(input, token * count, logs, count);
    for (int64_t i = count; i < groups; ++i) logs[i] = logs[0];  // no larger, and no further away
    if (how.support != WHOLE) {
        make_shares(logs, shares, 0, classes);
        return rest_of(sum_of_classes(shares, groups));
    }
    double lanes[GROUP];
    for (int lane = 0; lane < GROUP; ++lane) lanes[lane] = -unbounded();
    for (int64_t start = 0; start < groups; start += GROUP) {
        INDEPENDENT
        for (int i = 0; i < GROUP; ++i) {
            const double log = logs[start + i];
            lanes[i] = log > lanes[i] ? log : lanes[i];
        }
    }
    double most = lanes[0];
    for (int lane = 1; lane < GROUP; ++lane) most = lanes[lane] > most ? lanes[lane] : most;
    if (how.temperature != 1) {  // a quotient of the logits themselves might be infinite
        INDEPENDENT
        for (int64_t i = 0; i < groups; ++i) logs[i] = (logs[i] - most) / how.temperature;
        most -= most;
    }
    make_shares(logs, shares, most, classes);
    const double sum = sum_of_classes(shares, groups);
    const double log_sum = log(sum), part = 1 / sum;
    INDEPENDENT
    for (int64_t i = 0; i < groups; ++i) {
        logs[i] -= log_sum;
        shares[i] *= part;
    }
    return Part{0, 0};
}

// The divergence of a token; leaves the derivatives with respect to its logarithms.
template <TermKind KIND>
OUTLINE double compute_terms(const Distilling& given, const Classes& classes) {
    const Distilling how = given;
    const double *__restrict const logs = classes.logs[0], *__restrict const shares = classes.shares[0];
    const double* __restrict const teacher_logs = classes.logs[1];
    const double* __restrict const teacher_shares = classes.shares[1];
    double* __restrict const slopes = classes.slopes;
    Lanes sum;
    for (int64_t start = 0; start < classes.groups; start += BLOCK) {
        const int count = classes.groups - start < BLOCK ? int(classes.groups - start) : BLOCK;
        ON_LINES double terms[BLOCK];
        INDEPENDENT
        for (int i = 0; i < count; ++i) {
            const int64_t at = start + i;
            const Term term = term_of<KIND>(
                how, Part{shares[at], logs[at]}, Part{teacher_shares[at], teacher_logs[at]});
            terms[i] = term.value;
            slopes[at] = term.slope;
        }
        // Of classes that fill up a group.
        for (int i = count; start + i > classes.count; --i) {
            terms[i - 1] = 0;
            slopes[start + i - 1] = 0;
        }
        sum.add(terms, count);
    }
    return sum.total();
}

INLINE double terms_of(const Distilling& how, const Classes& classes) {
    switch (kind_of(how)) {
        case FORWARD: return compute_terms<FORWARD>(how, classes);
        case REVERSE: return compute_terms<REVERSE>(how, classes);
        default: return compute_terms<WEIGHED>(how, classes);
    }
}

INLINE Term term_of_rest(const Distilling& how, Part student, Part teacher) {
    switch (kind_of(how)) {
        case FORWARD: return term_of<FORWARD>(how, student, teacher);
        case REVERSE: return term_of<REVERSE>(how, student, teacher);
        default: return term_of<WEIGHED>(how, student, teacher);
    }
}

// Makes limits of the derivatives of a token, some of which are infinite.
OUTLINE void make_limits(const Classes& classes) {
    double of_others = 0, count = 0;
    for (int64_t i = 0; i < classes.count; ++i) {
        const bool is_impossible = classes.slopes[i] == unbounded();
        count += is_impossible;
        of_others += is_impossible ? 0.0 : classes.shares[0][i];
    }
    for (int64_t i = 0; i < classes.count; ++i)
        classes.slopes[i] = limit_of(classes.slopes[i], classes.shares[0][i], of_others, count);
}

template <typename Number, bool COOLS>
OUTLINE bool write_classes_as(
    char* to, const Distilling& given, const Classes& classes, double lever, double scale) {
    const Distilling how = given;
    typedef typename Format<Number>::Unsigned Unsigned;
    const double *__restrict const slopes = classes.slopes, *__restrict const shares = classes.shares[0];
    Unsigned found = 0;
    for (int64_t start = 0; start < classes.count; start += BLOCK) {
        const int count = classes.count - start < BLOCK ? int(classes.count - start) : BLOCK;
        ON_LINES Number rounded[BLOCK];
        INDEPENDENT
        for (int i = 0; i < whole_groups(count); ++i) {
            const double slope = slope_of(how, slopes[start + i], shares[start + i], lever);
            rounded[i] = Number(weighed(scale, COOLS ? slope / how.temperature : slope));
            found |= overflow_of(bits<Unsigned>(rounded[i]), Format<Number>::DIGITS);
        }
        __builtin_memcpy(to + start * sizeof(Number), rounded, count * sizeof(Number));
    }
    return found == 0;
}

// Adds to `masses` what each side gives to the classes there are, where that is told.
OUTLINE double divergence_of_token(
    const Example& example, const Distilling& how, int64_t token, double* masses) {
    TokenCall& call = example.call;
    const Classes classes(call.classes, example.room.rows);
    const Part student = read_distribution(example, how, 0, token, classes);
    const Part teacher = read_distribution(example, how, 1, token, classes);
    for (int side = 0; side < 2 && call.said; ++side)
        masses[side] += sum_of_classes(classes.shares[side], classes.groups);
    double value = terms_of(how, classes);
    Term of_rest{0, 0};
    if (how.support == TAIL_BUCKET) of_rest = term_of_rest(how, student, teacher);
    if (!call.gradient) return value + of_rest.value;
    double slopes = how.support == WHOLE ? sum_of_classes(classes.slopes, classes.groups) : 0;
    if (slopes == unbounded()) {
        make_limits(classes);
        slopes = 0;
    }
    const double lever = lever_of(how, slopes, student.share, of_rest.slope);
    const Kind kind = Kind(call.gradient_kind);
    const double scale = call.scales[example.row];
    char* const to = call.gradient + (token - call.gradient_first) * call.classes * size_of(kind);
    const bool cools = how.temperature != 1;
    const auto write = kind == FLOAT32
                           ? (cools ? write_classes_as<float, true> : write_classes_as<float, false>)
                           : (cools ? write_classes_as<double, true> : write_classes_as<double, false>);
    const bool is_finite = write(to, how, classes, lever, scale);
    if (!is_finite) call.nonfinite[example.row] = 1;
    return value + of_rest.value;
}

// The sum of the divergences of a sequence.  Writes its gradient, and what is told of it.
INLINE double divergence_of_sequence(const Example& example, const Distilling& how) {
    TokenCall& call = example.call;
    const int64_t start = call.starts[example.row];
    const int64_t bytes = call.gradient ? call.classes * size_of(Kind(call.gradient_kind)) : 0;
    double sum = 0, masses[2] = {0, 0};
    for (int64_t token = start; token < start + call.used[example.row]; ++token) {
        if (!call.mask || call.mask[token]) sum += divergence_of_token(example, how, token, masses);
        else if (call.gradient)
            __builtin_memset(call.gradient + (token - call.gradient_first) * bytes, 0, size_t(bytes));
    }
    for (int side = 0; side < 2 && call.said; ++side)
        call.said[example.row * SAID + STUDENT_MASS + side] =
            masses[side] / (example.count > 0 ? example.count : 1);
    return sum;
}

typedef double (*EvaluateTokens)(const Example& example);

INLINE double count_of(const TokenCall& call, int64_t row) {
    if (!call.mask) return double(call.used[row]);
    const uint8_t* const mask = call.mask + call.starts[row];
    int64_t count = 0;
    for (int64_t i = 0; i < call.used[row]; ++i) count += mask[i];
    return double(count);
}

INLINE bool compute_all(EvaluateTokens evaluate, TokenCall& call, Room& room) {
    // What is not given is read in loops all the same.
    for (int role = 0; role < MOST_TOKEN_INPUTS; ++role)
        for (int i = 0; i < TOKENS; ++i) room.given[role][i] = role == WEIGHTS ? 1 : 0;
    for (int i = 0; i < TOKENS; ++i) room.estimates[i] = room.terms[i] = 0;
    room.is_narrow = !is_wide(call, LOGS) && !is_wide(call, SAMPLING) && !is_wide(call, REFERENCE);
    const int64_t bytes_of_token =
        (call.classes ? call.classes : 1) * (call.gradient ? size_of(Kind(call.gradient_kind)) : 0);
    for (int64_t row = call.first; row < call.end; ++row) {
        const bool is_silent = call.silent && call.silent[row];
        const int64_t used = is_silent ? 0 : call.used[row];
        if (call.gradient)
            __builtin_memset(
                call.gradient + (call.starts[row] + used - call.gradient_first) * bytes_of_token, 0,
                size_t((call.sizes[row] - used) * bytes_of_token));
        if (is_silent) continue;
        const Example example{call, row, room, count_of(call, row)};
        call.values[row] = evaluate(example) * call.shares[row];
    }
    return true;
}

// Returns false if there is not the room for the distributions of a token.
OUTLINE bool compute(EvaluateTokens evaluate, TokenCall& call) {
    Room room;
    if (!call.classes) return compute_all(evaluate, call, room);
    room.rows = Classes::allocated(call.classes);
    if (!room.rows) return false;
    compute_all(evaluate, call, room);
    free(room.rows);
    return true;
}

// The sum of what a term comes to at each of some places.
template <typename Term>
INLINE double sum_in_lanes(int64_t count, Term term) {
    Group<double> sums, more;
    sums.fill(0);
    ON_LINES double terms[GROUP];
    int64_t start = 0;
    for (; start + GROUP <= count; start += GROUP) {
        INDEPENDENT
        for (int i = 0; i < GROUP; ++i) terms[i] = term(start + i);
        more.read(terms);
        sums.add(more);
    }
    for (int64_t i = start; i < count; ++i) terms[i - start] = term(i);
    sums.add_first(terms, int(count - start));
    Lanes lanes;
    lanes.add(sums);
    return lanes.total();
}

// The sum of some numbers less others, which may be null, of those that count: in one sum for each lane.
template <typename Number>
OUTLINE double total_of(
    const char* from, const char* less, const uint8_t* mask, int64_t count) {
    const Loose<Number>* const given = reinterpret_cast<const Loose<Number>*>(from);
    const Loose<Number>* const other = reinterpret_cast<const Loose<Number>*>(less);
    const auto alone = [=](int64_t i) INLINED { return double(given[i].number); };
    const auto apart = [=](int64_t i) INLINED { return alone(i) - double(other[i].number); };
    const auto of = [=](auto term) INLINED {
        if (!mask) return sum_in_lanes(count, term);
        return sum_in_lanes(count, [=](int64_t i) INLINED { return pick(mask[i] != 0, term(i), 0.0); });
    };
    return less ? of(apart) : of(alone);
}

// The sums over sequences of one input less another, or of one alone.
OUTLINE bool add_up(TokenCall& call) {
    Room room;
    for (int i = 0; i < TOKENS; ++i) room.given[SAMPLING][i] = 0;
    const Input &input = call.inputs[LOGS], &other = call.inputs[SAMPLING];
    const Kind kind = input.kind;
    const bool are_alike = !other.place || other.kind == kind;
    const auto total = kind == FLOAT32 ? total_of<float> : total_of<double>;
    for (int64_t row = call.first; row < call.end; ++row) {
        if (!are_alike || (kind != FLOAT32 && kind != FLOAT64)) {
            call.values[row] = total_apart(Example{call, row, room, 0}, LOGS, SAMPLING);
            continue;
        }
        const int64_t start = call.starts[row], place = start * size_of(kind);
        call.values[row] =
            total(input.place + place, other.place ? other.place + place : nullptr,
                  call.mask ? call.mask + start : nullptr, call.used[row]);
    }
    return true;
}
