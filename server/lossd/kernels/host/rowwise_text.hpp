// The text of a loss whose example is a row of classes.  There is a version for each case of the exponent
// of the text's powers, which a loop had better know before it begins.

template <int POWER>
OUTLINE T evaluate(const Example& example) {
    const Row<TARGETS_ARE_CLASSES> row{example, example.room};
    const Call& call = row.call;
    const Column columns = row.columns, label = row.label;
    T value;
    UNPACK_PARAMETERS
    TEXT
    (void)call, (void)columns, (void)label;
    return value;
}

OUTLINE bool run(Call& call) {
    const struct { Weights vectors[MOST_VECTORS]; } row = {};  // no power is of these
    UNPACK_PARAMETERS
    static constexpr EvaluateRow versions[] = {VERSIONS};
    const EvaluateRow chosen = versions[POWERS == 1 ? 0 : kind_of_power(POWER_OF_TEXT)];
    return compute(Rowwise{chosen, TARGETS_ARE_CLASSES, LISTS, ROOMS}, call);
}
