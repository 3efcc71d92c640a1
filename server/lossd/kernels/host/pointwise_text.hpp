// The text of a loss that compares element with element, in a loop whose rounds do not know of each
// other: the compiler makes vectors of it, as wide as the machine has them.  The column of an element is
// its place in the block, along which the numbers of lists are laid.
//
// There is a version for each case of what a loop had better know before it begins: SWITCHES are the
// parameters that are true or false, each a bit, and POWER is the exponent of the text's powers.

template <int POWER>
INLINE void evaluate(
    const T prediction, const T target, const int column, T& value, T& gradient OTHERS PARAMETERS) {
    TEXT
}

template <int SWITCHES, int POWER>
OUTLINE void evaluate_all(
    const Call& call, const Elements& given, int count, T* __restrict values, T* __restrict slopes) {
    const T* const predictions = given.inputs[0];
    // A text that knows no target is given the prediction again, which is in the cache.
    const T* const targets = given.inputs[INPUTS > 1 ? 1 : 0];
    const Weights* const laid = given.vectors;
    (void)call, (void)laid;
    UNPACK_OTHERS
    UNPACK_PARAMETERS
    const int groups = count / GROUP * GROUP;  // which they are: to tell the compiler
    INDEPENDENT
    for (int i = 0; i < groups; ++i) {
        T value, slope;
        evaluate<POWER>(predictions[i], targets[i], i, value, slope OTHER_ELEMENTS(i) ARGUMENTS);
        values[i] = value;
        slopes[i] = slope;
    }
}

OUTLINE bool run(Call& call) {
    constexpr int SWITCHES = 0;  // no power is of these
    const Weights laid[MOST_VECTORS] = {};
    UNPACK_PARAMETERS
    static constexpr Evaluate versions[][POWERS] = {VERSIONS};
    const Evaluate chosen = versions[SWITCHES_OF_CALL][POWERS == 1 ? 0 : kind_of_power(POWER_OF_TEXT)];
    return compute(Pointwise{chosen, INPUTS, LISTS}, call);
}
