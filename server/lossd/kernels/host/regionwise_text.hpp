// The text of a loss of a region.

OUTLINE T evaluate(const Region& region) {
    const Call& call = region.call;
    T value;
    UNPACK_PARAMETERS
    TEXT
    (void)call;
    return value;
}

OUTLINE bool run(Call& call) { return compute(evaluate, call); }
