// What the templates use of CUDA's header, for simt.h.
#pragma once

typedef _Float16 __half;

inline float __half2float(__half number) { return number; }
inline __half __float2half_rn(float number) { return static_cast<__half>(number); }
inline __half __double2half(double number) { return static_cast<__half>(number); }
