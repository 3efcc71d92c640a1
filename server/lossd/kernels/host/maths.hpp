// Elementary functions without branches, calls or tables, which a compiler vectorises in whatever loop
// they are inlined.  Every operation is rounded by itself (-ffp-contract=off), so the bits of a result
// depend neither on the instruction set nor on the place of a number in a vector.
//
// Accuracy, in units of the last place: see tests/kernels/host/test_maths.py, which measures it.

template <typename To, typename From>
INLINE To bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "bits are read as bits of the same number");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}

// How numbers of a type are made of bits.
template <typename Real>
struct Format;

template <>
struct Format<float> {
    typedef int32_t Signed;
    typedef uint32_t Unsigned;
    static constexpr int DIGITS = 23, BIAS = 127;
    static constexpr float ROUNDER = 12582912.0f;  // 1.5 * 2^23: adding it leaves whole numbers
    static constexpr float SMALLEST_NORMAL = 1.1754943508222875e-38f;
    static constexpr float LN2_HIGH = 0.693145751953125f;  // 16 digits: times an exponent it is exact
    static constexpr float LN2_LOW = 1.4286068203094172e-06f;
    static constexpr float LEAST_EXPONENT = -105, MOST_EXPONENT = 89;  // beyond: 0 and infinity
    static constexpr int EXP_TERMS = 7, LOG_TERMS = 5, SINH_TERMS = 5;
};

template <>
struct Format<double> {
    typedef int64_t Signed;
    typedef uint64_t Unsigned;
    static constexpr int DIGITS = 52, BIAS = 1023;
    static constexpr double ROUNDER = 6755399441055744.0;
    static constexpr double SMALLEST_NORMAL = 2.2250738585072014e-308;
    static constexpr double LN2_HIGH = 0.6931471803691238164;  // 32 digits
    static constexpr double LN2_LOW = 1.9082149292705877e-10;
    static constexpr double LEAST_EXPONENT = -746, MOST_EXPONENT = 710;
    static constexpr int EXP_TERMS = 13, LOG_TERMS = 11, SINH_TERMS = 9;
};

template <typename Real>
constexpr Real INFINITE = Real(__builtin_inf());
template <typename Real>
constexpr Real NOT_A_NUMBER = Real(__builtin_nan(""));

constexpr double factorial(int n) { return n < 2 ? 1.0 : n * factorial(n - 1); }

INLINE float fabs(float x) { return __builtin_fabsf(x); }
INLINE double fabs(double x) { return __builtin_fabs(x); }
INLINE float sqrt(float x) { return __builtin_sqrtf(x); }
INLINE double sqrt(double x) { return __builtin_sqrt(x); }
INLINE float copysign(float size, float sign) { return __builtin_copysignf(size, sign); }
INLINE double copysign(double size, double sign) { return __builtin_copysign(size, sign); }

// As in CUDA, a number is preferred to a NaN.
template <typename Real>
INLINE Real fmax(Real x, Real y) { return x >= y || y != y ? x : y; }
template <typename Real>
INLINE Real fmin(Real x, Real y) { return x <= y || y != y ? x : y; }

// Rounds twice, on every machine: one that fuses would have other bits.
template <typename Real>
INLINE Real fma(Real x, Real y, Real z) { return x * y + z; }

template <typename Real>
INLINE Real clamped(Real x, Real low, Real high) { return x < low ? low : x > high ? high : x; }

// 2^exponent, within the range of normal numbers.
template <typename Real>
INLINE Real power_of_two(typename Format<Real>::Signed exponent) {
    typedef typename Format<Real>::Unsigned Unsigned;
    return bits<Real>(Unsigned(exponent + Format<Real>::BIAS) << Format<Real>::DIGITS);
}

// exp(x) as 2^exponent (1 + excess), with an excess of at most 0.42.
template <typename Real>
struct Exponential {
    typename Format<Real>::Signed exponent;
    Real excess;
};

// The series of (exp(r) - 1 - r) / r^2 at |r| <= log(2) / 2.
template <typename Real, int N>
struct ExpSeries {
    INLINE Real at(Real r, Real sum) {
        return ExpSeries<Real, N - 1>::at(r, sum * r + Real(1 / factorial(N)));
    }
};
template <typename Real>
struct ExpSeries<Real, 1> {
    INLINE Real at(Real, Real sum) { return sum; }
};

template <typename Real>
INLINE Exponential<Real> exponential_of(Real x) {
    typedef Format<Real> F;
    typedef typename F::Signed Signed;
    const Real shifted = x * Real(1.4426950408889634) + F::ROUNDER;
    const Real whole = shifted - F::ROUNDER;
    const Real r = (x - whole * F::LN2_HIGH) - whole * F::LN2_LOW;
    const Real series =
        ExpSeries<Real, F::EXP_TERMS - 1>::at(r, Real(1 / factorial(F::EXP_TERMS)));
    return Exponential<Real>{bits<Signed>(shifted) - bits<Signed>(F::ROUNDER), r + r * r * series};
}

template <typename Real>
INLINE Real exp_of(Real x) {
    typedef Format<Real> F;
    typedef typename F::Signed Signed;
    typedef typename F::Unsigned Unsigned;
    const Exponential<Real> e =
        exponential_of(clamped(x, F::LEAST_EXPONENT, F::MOST_EXPONENT));
    // In two steps, since half of the exponent is in range where the whole is not.
    const Signed half = Signed(Unsigned(e.exponent + 4096) >> 1) - 2048;
    const Real y = (1 + e.excess) * power_of_two<Real>(half) * power_of_two<Real>(e.exponent - half);
    return x != x ? x : y;
}

template <typename Real>
INLINE Real expm1_of(Real x) {
    typedef Format<Real> F;
    const Real least = -Real(F::DIGITS + 5), most = Real(F::DIGITS + 5);
    const Exponential<Real> e = exponential_of(clamped(x, least, most));
    const Real power = power_of_two<Real>(e.exponent);
    const Real near = power * e.excess + (power - 1);
    return x != x || x == 0 ? x : x > most ? exp_of(x) : near;
}

// log(1 + f) + exponent * log(2), for f from sqrt(1/2) - 1 to sqrt(2) - 1: twice the series of the
// inverse hyperbolic tangent of s = f / (2 + f), with f itself apart, so that nothing is lost of it.
template <typename Real, int N>
struct LogSeries {
    INLINE Real at(Real z, Real sum) {
        return LogSeries<Real, N - 1>::at(z, sum * z + Real(2.0 / (2 * N + 1)));
    }
};
template <typename Real>
struct LogSeries<Real, 0> {
    INLINE Real at(Real z, Real sum) { return sum * z; }
};

template <typename Real>
INLINE Real log_of_parts(Real f, Real exponent) {
    typedef Format<Real> F;
    const Real s = f / (2 + f), z = s * s, half = Real(0.5) * f * f;
    const Real series =
        LogSeries<Real, F::LOG_TERMS - 1>::at(z, Real(2.0 / (2 * F::LOG_TERMS + 1)));
    const Real bent = s * (half + series) + exponent * F::LN2_LOW;
    return exponent * F::LN2_HIGH - ((half - bent) - f);
}

// A positive normal number as 2^exponent (1 + f).
template <typename Real>
struct Parts {
    Real f, exponent, unit;  // unit: 2^-exponent
};

template <typename Real>
INLINE Parts<Real> parts_of(Real x) {
    typedef Format<Real> F;
    typedef typename F::Unsigned Unsigned;
    // Exponents change at sqrt(1/2), so that f is small on both sides.
    const Unsigned root = bits<Unsigned>(Real(0.7071067811865476));
    const Unsigned shifted = bits<Unsigned>(x) - root;
    const Unsigned above = shifted & ~((Unsigned(1) << F::DIGITS) - 1);
    const Real m = bits<Real>(bits<Unsigned>(x) - above);
    // To a number without a conversion of 64 bits, which few machines have: the exponent, made
    // positive, becomes the last digits of a large number.
    const Unsigned biased = (above + (Unsigned(F::BIAS + 1) << F::DIGITS)) >> F::DIGITS;
    const Real large = bits<Real>(bits<Unsigned>(F::ROUNDER) + biased);
    const Real exponent = large - (F::ROUNDER + (F::BIAS + 1));
    const Real unit = bits<Real>((Unsigned(2 * F::BIAS + 1) - biased) << F::DIGITS);
    return Parts<Real>{m - 1, exponent, unit};
}

template <typename Real>
INLINE Real log_of(Real x) {
    typedef Format<Real> F;
    const bool is_small = x < F::SMALLEST_NORMAL;
    const Real scale = Real(uint64_t(1) << F::DIGITS);
    const Parts<Real> parts = parts_of(is_small ? x * scale : x);
    const Real y = log_of_parts(parts.f, parts.exponent - (is_small ? Real(F::DIGITS) : Real(0)));
    const Real beyond = x == 0 ? -INFINITE<Real> : x < 0 ? NOT_A_NUMBER<Real> : x;
    return x > 0 && x < INFINITE<Real> ? y : beyond;
}

template <typename Real>
INLINE Real log1p_of(Real x) {
    const Real u = 1 + x;
    const Parts<Real> parts = parts_of(u);
    // What rounding 1 + x took away is given back where it matters.
    const Real lost = x < 1 ? x - (u - 1) : (x - u) + 1;
    const Real y = log_of_parts(parts.f + lost * parts.unit, parts.exponent);
    const Real beyond = x == -1 ? -INFINITE<Real> : x < -1 ? NOT_A_NUMBER<Real> : x;
    return x > -1 && x < INFINITE<Real> && x != 0 ? y : beyond;
}

// x^y of x >= 0; below 0 it is NaN but for whole numbers up to 3.  Computed wider than float.
template <typename Real>
INLINE Real pow_of(Real x, Real y) {
    if (y == 0) return 1;
    if (y == 1) return x;
    if (y == 2) return x * x;
    if (y == 3) return x * x * x;
    const Real found = Real(exp_of(double(y) * log_of(double(x))));
    return x == 1 ? x : found;
}

// The series of sinh(x) / x at |x| <= 1, in z = x^2.
template <typename Real, int N>
struct SinhSeries {
    INLINE Real at(Real z, Real sum) {
        return SinhSeries<Real, N - 1>::at(z, sum * z + Real(1 / factorial(2 * N + 1)));
    }
};
template <typename Real>
struct SinhSeries<Real, 0> {
    INLINE Real at(Real z, Real sum) { return sum * z; }
};

template <typename Real>
INLINE Real sinh_near_0(Real x) {
    typedef Format<Real> F;
    const Real z = x * x;
    return x + x * SinhSeries<Real, F::SINH_TERMS - 1>::at(
                       z, Real(1 / factorial(2 * F::SINH_TERMS + 1)));
}

template <typename Real>
INLINE Real sinh_of(Real x) {
    const Real size = fabs(x), half = exp_of(size / 2), e = half * half;
    const Real far = size > 40 ? (Real(0.5) * half) * half : Real(0.5) * (e - 1 / e);
    return size <= 1 ? sinh_near_0(x) : copysign(far, x);
}

template <typename Real>
INLINE Real tanh_of(Real x) {
    const Real bent = clamped(x, Real(-22), Real(22)), size = fabs(bent);
    const Real e = exp_of(size), inverse = 1 / e;
    const Real sine = size <= 1 ? sinh_near_0(size) : Real(0.5) * (e - inverse);
    return copysign(sine / (Real(0.5) * (e + inverse)), x);
}

#define FUNCTION(name)                                    \
    INLINE float name(float x) { return name##_of(x); }   \
    INLINE double name(double x) { return name##_of(x); }
FUNCTION(exp)
FUNCTION(expm1)
FUNCTION(log)
FUNCTION(log1p)
FUNCTION(sinh)
FUNCTION(tanh)
#undef FUNCTION
INLINE float pow(float x, float y) { return pow_of(x, y); }
INLINE double pow(double x, double y) { return pow_of(x, y); }
