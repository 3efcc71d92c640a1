// Numbers of other types, read as the type that is computed in and written from it.

INLINE float from_float16(uint16_t half) {
    const uint32_t sign = uint32_t(half & 0x8000) << 16, size = half & 0x7fff;
    const float normal = bits<float>((size << 13) + (112u << 23));
    const float small = float(int32_t(size)) * 5.9604644775390625e-08f;  // 2^-24
    // Infinity, or a NaN, which is quiet from now on, as where the processor converts.
    const float special = bits<float>((size << 13) | (size > 0x7c00 ? 0x7fc00000u : 0x7f800000u));
    const float found = size < 0x400 ? small : size < 0x7c00 ? normal : special;
    return bits<float>(bits<uint32_t>(found) | sign);
}

INLINE float from_bfloat16(uint16_t half) { return bits<float>(uint32_t(half) << 16); }

// To the nearest, of two equally near ones to the even one.
INLINE uint16_t to_float16(float x) {
    const uint32_t all = bits<uint32_t>(x), sign = (all >> 16) & 0x8000, size = all & 0x7fffffff;
    const uint32_t normal = (size + 0xfff + ((size >> 13) & 1) - (112u << 23)) >> 13;
    // 1/2 has no place for more than float16's smallest number, 2^-24.
    const float small_size = bits<float>(size < 0x38800000u ? size : 0u);
    const uint32_t small = bits<uint32_t>(small_size + 0.5f) - 0x3f000000u;
    const uint32_t special = size > 0x7f800000u ? 0x7e00u | ((size >> 13) & 0x3ff) : 0x7c00u;
    return uint16_t(
        sign | (size < 0x38800000u ? small : size < 0x477ff000u ? normal : special));
}

INLINE uint16_t to_bfloat16(float x) {
    const uint32_t all = bits<uint32_t>(x), size = all & 0x7fffffff;
    const uint32_t rounded = (all + 0x7fff + ((all >> 16) & 1)) >> 16;
    return uint16_t(size > 0x7f800000u ? (all >> 16) | 0x40 : rounded);
}

// A number at an address that may be unfit for its type.
template <typename Number>
struct __attribute__((packed, may_alias)) Loose {
    Number number;
};

template <typename From, typename Convert>
INLINE void convert(const char* from, T* to, int count, Convert number) {
    const Loose<From>* const given = reinterpret_cast<const Loose<From>*>(from);
    INDEPENDENT
    for (int i = 0; i < count; ++i) to[i] = number(given[i].number);
}

// Where the processor converts float16, it does so for so many at a time.
constexpr int HALVES = 8;

INLINE void read_float16(const char* from, T* to, int count) {
    int done = 0;
#ifdef __F16C__
    for (; done + HALVES <= count; done += HALVES) {
        const __m128i* const given = reinterpret_cast<const __m128i*>(from + done * sizeof(uint16_t));
        float numbers[HALVES];
        _mm256_storeu_ps(numbers, _mm256_cvtph_ps(_mm_loadu_si128(given)));
        for (int i = 0; i < HALVES; ++i) to[done + i] = T(numbers[i]);
    }
#endif
    const char* const rest = from + done * sizeof(uint16_t);
    convert<uint16_t>(rest, to + done, count - done, [](uint16_t x) { return T(from_float16(x)); });
}

OUTLINE void read(Kind kind, const char* from, T* to, int count) {
    const auto cast = [](auto x) { return T(x); };
    switch (kind) {
        case FLOAT16: return read_float16(from, to, count);
        case BFLOAT16: return convert<uint16_t>(from, to, count, [](uint16_t x) { return T(from_bfloat16(x)); });
        case FLOAT32: return convert<float>(from, to, count, cast);
        case FLOAT64: return convert<double>(from, to, count, cast);
        case BOOL: return convert<uint8_t>(from, to, count, [](uint8_t x) { return T(x != 0); });
        case INT8: return convert<int8_t>(from, to, count, cast);
        case UINT8: return convert<uint8_t>(from, to, count, cast);
        case INT16: return convert<int16_t>(from, to, count, cast);
        case UINT16: return convert<uint16_t>(from, to, count, cast);
        case INT32: return convert<int32_t>(from, to, count, cast);
        case UINT32: return convert<uint32_t>(from, to, count, cast);
        case INT64: return convert<int64_t>(from, to, count, cast);
        case UINT64: return convert<uint64_t>(from, to, count, cast);
        case NONE: return;
    }
}
