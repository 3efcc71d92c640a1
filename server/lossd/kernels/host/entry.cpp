// What the library answers and does in one way for all kernels.

// Which of the compiled instruction sets this machine has.
EXPORT int lossd_host_level() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("x86-64-v4")) return 4;
    if (__builtin_cpu_supports("x86-64-v3")) return 3;
    if (__builtin_cpu_supports("x86-64-v2")) return 2;
    return 1;
#else
    return 0;
#endif
}

// The state of texts and templates that was compiled.
EXPORT const char* lossd_host_digest() { return DIGEST; }

// A call of which all is known but where its arrays lie.
struct Prepared {
    bool (*kernel)(Call*);
    Call call;
    int64_t labels;      // which input holds class indices: its number, or -1
    int64_t label_kind;
    int64_t classes;     // how many, and what a label is below
    int64_t place;       // where an array, as an object, has the address of its data
};

// The rows that a prepared call has at most.
constexpr int64_t MOST_ROWS = 1 << 13;

static char* data_of(const Prepared& prepared, const char* array) {
    char* data = nullptr;
    if (array) __builtin_memcpy(&data, array + prepared.place, sizeof data);
    return data;
}

template <typename Number>
static bool read_labels(const char* from, int64_t count, uint64_t classes, int64_t* to) {
    bool are_classes = true;
    for (int64_t i = 0; i < count; ++i) {
        Number label;
        __builtin_memcpy(&label, from + i * int64_t(sizeof label), sizeof label);
        to[i] = int64_t(label);
        are_classes &= uint64_t(to[i]) < classes;  // below 0 they are very large
    }
    return are_classes;
}

static bool read_labels(const Prepared& prepared, const char* from, int64_t* to) {
    const int64_t count = prepared.call.rows, classes = prepared.classes;
    switch (Kind(prepared.label_kind)) {
        case BOOL: case UINT8: return read_labels<uint8_t>(from, count, classes, to);
        case INT8: return read_labels<int8_t>(from, count, classes, to);
        case INT16: return read_labels<int16_t>(from, count, classes, to);
        case UINT16: return read_labels<uint16_t>(from, count, classes, to);
        case INT32: return read_labels<int32_t>(from, count, classes, to);
        case UINT32: return read_labels<uint32_t>(from, count, classes, to);
        case INT64: return read_labels<int64_t>(from, count, classes, to);
        case UINT64: return read_labels<uint64_t>(from, count, classes, to);
        default: return false;
    }
}

// Makes a prepared call with arrays, and returns the sum of its values; NaN where anything is not as it
// usually is, so that whoever called has to look closer.
EXPORT double lossd_host_call_prepared(
    const Prepared* prepared, const char* first, const char* second, const char* third,
    const char* fourth, const char* values, const char* gradient) {
    const char* const inputs[MOST_INPUTS] = {first, second, third, fourth};
    Call call = prepared->call;
    int64_t labels[MOST_ROWS];
    uint8_t nonfinite[MOST_ROWS];
    if (call.rows > MOST_ROWS) return __builtin_nan("");
    for (int i = 0; i < MOST_INPUTS; ++i) call.inputs[i].place = data_of(*prepared, inputs[i]);
    if (prepared->labels >= 0) {
        Input& given = call.inputs[prepared->labels];
        if (!read_labels(*prepared, given.place, labels)) return __builtin_nan("");
        given.place = reinterpret_cast<const char*>(labels);
    }
    __builtin_memset(nonfinite, 0, size_t(call.rows));
    double sum = 0;
    call.values = data_of(*prepared, values);
    call.gradient = data_of(*prepared, gradient);
    call.nonfinite = nonfinite;
    call.sums = &sum;
    const bool has_run = prepared->kernel(&call);
    return has_run && !call.outside && !call.nonfinite_rows ? sum : __builtin_nan("");
}
