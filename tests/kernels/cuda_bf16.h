// What the templates use of CUDA's header, for simt.h.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
    std::uint16_t bits;

    __nv_bfloat16() = default;
    explicit __nv_bfloat16(float number) {
        std::uint32_t wide;
        std::memcpy(&wide, &number, sizeof wide);
        // To the nearest, of two as near the even one.
        const std::uint32_t rounded = wide + 0x7fff + (wide >> 16 & 1);
        bits = static_cast<std::uint16_t>(number != number ? 0x7fff : rounded >> 16);
    }
};

inline float __bfloat162float(__nv_bfloat16 number) {
    const std::uint32_t wide = std::uint32_t{number.bits} << 16;
    float found;
    std::memcpy(&found, &wide, sizeof found);
    return found;
}
inline __nv_bfloat16 __float2bfloat16_rn(float number) { return __nv_bfloat16(number); }
inline __nv_bfloat16 __double2bfloat16(double number) {
    // Rounded to odd first, so that rounding twice is as good as once.
    float near = static_cast<float>(number);
    std::uint32_t wide;
    if (std::isfinite(near) && near != number) {
        if (std::fabs(near) > std::fabs(number)) near = std::nextafter(near, 0.0f);
        std::memcpy(&wide, &near, sizeof wide);
        wide |= 1;
        std::memcpy(&near, &wide, sizeof near);
    }
    return __nv_bfloat16(near);
}
