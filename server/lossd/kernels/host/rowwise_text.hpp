// The text of a loss whose example is a row of classes.

template <bool IS_PLAIN>
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

INLINE T evaluate_either(const Example& example) {
    const Example& row = example;
    const Call& call = row.call;
    UNPACK_PARAMETERS
    return LOGITS_ARE_PLAIN ? evaluate<true>(example) : evaluate<false>(example);
}

OUTLINE bool run(Call& call) {
    return compute(Rowwise{evaluate_either, TARGETS_ARE_CLASSES, LISTS, SOFTMAXES}, call);
}
