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

// The number of columns of the last block.
INLINE int last_block(int64_t columns) {
    const int tail = int((columns - 1) % BLOCK + 1);
    return columns > BLOCK && tail < FEW ? tail + BLOCK / 2 : tail;
}

// The largest of some numbers, the lowest column of equals; a NaN is larger than any number.
template <typename Number>
struct Largest {
    Number value;
    Column column;  // -1: of no numbers
};

// The first place of a number in whole groups; where it is not, the end.
template <typename Number>
OUTLINE int place_of(const Number* numbers, int count, Number wanted) {
    typedef typename Format<Number>::Signed Place;  // as wide as a number
    Place first = count;
    for (int i = 0; i < count; ++i) {
        const Place place = numbers[i] == wanted ? Place(i) : Place(count);
        first = place < first ? place : first;
    }
    return int(first);
}

// The first NaN in whole groups; where there is none, the end.
template <typename Number>
OUTLINE int place_of_nan(const Number* numbers, int count) {
    for (int start = 0; start < count; start += GROUP) {
        Bits found = 0;
        INDEPENDENT
        for (int i = 0; i < GROUP; ++i)
            found |= numbers[start + i] != numbers[start + i] ? Bits(1) : Bits(0);
        for (int i = 0; found && i < GROUP; ++i)
            if (numbers[start + i] != numbers[start + i]) return start + i;
    }
    return count;
}

// A row of numbers in blocks, of which the last is filled up to whole groups.
struct Numbers {
    const T* items;
    const T* last;  // the last block
    METHOD const T* block(int64_t start, int count, int64_t columns) const {
        return start + count == columns ? last : items + start;
    }
};

template <typename Number>
struct Two {
    Number first, second;
};
// The inputs that a device reads for a sum; here they are in a cache.
constexpr int OF_PREDICTIONS = 1, OF_TARGETS = 2, OF_BOTH = OF_PREDICTIONS | OF_TARGETS;

// Columns of a block between which lines are fetched.
constexpr int PART = 128;

// Elements that a later step needs, from some place on; there may be none.
struct Upcoming {
    const char* place;
    int64_t size;  // bytes of one

    // Has the memory bring some of them, line by line.
    METHOD void fetch(int64_t start, int count) const {
        for (int64_t i = 0; i < count * size; i += LINE_BYTES)
            __builtin_prefetch(place + start * size + i);
    }
};

// One example: the inputs of its row, and where its gradient is written.
struct Example {
    Call& call;
    Numbers predictions;
    Numbers shares;  // the target distribution, where the target is not a class
    Column label;
    Column columns;
    int64_t first;  // of the elements of the row, in the gradient
    T scale;
    Upcoming next;           // the predictions of the next row
    Upcoming next_shares;    // and its target distribution
    const Weights* vectors;  // the lists among the parameters
    double* room;            // for what is kept of a row
    bool& is_finite;
};

// The type of the numbers that are computed for a column.
template <typename Term>
using NumberOf = decltype(((Term*)nullptr)->operator()(Column(0), T(0), T(0)));

// What a row has at a block of columns, in whole groups: with class indices, or a share of each class.
template <bool TARGETS_ARE_CLASSES>
struct Stretch {
    const T* predictions;
    const T* shares;
    Column start, label;

    METHOD T target(Column place) const {
        return !TARGETS_ARE_CLASSES ? shares[place] : start + place == label ? T(1) : T(0);
    }

    // Calls visit(place, column, prediction, target) for some places, which do not know of each other.
    template <typename Visit>
    METHOD void each(Column from, Column end, Visit visit) const {
        INDEPENDENT
        for (Column i = from; i < end; ++i) visit(i, start + i, predictions[i], target(i));
    }

    // The same for a group, whose places count from 0; it fits into registers.
    template <typename Visit>
    METHOD void each_of_group(Column at, Visit visit) const {
        INDEPENDENT
        for (int i = 0; i < GROUP; ++i)
            visit(i, start + at + i, predictions[at + i], target(at + i));
    }

    // What a term comes to at the columns of a group.
    template <typename Term>
    METHOD Group<NumberOf<Term>> group(Column at, Term term) const {
        ON_LINES NumberOf<Term> terms[GROUP];
        each_of_group(at, [&](int i, Column column, T prediction, T target) INLINED {
            terms[i] = term(column, prediction, target);
        });
        Group<NumberOf<Term>> found;
        found.read(terms);
        return found;
    }
};

// An example as a text knows it.
template <bool TARGETS_ARE_CLASSES>
struct Row : Example {
    mutable double* free;
    mutable bool is_fetched = false, fetches = false;

    // Room for a number of each column, in whole groups.
    template <typename Number>
    METHOD Number* take() const {
        double* const taken = free;
        free += spaced<double>(padded(columns));
        return reinterpret_cast<Number*>(taken);
    }

    // Calls visit(first column, number of columns) for every block.
    template <typename Visit>
    METHOD void each_block(Visit visit) const {
        each_block_of(columns, visit);
    }

    // Has the memory bring what comes next while there is much to compute: where the gradient of some
    // columns goes, and the same columns of the next row.
    METHOD void fetch_ahead(Column start, int count) const {
        next.fetch(start, count);
        if (!TARGETS_ARE_CLASSES) next_shares.fetch(start, count);
        if (!call.gradient || call.streams) return;
        const int64_t size = size_of(call.gradient_kind);
        const char* const to = call.gradient + (first + start) * size;
        for (int64_t i = 0; i < count * size; i += 64) __builtin_prefetch(to + i, 1);
    }

    // The same as each_block; the first time evaluate_ahead() has the memory bring what comes next.
    template <typename Visit>
    METHOD void each_block_ahead(Visit visit) const {
        fetches = !is_fetched;
        is_fetched = true;
        each_block(visit);
        fetches = false;
    }

    // A block, which begins at a column.
    METHOD Stretch<TARGETS_ARE_CLASSES> stretch(Column start, int count) const {
        return {predictions.block(start, count, columns),
                TARGETS_ARE_CLASSES ? nullptr : shares.block(start, count, columns), start, label};
    }

    // Calls visit(first place, end) for the parts of a block up to one place.  Between them few lines are
    // fetched: more than a processor waits for at once would keep it from computing.
    template <typename Visit>
    METHOD void each_part_ahead(Column start, Column end, Visit visit) const {
        const Column step = fetches ? PART : BLOCK;
        for (Column part = 0; part < end; part += step) {
            const Column next = end - part < step ? end : part + step;
            if (fetches) fetch_ahead(start + part, int(next - part));
            visit(part, next);
        }
    }

    // The same for a group of columns.
    METHOD void fetch_group_ahead(Column start) const {
        if (fetches) fetch_ahead(start, GROUP);
    }

    // What a term comes to at the columns of a block, in whole groups.
    template <typename Number, typename Term>
    METHOD void evaluate(Term term, Column start, int count, Number* __restrict terms) const {
        evaluate_part(term, stretch(start, count), 0, whole_groups(count), terms);
    }
    template <typename Number, typename Term>
    METHOD void evaluate_ahead(Term term, Column start, int count, Number* __restrict terms) const {
        const auto block = stretch(start, count);
        each_part_ahead(start, whole_groups(count), [&](Column part, Column end) INLINED {
            evaluate_part(term, block, part, end, terms);
        });
    }
    template <typename Number, typename Term>
    METHOD void evaluate_part(Term term, const Stretch<TARGETS_ARE_CLASSES>& block, Column part,
                              Column end, Number* __restrict terms) const {
        block.each(part, end, [&](Column i, Column column, T prediction, T target) INLINED {
            terms[i] = Number(term(column, prediction, target));
        });
    }

    // The largest of what a term comes to at the columns of a block, of which NaN is none.
    template <typename Term>
    METHOD NumberOf<Term> most_of(Term term, Column start, int count) const {
        using Number = NumberOf<Term>;
        const auto block = stretch(start, count);
        Most<Number> most;
        Column at = 0;
        for (; at + Most<Number>::COUNT <= count; at += Most<Number>::COUNT)
            UNROLLED
            for (int a = 0; a < Most<Number>::AHEAD; ++a)
                most.take(block.group(at + a * GROUP, term), a);
        for (; at + GROUP <= count; at += GROUP) most.take(block.group(at, term));
        if (at < count) {
            Group<Number> last = block.group(at, term);
            last.cut(int(count - at), -INFINITE<Number>);
            most.take(last);
        }
        return most.largest();
    }

    // What a term comes to at all columns, in room that was taken.
    template <typename Number, typename Term>
    METHOD void keep(Number* kept, Term term) const {
        each_block([&](Column start, int count) INLINED { evaluate(term, start, count, kept + start); });
    }

    template <typename Term>
    METHOD NumberOf<Term> sum(Term term) const {
        using Number = NumberOf<Term>;
        Lanes sum;
        each_block_ahead([&](Column start, int count) INLINED {
            ON_LINES Number terms[BLOCK];
            evaluate_ahead(term, start, count, terms);
            for (int i = count; i < whole_groups(count); ++i) terms[i] = 0;
            sum.add(terms, whole_groups(count));
        });
        return Number(sum.total());
    }

    // Two sums in one loop, which share what both read and compute.
    template <typename Term, typename Other>
    METHOD Two<NumberOf<Term>> sums(Term term, Other other) const {
        using Number = NumberOf<Term>;
        Lanes first, second;
        each_block_ahead([&](Column start, int count) INLINED {
            ON_LINES Number terms[BLOCK], others[BLOCK];
            const auto both = [&](Column column, T prediction, T target) INLINED {
                others[column - start] = other(column, prediction, target);
                return term(column, prediction, target);
            };
            evaluate_ahead(both, start, count, terms);
            for (int i = count; i < whole_groups(count); ++i) terms[i] = others[i] = 0;
            first.add(terms, whole_groups(count));
            second.add(others, whole_groups(count));
        });
        return {Number(first.total()), Number(second.total())};
    }

    // The largest of all columns except one.
    template <typename Term>
    METHOD Largest<NumberOf<Term>> largest(Term term, Column excluded = -1) const {
        using Number = NumberOf<Term>;
        if (columns == 1 && excluded == 0) return {0, -1};
        Largest<Number> found{-INFINITE<Number>, Column(excluded == 0)};
        bool is_nan = false;
        each_block([&](Column start, int count) INLINED {
            if (is_nan) return;
            ON_LINES Number terms[BLOCK];
            evaluate(term, start, count, terms);
            const int groups = whole_groups(count);
            for (int i = count; i < groups; ++i) terms[i] = -INFINITE<Number>;
            if (excluded >= start && excluded < start + count)
                terms[excluded - start] = -INFINITE<Number>;
            const int nan = place_of_nan(terms, groups);
            is_nan = nan < groups;
            const Number most = largest_of(terms, groups);
            if (is_nan || most > found.value) {
                const int place = is_nan ? nan : place_of(terms, groups, most);
                found = {terms[place], Column(start + place)};
            }
        });
        return found;
    }

    // Writes the gradient, in place of what was written before.
    template <typename Slope>
    METHOD void write(Slope slope) const {
        write_parts([&](Column, Column from, Column end, auto put) INLINED { put(from, end, slope); });
    }

    // The same, with a slope of its own for one column, which no other group of columns is asked about.
    template <typename Slope>
    METHOD void write_but(Column but, T own, Slope slope) const {
        const auto any = [&](Column column, T prediction, T target) INLINED {
            return pick(column == but, own, T(slope(column, prediction, target)));
        };
        write_parts([&](Column start, Column from, Column end, auto put) INLINED {
            if (but < start + from || but >= start + end) return put(from, end, slope);
            const Column group = (but - start) / GROUP * GROUP;
            put(from, group, slope);
            put(group, group + GROUP, any);
            put(group + GROUP, end, slope);
        });
    }

    // Calls visit(first column of the block, first place, end, put) for parts of blocks, which are whole
    // groups: it is to call put(first place, end, slope) for all of them.
    template <typename Visit>
    METHOD void write_parts(Visit visit) const {
        if (!call.gradient) return;
        is_finite = true;
        each_block_ahead([&](Column start, int count) INLINED {
            is_finite &= put_block(visit, start, count);
        });
    }

    // Writes the slopes at the columns of a block, and returns whether all of that is finite.
    template <typename Visit>
    METHOD bool put_block(Visit visit, Column start, int count) const {
        ON_LINES T room[BLOCK];
        const Gradient gradient = gradient_of(call, 0);
        const Place place = place_in(call, gradient, first + start, count, room);
        T* __restrict const out = place.out;
        const T scale = this->scale;
        Bits found = 0;
        const auto block = stretch(start, count);
        const auto put = [&](Column from, Column end, auto slope) INLINED {
            block.each(from, end, [&](Column i, Column column, T prediction, T target) INLINED {
                const T scaled = weighed(scale, T(slope(column, prediction, target)));
                out[i] = scaled;
                found |= overflow_of(scaled);
            });
        };
        const auto put_part = [&](Column part, Column end) INLINED { visit(start, part, end, put); };
        const Column whole = count / GROUP * GROUP;
        each_part_ahead(start, whole, put_part);
        if (whole < count) {
            const Bits before = found;  // what fills the last group counts for nothing
            put_part(whole, whole + GROUP);
            found = before;
            INDEPENDENT
            for (Column i = whole; i < whole + GROUP; ++i) {
                const T own = pick(i < count, out[i], T(0));
                out[i] = own;
                found |= overflow_of(own);
            }
        }
        return send_finished(call, gradient, place, count, found == 0);
    }

    // Writes a gradient that is 0 at all columns but one.
    METHOD void write_at(Column column, T slope) const {
        // What others make of 0 is -0 or NaN.
        const bool is_usual = scale - scale == 0 && copysign(T(1), scale) > 0;
        if (!call.gradient || !call.streams || !is_usual)
            return write([&](Column own, T, T) INLINED { return pick(own == column, slope, T(0)); });
        for (Column part = 0; part < columns; part += PART)
            fetch_ahead(part, columns - part < PART ? int(columns - part) : PART);
        is_finite = stream_alone(call, first, columns, column, slope, scale);
    }

    // A gradient and a sum, or two, in one loop, which share what they read and compute.
    template <typename Slope, typename Term>
    METHOD NumberOf<Term> write_and_sum(Slope slope, Term term) const {
        using Number = NumberOf<Term>;
        if (!call.gradient) return sum(term);
        Lanes found;
        is_finite = true;
        each_block_ahead([&](Column start, int count) INLINED {
            ON_LINES Number terms[BLOCK];
            ON_LINES T slopes[BLOCK];
            const auto both = [&](Column column, T prediction, T target) INLINED {
                slopes[column - start] = T(slope(column, prediction, target));
                return term(column, prediction, target);
            };
            evaluate_ahead(both, start, count, terms);
            for (int i = count; i < whole_groups(count); ++i) terms[i] = 0;
            found.add(terms, whole_groups(count));
            is_finite &= put(call, first + start, count, slopes, scale);
        });
        return Number(found.total());
    }
    template <typename Slope, typename Term, typename Other>
    METHOD Two<NumberOf<Term>> write_and_sums(Slope slope, Term term, Other other) const {
        using Number = NumberOf<Term>;
        if (!call.gradient) return sums(term, other);
        Lanes found, found_too;
        is_finite = true;
        each_block_ahead([&](Column start, int count) INLINED {
            ON_LINES Number terms[BLOCK], others[BLOCK];
            ON_LINES T slopes[BLOCK];
            const auto all = [&](Column column, T prediction, T target) INLINED {
                slopes[column - start] = T(slope(column, prediction, target));
                others[column - start] = other(column, prediction, target);
                return term(column, prediction, target);
            };
            evaluate_ahead(all, start, count, terms);
            for (int i = count; i < whole_groups(count); ++i) terms[i] = others[i] = 0;
            found.add(terms, whole_groups(count));
            found_too.add(others, whole_groups(count));
            is_finite &= put(call, first + start, count, slopes, scale);
        });
        return {Number(found.total()), Number(found_too.total())};
    }

    // What a device does in one pass over a row that is not in a cache.
    template <typename Distance, typename IsFar, typename Slope, typename Term>
    METHOD bool write_if(
        Distance distance, IsFar is_far, Slope slope, Term term, NumberOf<Term>& found) const {
        if (!is_far(sum([&](Column column, T prediction, T target) INLINED {
                return fabs(distance(column, prediction, target));
            })))
            return false;
        found = sum(term);
        write([&](Column column, T prediction, T target) INLINED {
            return slope(column, prediction, distance(column, prediction, target));
        });
        return true;
    }
    template <typename Other, typename Term>
    METHOD bool sum_below(double limit, Other other, Term term, double& found) const {
        if (!(largest(other).value < limit)) return false;
        found = sum(term);
        return true;
    }
};

// Calls use(logit, common) with the logits of a row as a softmax takes them: divided by a
// temperature and, where there are priors of the classes, with strength * log(prior / their sum)
// added.  With priors they are doubles: a distance of 80 rounded to float is off by 4e-6.  Large
// logits would swallow the priors, and priors of a large strength the logits, so the `common` part
// of both is left out.
template <typename Row, typename Use>
INLINE void with_logits(
    const Row& row, double temperature, Weights priors, double strength, Use use) {
    if (temperature == 1 && !priors.is_given) {
        use([](int64_t, T prediction) INLINED { return prediction; }, T(0));
        return;
    }
    const double largest = row.largest([](Column, T prediction, T) INLINED { return prediction; }).value;
    const double common = largest - largest == 0 ? largest : 0;
    const double likeliest =
        row.largest([&](Column column, T, T) INLINED { return priors[column]; }).value;
    const double total =
        row.sum([&](Column column, T, T) INLINED { return double(priors[column]); });
    const double own = priors.is_given ? strength : 0;  // without priors all of them are 1
    use(
        [&](int64_t column, T prediction) INLINED {
            const double scaled = (double(prediction) - common) / temperature;
            return scaled + own * log(double(priors[column]) / likeliest);
        },
        common / temperature + own * log(likeliest / total));
}

// The first place of a logit in a block that has it.
template <typename Row, typename Logit>
INLINE Largest<NumberOf<Logit>> found_in(
    const Row& row, Logit logit, NumberOf<Logit> wanted, Column start, int count) {
    Column place = count;
    row.stretch(start, count).each(
        0, whole_groups(count), [&](Column i, Column column, T prediction, T target) INLINED {
            const Column here = logit(column, prediction, target) == wanted ? i : Column(count);
            place = here < place ? here : place;
        });
    return {wanted, start + (place < count ? place : 0)};
}

// The largest of a softmax's logits.  It is looked for again in the block that has it, which is quicker
// than to carry its place along; where there is a NaN, the sum of the exponentials shows it.
template <typename Row, typename Logit>
INLINE Largest<NumberOf<Logit>> best_of(const Row& row, Logit logit) {
    using Number = NumberOf<Logit>;
    Number best = -INFINITE<Number>;
    Column begin = 0;
    row.each_block([&](Column start, int count) INLINED {
        const Number most = row.most_of(logit, start, count);
        if (!(most > best)) return;
        best = most;
        begin = start;
    });
    return found_in(row, logit, best, begin, block_at(begin, row.columns));
}

// The softmax of a row in parts that keep full relative accuracy, see losses/_maths/softmax.py.
template <typename Number>
struct Softmax {
    Largest<Number> best;  // or what is counted from in its place
    Number rest;           // sum of the exponentials without that of the best, which is 1
    Number total;          // with it
    const Number* kept;

    METHOD Number exponential(int64_t column, Number) const { return kept[column]; }
    METHOD Number log_sum_exp() const { return best.value + log1p(rest); }
    // -log p of a class.
    METHOD Number negative_log(int64_t column, Number logit) const {
        return pick(Column(column) == best.column, Number(0), best.value - logit) + log1p(rest);
    }
    // (1 - p) times the total, of a class.
    METHOD Number others(int64_t column, Number logit) const {
        return pick(Column(column) == best.column, rest, 1 + (rest - exponential(column, logit)));
    }
};

// Makes exponentials of what a term comes to at the columns of a block.  Where all are near 0, as they
// mostly are, it takes fewer steps.
template <typename Row, typename Term, typename IsNear>
INLINE void make_exponentials(
    const Row& row, Column start, int count, Term term, IsNear is_near, NumberOf<Term>* to) {
    typename Format<NumberOf<Term>>::Unsigned far = 0;
    const auto near = [&](Column column, T prediction, T target) INLINED {
        const NumberOf<Term> x = term(column, prediction, target);
        far |= !is_near(x);
        return exp_within(x);
    };
    row.evaluate_ahead(near, start, count, to);
    if (!far) return;
    const auto any = [&](Column column, T prediction, T target) INLINED {
        return exp(term(column, prediction, target));
    };
    row.evaluate(any, start, count, to);
}

// Makes exponentials of a term at the columns of a block but one, where it is 0, and adds them to a sum.
// Returns false, and adds nothing, where not all are near 0.
template <typename Row, typename Term>
INLINE bool sum_exponentials(const Row& row, Column start, int count, Term term, Column but,
                             NumberOf<Term>* to, Lanes& sum) {
    using Number = NumberOf<Term>;
    using Unsigned = typename Format<Number>::Unsigned;
    const auto block = row.stretch(start, count);
    Group<Number> sums;
    Group<Unsigned> places;
    sums.fill(0);
    places.fill(0);
    const auto make = [&](Column at, auto change) INLINED {
        ON_LINES Number made[GROUP];
        ON_LINES Unsigned place[GROUP];
        row.fetch_group_ahead(start + at);
        block.each_of_group(at, [&](int i, Column column, T prediction, T target) INLINED {
            const Exponential<Number> e = exponential_of(Number(term(column, prediction, target)));
            place[i] = e.place();
            made[i] = e.number();
        });
        change(made, place);
        Group<Number> more;
        more.read(made);
        more.write(to + at);
        sums.add(more);
        places.merge(place);
    };
    // Two groups are not like the others: that of the one, and the last, if it is not whole.
    const Column whole = count / GROUP * GROUP, own = but < 0 ? whole : but / GROUP * GROUP;
    for (Column at = 0; at < count; at += GROUP) {
        for (const Column end = at <= own ? own : whole; at < end; at += GROUP)
            make(at, [](Number*, Unsigned*) INLINED {});
        if (at < count) make(at, [&](Number* made, Unsigned* place) INLINED {
            for (int i = 0; i < GROUP; ++i)
                if (at + i == but || at + i >= count) made[i] = 0, place[i] = 0;
        });
    }
    if (places.merged() >= Unsigned(Format<Number>::NEAR)) return false;
    sum.add(sums);
    return true;
}

// A logit this far above the one that all are counted from loses digits.
constexpr double FAR_ABOVE = 10.5;
// The number of columns that are looked at first, of any row and of one of many columns.  A logit among
// them that is so far above that of a class takes its place: those after them may be as far above again.
constexpr int FIRST = 128, FIRST_OF_MANY = BLOCK;
constexpr double ABOVE = FAR_ABOVE / 2;

// Makes the softmax of a row from what its logits are above one of them, in room that was taken.  Returns
// false where one is far above.
template <typename Row, typename Logit>
INLINE bool make_softmax(const Row& row, Logit logit, Largest<NumberOf<Logit>> from,
                         NumberOf<Logit>* kept, Softmax<NumberOf<Logit>>& found) {
    using Number = NumberOf<Logit>;
    Lanes sum;
    bool is_far_above = false;
    const auto above = [&](Column column, T prediction, T target) INLINED {
        return logit(column, prediction, target) - from.value;
    };
    row.each_block_ahead([&](Column start, int count) INLINED {
        if (is_far_above) return;
        const bool is_here = from.column >= start && from.column < start + count;
        const int own = is_here ? int(from.column - start) : -1;
        if (!sum_exponentials(row, start, count, above, own, kept + start, sum)) {
            is_far_above = row.most_of(above, start, count) > Number(FAR_ABOVE);
            if (is_far_above) return;
            row.evaluate([&](Column column, T prediction, T target) INLINED {
                return exp(above(column, prediction, target));
            }, start, count, kept + start);
            for (int i = count; i < whole_groups(count); ++i) kept[start + i] = 0;
            if (is_here) kept[from.column] = 0;
            sum.add(kept + start, whole_groups(count));
        }
        if (is_here) kept[from.column] = 1;
    });
    const Number rest = Number(sum.total());
    found = {from, rest, 1 + rest, kept};
    return !is_far_above;
}

template <typename Row, typename Logit>
INLINE Softmax<NumberOf<Logit>> softmax_in(const Row& row, Logit logit, NumberOf<Logit>* kept) {
    const auto best = best_of(row, logit);
    Softmax<NumberOf<Logit>> found;
    make_softmax(row, logit, best, kept, found);
    if (best.value > 0) return found;
    // A row with a NaN and a row of only -inf have no softmax, even with a single class: the
    // largest minus itself is NaN.
    found.rest += best.value - best.value;
    found.total = 1 + found.rest;
    return found;
}

template <typename Row, typename Logit>
INLINE Softmax<NumberOf<Logit>> softmax_of(const Row& row, Logit logit) {
    return softmax_in(row, logit, row.template take<NumberOf<Logit>>());
}

// The same, counted from a column that is near the largest, as the class of an example mostly is, or from
// the largest of the first columns: nobody has to look for the largest of all then.  What is counted from
// is not below the column, so that nothing cancels in what is asked of it.  With column -1 it is the same.
template <typename Row, typename Logit>
INLINE Softmax<NumberOf<Logit>> softmax_from(const Row& row, Column column, Logit logit) {
    using Number = NumberOf<Logit>;
    Number* const kept = row.template take<Number>();
    if (column < 0) return softmax_in(row, logit, kept);
    const int few = row.columns < FIRST ? row.columns : FIRST;
    const int first = row.columns < 8 * FIRST_OF_MANY ? few : FIRST_OF_MANY;
    const Number most = row.most_of(logit, 0, first);
    Largest<Number> from{logit(column, row.predictions.items[column], T(0)), column};
    if (most - from.value > Number(ABOVE)) from = found_in(row, logit, most, 0, first);
    Softmax<Number> found;
    const bool is_made = from.value - from.value == 0 && make_softmax(row, logit, from, kept, found);
    if (is_made && found.rest - found.rest == 0) return found;
    row.is_fetched = false;
    return softmax_in(row, logit, kept);
}

// Two distributions are near if they differ by less than this part of one of them.
constexpr double NEAR = 0.5;

// Numbers that are kept for each column of a row.
template <typename Number>
struct Kept {
    const Number* kept;
    METHOD Number operator()(int64_t column, Number, Number) const { return kept[column]; }
};

// Room for such numbers, which a pass over the row fills.
template <typename Number>
struct Room {
    Number* kept;
    METHOD Number keep(int64_t column, Number number) const { return kept[column] = number; }
};

// sum(s) p - s of a row, the derivative of -sum(s log p) with respect to the logits, where p and s
// are nearly uniform, in double: see losses/_maths/softmax.py.  From the logits minus the largest
// of them, and the shares, in whole groups.
OUTLINE bool make_exact(double* below, double* shares, int64_t columns, int64_t best) {
    const int64_t groups = padded(columns);
    const double count = double(columns), of_best = shares[best];
    const auto total = [&](auto term, int64_t without = -1) INLINED {
        Lanes sum;
        for (int64_t start = 0; start < groups; start += BLOCK) {
            const int here = groups - start < BLOCK ? int(groups - start) : BLOCK;
            ON_LINES double terms[BLOCK];
            INDEPENDENT
            for (int i = 0; i < here; ++i) terms[i] = term(below[start + i], shares[start + i]);
            for (int64_t i = columns; i < start + here; ++i) terms[i - start] = 0;
            if (without >= start && without < start + here) terms[without - start] = 0;
            sum.add(terms, here);
        }
        return sum.total();
    };
    const double mass = total([](double, double share) INLINED { return share; });
    const double spread =
        total([=](double, double share) INLINED { return fabs(share - of_best); });
    if (!(spread < NEAR * mass)) return false;
    const double apart = total([=](double, double share) INLINED { return share - of_best; });
    const double lacking = total([](double x, double) INLINED { return expm1(x); });
    const auto exact = [=](double x, double share) INLINED {
        return mass * (exp(x) / (count + lacking)) - share;
    };
    const double at_best = -total(exact, best);
    INDEPENDENT
    for (int64_t i = 0; i < groups; ++i) {
        const double share = shares[i];
        const double away = -count * (share - of_best), lost = -share * lacking;
        const double grown = mass * expm1(below[i]);
        const double size = fabs(apart) + fabs(away) + fabs(grown) + fabs(lost);
        const double uniform = (apart + away + grown + lost) / (count + lacking);
        below[i] = pick(size < share * (count + lacking), uniform,
                        pick(i == best, at_best, exact(below[i], share)));
    }
    return true;
}

template <typename Row, typename Term>
INLINE Kept<NumberOf<Term>> kept_of(const Row& row, Term term) {
    NumberOf<Term>* const kept = row.template take<NumberOf<Term>>();
    row.keep(kept, term);
    return {kept};
}

// The sum of the shares of targets, and, where it is wanted, that of all but one.
struct Masses {
    double first;
    T second;
};
template <typename Row, typename Share>
INLINE Masses masses_of(const Row& row, Column but, bool is_wanted, Share share) {
    const double all = row.sum([&](Column, T, T target) INLINED { return double(share(target)); });
    return {all, !is_wanted ? T(0) : row.sum([&](Column column, T, T target) INLINED {
        return pick(column == but, T(0), share(target));
    })};
}

// The derivative of any row, and the sum of its shares.
template <typename Number>
struct Surplus : Kept<Number> {
    Number mass;
};
template <int READS, typename Row, typename Number, typename Logit, typename Share, typename Exact>
INLINE Surplus<Number> surplus_of(
    const Row& row, const Softmax<Number>& softmax, Logit logit, Share share, Exact exact) {
    const Column best = softmax.best.column;
    Number* const kept = row.template take<Number>();
    const Number mass = row.sum(share);
    const Number others = row.sum([&](Column column, T prediction, T target) INLINED {
        return pick(column == best, Number(0), Number(share(column, prediction, target)));
    });
    const Number unit = mass / softmax.total;
    row.keep(kept, [&](Column column, T prediction, T target) INLINED {
        return unit * softmax.kept[column] - Number(share(column, prediction, target));
    });
    if (softmax.rest < 1) kept[best] = others - mass * (softmax.rest / softmax.total);
    const Number distance =
        row.sum([&](Column column, T, T) INLINED { return fabs(kept[column]); });
    if (!(distance < Number(NEAR) * mass)) return {{kept}, mass};
    double* const below = row.template take<double>();
    double* const shares = row.template take<double>();
    row.keep(below, [&](Column column, T prediction, T target) INLINED {
        return double(logit(column, prediction, target)) - double(softmax.best.value);
    });
    below[best] = 0;
    row.keep(shares, exact);
    if (make_exact(below, shares, row.columns, best))
        for (int64_t i = 0; i < row.columns; ++i) kept[i] = Number(below[i]);
    return {{kept}, mass};
}

template <int READS, typename Row, typename Number, typename Logit, typename Share>
INLINE Surplus<Number> surplus_of(
    const Row& row, const Softmax<Number>& softmax, Logit logit, Share share) {
    return surplus_of<READS>(row, softmax, logit, share, share);
}

// Writes slope(column, prediction, surplus) and returns the sum of a term.  A surplus that has to be
// exact is of the exact shares, which are in double.
template <int READS, typename Row, typename Number, typename Logit, typename Share, typename Slope,
          typename Term, typename Exact>
INLINE NumberOf<Term> write_surplus(
    const Row& row, const Softmax<Number>& softmax, Logit logit, Share share, Slope slope, Term term,
    Exact exact) {
    const NumberOf<Term> found = row.sum(term);
    if (!row.call.gradient) return found;
    const auto surplus = surplus_of<READS>(row, softmax, logit, share, exact);
    row.write([&](Column column, T prediction, T) INLINED {
        return slope(column, prediction, surplus.kept[column]);
    });
    return found;
}

template <int READS, typename Row, typename Number, typename Logit, typename Share, typename Slope,
          typename Term>
INLINE NumberOf<Term> write_surplus(
    const Row& row, const Softmax<Number>& softmax, Logit logit, Share share, Slope slope, Term term) {
    return write_surplus<READS>(row, softmax, logit, share, slope, term, share);
}

// The exponentials of any numbers.
template <typename Row, typename Term>
INLINE Kept<NumberOf<Term>> exponentials_of(const Row& row, Term term) {
    using Number = NumberOf<Term>;
    Number* const kept = row.template take<Number>();
    const auto is_near = [](Number x) INLINED { return fabs(x) <= -Format<Number>::FAINT; };
    row.each_block([&](Column start, int count) INLINED {
        make_exponentials(row, start, count, term, is_near, kept + start);
    });
    return {kept};
}

#define AT_COLUMN(...) [&](Column column, T prediction, T target) INLINED { return __VA_ARGS__; }
#define AT_PREDICTION(...) [&](Column column, T prediction, T) INLINED { return __VA_ARGS__; }
#define AT_TARGET(...) [&](Column column, T, T target) INLINED { return __VA_ARGS__; }
#define PREDICTION_AT(column) (row.predictions.items[column])
#define TARGET_AT(column) (row.shares.items[column])
#define KEPT_OF_ROW(...) kept_of(row, AT_COLUMN(__VA_ARGS__))
#define ROOM_OF_ROW(type) Room<type>{{row.template take<type>()}}
#define EXPONENTIALS_OF_ROW(...) exponentials_of(row, AT_COLUMN(__VA_ARGS__))
#define SUM_OVER_ROW(...) row.sum(AT_COLUMN(__VA_ARGS__))
#define SUM_OVER_TARGETS(...) row.sum(AT_TARGET(__VA_ARGS__))
#define SUMS_OVER_ROW(one, other) row.sums(AT_COLUMN(one), AT_COLUMN(other))
#define LARGEST_OF_ROW(...) row.largest(AT_COLUMN(__VA_ARGS__))
#define LARGEST_BUT(excluded, ...) row.largest(AT_COLUMN(__VA_ARGS__), excluded)
#define SOFTMAX_OF_ROW(...) softmax_of(row, AT_PREDICTION(__VA_ARGS__))
#define SOFTMAX_FROM(column, ...) softmax_from(row, column, AT_PREDICTION(__VA_ARGS__))
#define SOFTMAX_OF_TARGETS(...) softmax_of(row, AT_TARGET(__VA_ARGS__))
#define GRADIENT_OF_ROW(...) row.write(AT_COLUMN(__VA_ARGS__))
#define GRADIENT_BUT(column, own, ...) row.write_but(column, own, AT_COLUMN(__VA_ARGS__))
#define GRADIENT_AT(column, slope) row.write_at(column, slope)
#define GRADIENT_AND_SUM(slope, ...) row.write_and_sum(AT_COLUMN(slope), AT_COLUMN(__VA_ARGS__))
#define GRADIENT_AND_SUMS(slope, one, other) \
    row.write_and_sums(AT_COLUMN(slope), AT_COLUMN(one), AT_COLUMN(other))

// The value of an example, by the text of a loss; also writes its gradient.
typedef T (*EvaluateRow)(const Example& example);

// A text, and how much it is given.
struct Rowwise {
    EvaluateRow evaluate;
    bool targets_are_classes;
    int vectors;
    int rooms;  // how often it takes room
};

// Rows of an input, used where they are if they can be.
struct Rows {
    const Input& input;
    int64_t columns;
    T* room;  // for a row, null if none is needed
    ON_LINES T last[BLOCK];

    METHOD bool is_in_place() const {
        return input.kind == OWN && uintptr_t(input.place) % sizeof(T) == 0;
    }

    // The row after another, which may be beyond the last.
    METHOD Upcoming after(int64_t row) const {
        const int64_t size = size_of(input.kind);
        return {input.place + (row + 1) * columns * size, size};
    }

    METHOD Numbers at(int64_t row) {
        const char* const from = input.place + row * columns * size_of(input.kind);
        const int tail = last_block(columns);
        const int64_t before = columns - tail;
        if (!is_in_place())
            each_block_of(columns, [&](int64_t start, int count) INLINED {
                read(input.kind, from + start * size_of(input.kind), room + start, count);
            });
        const T* const items = is_in_place() ? reinterpret_cast<const T*>(from) : room;
        const Input own{reinterpret_cast<const char*>(items), OWN, ANY, 0, 0};
        return Numbers{items, stage(own, before, tail, last)};
    }
};

INLINE bool breaks_a_rule(const Call& call, const Input& input, const Numbers& numbers) {
    bool found = false;
    if (input.rule == ANY) return false;
    each_block_of(call.columns, [&](int64_t start, int count) INLINED {
        const T* const block = numbers.block(start, count, call.columns);
        found |= any_outside(input, block, whole_groups(count));
    });
    return found;
}

// Returns false where there is not the memory.
OUTLINE bool compute(const Rowwise& text, Call& call) {
    const int64_t length = padded(call.columns), rooms = text.rooms > 0 ? text.rooms : 1;
    const int64_t numbers = rooms * spaced<double>(length) * int64_t(sizeof(double) / sizeof(T));
    const int64_t bytes = (numbers + (2 + text.vectors) * length) * int64_t(sizeof(T));
    T* const all = static_cast<T*>(aligned_alloc(LINE_BYTES, bytes));  // whole groups: whole lines
    if (!all) return false;
    T* const beside = all + numbers;  // rows of predictions and targets, and the lists
    Weights vectors[MOST_VECTORS];
    for (int v = 0; v < text.vectors; ++v) {
        const T* const given = call.vectors[v];
        T* const items = beside + (given ? 2 + v : 0) * length;
        if (given) __builtin_memcpy(items, given, call.columns * sizeof(T));
        vectors[v] = Weights{items, given != nullptr};
    }
    Rows predictions{call.inputs[0], call.columns, beside, {}};
    Rows shares{call.inputs[1], call.columns, beside + length, {}};
    each_block_of_rows(call, [&](Results& results, Block block) {
        for (int64_t number = block.first; number < block.end; ++number) {
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
            const Example example{
                call, prediction, share, Column(label), Column(call.columns), number * call.columns,
                call.scales ? call.scales[number] : T(call.scale), predictions.after(number),
                shares.after(number), vectors, reinterpret_cast<double*>(all), is_finite};
            const T value = text.evaluate(example);
            results.add(number, value, is_finite);
        }
    });
    free(all);
    return true;
}
