// The text of a loss of a few vectors side by side.

OUTLINE T evaluate(const Row& row, const T target) {
    const Call& call = row.call;
    T value;
    UNPACK_PARAMETERS
    TEXT
    (void)call, (void)target;
    return value;
}

OUTLINE bool run(Call& call) {
    return compute(Vectorwise{evaluate, VECTORS, INPUTS > VECTORS}, call);
}
