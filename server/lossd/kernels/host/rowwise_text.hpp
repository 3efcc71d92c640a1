// The text of a loss whose example is a row of classes.

OUTLINE T evaluate(const Example& example) {
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

INLINE bool run(Call& call) {
    return compute(Rowwise{evaluate, TARGETS_ARE_CLASSES, VECTORS, SOFTMAXES}, call);
}
