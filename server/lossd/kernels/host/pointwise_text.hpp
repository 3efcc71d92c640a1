// The text of a loss that compares element with element, in a loop whose rounds do not know of each
// other: the compiler makes vectors of it, as wide as the machine has them.  The column of an element is
// its place in the block, along which the numbers of lists are laid.

INLINE void evaluate(
    const T prediction, const T target, const int column, T& value, T& gradient OTHERS PARAMETERS) {
    TEXT
}

// SWITCHES are the parameters that are true or false, each a bit: a loop had better know them before.
template <int SWITCHES>
OUTLINE void evaluate_all(
    const Call& call, const Elements& given, int count, T* __restrict values, T* __restrict slopes) {
    const T* const predictions = given.inputs[0];
    const T* const targets = given.inputs[1];
    const Weights* const laid = given.vectors;
    (void)call, (void)laid;
    UNPACK_OTHERS
    UNPACK_PARAMETERS
    const int groups = count / GROUP * GROUP;  // which they are: to tell the compiler
    INDEPENDENT
    for (int i = 0; i < groups; ++i) {
        T value, slope;
        evaluate(predictions[i], targets[i], i, value, slope OTHER_ELEMENTS(i) ARGUMENTS);
        values[i] = value;
        slopes[i] = slope;
    }
}

OUTLINE bool run(Call& call) {
    static constexpr Evaluate versions[] = {VERSIONS};
    return compute(Pointwise{versions[SWITCHES_OF_CALL], INPUTS, LISTS}, call);
}
