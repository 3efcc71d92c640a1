// The text of a loss whose example is a sequence of tokens.

OUTLINE double evaluate(const Example& tokens) {
    const TokenCall& call = tokens.call;
    double value;
    UNPACK_PARAMETERS
    TEXT
    (void)call;
    return value;
}

OUTLINE bool run(TokenCall& call) { return compute(evaluate, call); }
