// The text of a loss that compares element with element, in a loop whose rounds do not know of each
// other: the compiler makes vectors of it, as wide as the machine has them.  The column of an element is
// its place in the block, along which the numbers of lists are laid.

struct Weights {
    const T* items;
    METHOD T operator[](int column) const { return items[column]; }
};

INLINE void evaluate(
    const T prediction, const T target, const int column, T& value, T& gradient OTHERS PARAMETERS) {
    TEXT
}

OUTLINE void evaluate_all(
    const Call& call, const Elements& given, int count, T* __restrict values, T* __restrict slopes) {
    const T* const predictions = given.inputs[0];
    const T* const targets = given.inputs[1];
    UNPACK_OTHERS
    UNPACK_PARAMETERS
    INDEPENDENT
    for (int i = 0; i < count; ++i) {
        T value, slope;
        evaluate(predictions[i], targets[i], i, value, slope OTHER_ELEMENTS(i) ARGUMENTS);
        values[i] = value;
        slopes[i] = slope;
    }
}

INLINE bool run(Call& call) { return compute(Pointwise{evaluate_all, INPUTS, VECTORS}, call); }
