// The text of a loss whose example is a sequence.

OUTLINE T evaluate(const Example& sequence) {
    const Call& call = sequence.call;
    T value;
    UNPACK_PARAMETERS
    TEXT
    (void)call;
    return value;
}

OUTLINE bool run(Call& call) { return compute(evaluate, call); }
