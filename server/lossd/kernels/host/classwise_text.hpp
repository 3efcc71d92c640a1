// The text of a loss of regions of classes.

OUTLINE T evaluate(const Example& example) {
    const Regions<TARGETS_ARE_CLASSES> regions{example};
    const Call& call = example.call;
    T value;
    UNPACK_PARAMETERS
    TEXT
    (void)call;
    return value;
}

OUTLINE bool run(Call& call) { return compute(evaluate, call); }
