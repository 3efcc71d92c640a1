// What a kernel is called with.  _calls.py packs the same structures.

// The types of an array; the numbers are those of _calls.py.
enum Kind : int32_t {
    NONE, FLOAT16, BFLOAT16, FLOAT32, FLOAT64,
    BOOL, INT8, UINT8, INT16, UINT16, INT32, UINT32, INT64, UINT64,
};

INLINE int64_t size_of(Kind kind) {
    switch (kind) {
        case NONE: return 0;
        case BOOL: case INT8: case UINT8: return 1;
        case FLOAT16: case BFLOAT16: case INT16: case UINT16: return 2;
        case FLOAT32: case INT32: case UINT32: return 4;
        case FLOAT64: case INT64: case UINT64: return 8;
    }
    return 0;
}

// What the numbers of an input may be.
// From low to high; one of the two; from low to high or NaN.
enum Rule : int32_t { ANY, BETWEEN, EITHER, BETWEEN_OR_NAN };

struct Input {
    const char* place;
    Kind kind;
    Rule rule;
    double low, high;
};

// Where a gradient goes, or null.
struct Gradient {
    char* place;
    Kind kind;
};

struct Call {
    int64_t rows, columns;
    int64_t block;               // rows that are summed together
    int64_t parts, labels;       // of a row: parts of equal lengths, and numbers of the second input
    int64_t classes_last;        // whether parts that are classes lie side by side
    Input inputs[MOST_INPUTS];
    double elements;             // what the sum of a row of elements is divided by
    double scale;                // of every row, where there are no
    const T* scales;             // one a row
    const uint8_t* silent;       // one a row, or null
    const double* weights;       // one a row, or null for 1
    T* values;                   // one a row, or null
    char* gradient;              // or null
    Kind gradient_kind;          // that of T; where T is float, also FLOAT16 and BFLOAT16
    int32_t streams;             // whether the gradient goes past the caches, to memory
    uint8_t* nonfinite;          // one a row: set where the value or the gradient is not finite
    const double* numbers;       // the parameters that are numbers
    const T* const* vectors;     // those that are lists: one number a column, or null for 1
    double* sums;                // of weights times values, one for each block of rows
    uint8_t* statuses;           // one a row, for losses that have any
    Gradient others[MOST_INPUTS - 1];  // with respect to the inputs after the first
    // What the kernel answers:
    int64_t nonfinite_rows;
    int64_t outside;             // whether a number of a row that is not silent breaks its rule
};
