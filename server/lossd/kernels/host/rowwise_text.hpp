// The text of a loss whose example is a row of classes.
//
// There is a version for each case of what a loop had better know before it begins: whether the logits
// of a row are its predictions, and the exponent of the text's powers.

template <bool IS_PLAIN, int POWER>
OUTLINE T evaluate(const Example& example) {
    typedef LogitsOf<IS_PLAIN> Logits;
    const Row<TARGETS_ARE_CLASSES> row{example};
    const Call& call = row.call;
    const Column columns = row.columns, label = row.label;
    int softmaxes = 0;
    T value;
    UNPACK_PARAMETERS
    TEXT
    (void)call, (void)columns, (void)label, (void)softmaxes;
    return value;
}

OUTLINE bool run(Call& call) {
    struct { Weights vectors[MOST_VECTORS]; } row = {};
    for (int v = 0; v < LISTS; ++v) row.vectors[v].is_given = call.vectors[v] != nullptr;
    UNPACK_PARAMETERS
    static constexpr EvaluateRow versions[][POWERS] = {VERSIONS};
    const EvaluateRow chosen =
        versions[LOGITS_ARE_PLAIN][POWERS == 1 ? 0 : kind_of_power(POWER_OF_TEXT)];
    return compute(Rowwise{chosen, TARGETS_ARE_CLASSES, LISTS, SOFTMAXES}, call);
}
