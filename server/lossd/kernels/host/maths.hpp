// Elementary functions without branches, calls or tables, which a compiler vectorises in whatever loop
// they are inlined.  Every operation is rounded by itself (-ffp-contract=off), or is exact, so the bits of
// a result depend neither on the instruction set nor on the place of a number in a vector.
//
// Accuracy, in units of the last place: see tests/kernels/host/test_maths.py, which measures it.

template <typename To, typename From>
INLINE To bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "bits are read as bits of the same number");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}

// A polynomial, its highest coefficient first.
template <typename Real, int N>
struct Polynomial {
    Real coefficients[N];
};

// One step after the other: the fewest steps, which suits the short polynomials of float.  That of an
// exponential, of which rows have many, has pairs that do not wait for each other, in as many steps.
template <int I, int N>
METHOD constexpr float rest_at(const Polynomial<float, N>& p, float x, float sum) {
    if constexpr (I == N) return sum;
    else return rest_at<I + 1>(p, x, sum * x + p.coefficients[I]);
}
template <int N>
METHOD constexpr float at(const Polynomial<float, N>& p, float x) {
    return rest_at<1>(p, x, p.coefficients[0]);
}
METHOD constexpr float at(const Polynomial<float, 5>& p, float x) {
    const auto& c = p.coefficients;
    const float two = x * x;
    return (c[4] + c[3] * x) + ((c[2] + c[1] * x) + c[0] * two) * two;
}

// By halves, which do not wait for each other: a processor that goes step by step through the long
// polynomials of double mostly waits.
struct Powers {
    double one, two, four, eight;
};

template <int FIRST, int COUNT, int N>
METHOD constexpr double part_at(const Polynomial<double, N>& p, const Powers& x) {
    static_assert(COUNT <= 16, "there are powers for 16 coefficients");
    if constexpr (COUNT == 1) {
        return p.coefficients[N - 1 - FIRST];
    } else {
        constexpr int LOW = COUNT > 8 ? 8 : COUNT > 4 ? 4 : COUNT > 2 ? 2 : 1;
        const double power = LOW == 8 ? x.eight : LOW == 4 ? x.four : LOW == 2 ? x.two : x.one;
        return part_at<FIRST, LOW>(p, x) + part_at<FIRST + LOW, COUNT - LOW>(p, x) * power;
    }
}
template <int N>
METHOD constexpr double at(const Polynomial<double, N>& p, double x) {
    const double two = x * x, four = two * two;
    return part_at<0, N>(p, Powers{x, two, four, four * four});
}

// How numbers of a type are made of bits, and what their functions are made of.  All are
// the closest polynomials of their degree, found by Remez' exchange, but SINH of double, a series.
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
    // exp of what is below is 0, of what is above infinite; from `FAINT` down it is not normal.
    static constexpr float LEAST = -103.97208f, MOST = 88.72283f, FAINT = -80.0f;
    // Exponents that are near: so many, a power of two, from the first on.
    static constexpr int FIRST_NEAR = -112, NEAR = 128;
    // (exp(r) - 1 - r) / r^2 at |r| <= log(2) / 2.
    static constexpr Polynomial<float, 5> EXP = {
        0.001381459864666633f, 0.008368716879728068f, 0.04166838804531395f, 0.16666520631709497f,
        0.49999993447796487f};
    // (log((1 + s) / (1 - s)) / s - 2) / s^2 in powers of s^2, at |s| <= 0.1716.
    static constexpr Polynomial<float, 3> LOG = {
        0.2996130216533722f, 0.399736020903671f, 0.6666681671476601f};
    // The same at 0 <= s <= 1/3.
    static constexpr Polynomial<float, 4> LOG_FAR = {
        0.2802445888519287f, 0.27999141812324524f, 0.4002169966697693f, 0.6666641235351562f};
    // (sinh(x) / x - 1) / x^2 in powers of x^2, at |x| <= 1.
    static constexpr Polynomial<float, 4> SINH = {
        2.8174394971752612e-06f, 0.00019836066277108833f, 0.008333350597877646f,
        0.1666666648872161f};
};

constexpr double factorial(int n) { return n < 2 ? 1.0 : n * factorial(n - 1); }

template <>
struct Format<double> {
    typedef int64_t Signed;
    typedef uint64_t Unsigned;
    static constexpr int DIGITS = 52, BIAS = 1023;
    static constexpr double ROUNDER = 6755399441055744.0;
    static constexpr double SMALLEST_NORMAL = 2.2250738585072014e-308;
    static constexpr double LN2_HIGH = 0.6931471803691238164;  // 32 digits
    static constexpr double LN2_LOW = 1.9082149292705877e-10;
    static constexpr double LEAST = -745.1332191019412, MOST = 709.782712893384, FAINT = -700.0;
    static constexpr int FIRST_NEAR = -1008, NEAR = 1024;
    static constexpr Polynomial<double, 10> EXP = {
        2.500006162553128e-08, 2.763024838532302e-07, 2.755758637378518e-06,
        2.480149309888739e-05, 0.00019841269506578723, 0.0013888888943630134,
        0.008333333333494461, 0.041666666666530155, 0.16666666666666413, 0.5000000000000011};
    static constexpr Polynomial<double, 7> LOG = {
        0.1479750793138197, 0.15313903213156663, 0.18183569741670932, 0.22222198475936597,
        0.28571428743263344, 0.3999999999941109, 0.6666666666666735};
    static constexpr Polynomial<double, 9> SINH = {
        1 / factorial(19), 1 / factorial(17), 1 / factorial(15), 1 / factorial(13), 1 / factorial(11),
        1 / factorial(9), 1 / factorial(7), 1 / factorial(5), 1 / factorial(3)};
};

// Of numbers that stand for those of float: a shorter polynomial is near enough.
struct Narrow : Format<double> {
    static constexpr Polynomial<double, 8> EXP = {
        2.749307888778986e-06, 2.4880810041701995e-05, 0.00019841539039806087,
        0.001388881114394454, 0.008333333095147315, 0.04166666696224926, 0.16666666667265004,
        0.49999999999664296};
};

// One of two numbers, chosen among their bits.  Chosen with ?: they could be merged with what a text
// chooses around them, until there are more ways than a compiler makes vectors of.
template <typename Real>
INLINE Real pick(bool is_first, Real first, Real second) {
    typedef typename Format<Real>::Unsigned Unsigned;
    const Unsigned mask = Unsigned(0) - Unsigned(is_first);
    return bits<Real>((bits<Unsigned>(first) & mask) | (bits<Unsigned>(second) & ~mask));
}

template <typename Real>
constexpr Real INFINITE = Real(__builtin_inf());
template <typename Real>
constexpr Real NOT_A_NUMBER = Real(__builtin_nan(""));

INLINE float fabs(float x) { return __builtin_fabsf(x); }
INLINE double fabs(double x) { return __builtin_fabs(x); }
INLINE float sqrt(float x) { return __builtin_sqrtf(x); }
INLINE double sqrt(double x) { return __builtin_sqrt(x); }
INLINE float copysign(float size, float sign) { return __builtin_copysignf(size, sign); }
INLINE double copysign(double size, double sign) { return __builtin_copysign(size, sign); }

INLINE double frexp(double x, int* exponent) { return __builtin_frexp(x, exponent); }
INLINE double ldexp(double x, int exponent) { return __builtin_ldexp(x, exponent); }

// As in CUDA, a number is preferred to a NaN.
template <typename Real>
INLINE Real fmax(Real x, Real y) { return pick(x >= y | y != y, x, y); }
template <typename Real>
INLINE Real fmin(Real x, Real y) { return pick(x <= y | y != y, x, y); }

// Rounds twice, on every machine: one that fuses would have other bits.
template <typename Real>
INLINE Real fma(Real x, Real y, Real z) { return x * y + z; }

template <typename Real>
INLINE Real clamped(Real x, Real low, Real high) { return x < low ? low : x > high ? high : x; }

// x - y * z, of an exact product: one step for a processor that has it, and the same bits.
INLINE float less_exact(float x, float y, float z) {
#ifdef __FP_FAST_FMAF
    return __builtin_fmaf(-y, z, x);
#else
    return x - y * z;
#endif
}
INLINE double less_exact(double x, double y, double z) {
#ifdef __FP_FAST_FMA
    return __builtin_fma(-y, z, x);
#else
    return x - y * z;
#endif
}

// 2^exponent, within the range of normal numbers.
template <typename Real>
INLINE Real power_of_two(typename Format<Real>::Signed exponent) {
    typedef typename Format<Real>::Unsigned Unsigned;
    return bits<Real>(Unsigned(exponent + Format<Real>::BIAS) << Format<Real>::DIGITS);
}

// exp(x) as 2^exponent (1 + excess), with an excess of at most 0.42.
template <typename Real>
struct Exponential {
    typedef Format<Real> F;
    typedef typename F::Unsigned Unsigned;

    typename F::Signed shifted;  // the exponent is its last digits
    Real excess;

    METHOD typename F::Signed exponent() const {
        return shifted - bits<typename F::Signed>(F::ROUNDER);
    }
    // Below NEAR where the exponent is near; what is far, or a NaN, has one of the bits above.
    METHOD Unsigned place() const {
        return Unsigned(shifted) - (bits<Unsigned>(F::ROUNDER) + Unsigned(F::FIRST_NEAR));
    }
    // The number, if it is normal.
    METHOD Real number() const {
        return bits<Real>(bits<Unsigned>(1 + excess) + (Unsigned(shifted) << F::DIGITS));
    }
};

template <typename Real, typename F = Format<Real>>
INLINE Exponential<Real> exponential_of(Real x) {
    typedef typename F::Signed Signed;
    const Real shifted = x * Real(1.4426950408889634) + F::ROUNDER;
    const Real whole = shifted - F::ROUNDER;
    const Real r = less_exact(x, whole, F::LN2_HIGH) - whole * F::LN2_LOW;
    return Exponential<Real>{
        bits<Signed>(shifted), r + r * r * at(F::EXP, r)};
}

template <typename Real, typename F = Format<Real>>
INLINE Real exp_of(Real x) {
    typedef typename F::Unsigned Unsigned;
    const Exponential<Real> e = exponential_of<Real, F>(x);
    // Numbers that are not normal are made 2^64 times as large, and rounded once when they are not.
    const bool is_faint = x < F::FAINT;
    const Unsigned power = Unsigned(e.exponent()) + (is_faint ? Unsigned(64) : Unsigned(0));
    const Real large = bits<Real>(bits<Unsigned>(1 + e.excess) + (power << F::DIGITS));
    const Real y = large * (is_faint ? Real(5.421010862427522e-20) : Real(1));
    // A NaN stays one.
    return pick(x <= F::MOST, x < F::LEAST ? Real(0) : y, x + INFINITE<Real>);
}

// The same from FAINT to MOST, in fewer steps.
template <typename Real, typename F = Format<Real>>
INLINE Real exp_within(Real x) {
    return exponential_of<Real, F>(x).number();
}

template <typename Real, typename F = Format<Real>>
INLINE Real expm1_of(Real x) {
    // Not of a number that was brought within bounds: exp of the same has the same steps.
    const Exponential<Real> e = exponential_of<Real, F>(x);
    // Half of it, since 2^exponent may be infinite where the whole is not.
    const Real power = power_of_two<Real>(e.exponent() - 1);
    const Real half = power * e.excess + (power - Real(0.5));
    const Real least = pick(x < -Real(F::DIGITS + 5), Real(-1), 2 * half);
    return pick(x == 0, x, pick(x <= F::MOST + Real(0.25), least, x + INFINITE<Real>));
}

// The same of what is neither so far below 0 that it is -1, nor so far above that it is infinite.
template <typename Real, typename F = Format<Real>>
INLINE Real expm1_within(Real x) {
    const Exponential<Real> e = exponential_of<Real, F>(x);
    const Real power = power_of_two<Real>(e.exponent());
    return pick(x == 0, x, power * e.excess + (power - 1));
}

// log(1 + f) + exponent * log(2), for f from sqrt(1/2) - 1 to sqrt(2) - 1: twice the series of the
// inverse hyperbolic tangent of s = f / (2 + f), with f itself apart, so that nothing is lost of it.
template <typename Real>
INLINE Real log_of_parts(Real f, Real exponent) {
    typedef Format<Real> F;
    const Real s = f / (2 + f), z = s * s, half = Real(0.5) * f * f;
    const Real bent = s * (half + z * at(F::LOG, z)) + exponent * F::LN2_LOW;
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
    const Real beyond = pick(x == 0, -INFINITE<Real>, x < 0 ? NOT_A_NUMBER<Real> : x);
    return pick(x > 0 & x < INFINITE<Real>, y, beyond);
}

template <typename Real>
INLINE Real log1p_of(Real x) {
    const Real u = 1 + x;
    const Parts<Real> parts = parts_of(u);
    // What rounding 1 + x took away is given back where it matters.
    const Real lost = x < 1 ? x - (u - 1) : (x - u) + 1;
    const Real back = u < Real(uint64_t(1) << 62) ? lost * parts.unit : Real(0);
    const Real y = log_of_parts(parts.f + back, parts.exponent);
    const Real beyond = pick(x == -1, -INFINITE<Real>, x < -1 ? NOT_A_NUMBER<Real> : x);
    return pick(x > -1 & x < INFINITE<Real> & x != 0, y, beyond);
}

// The same from 0 to 1, where float takes fewer steps: none for an exponent.
INLINE double log1p_of_share(double x) { return log1p_of(x); }
INLINE float log1p_of_share(float x) {
    const float s = x / (2 + x), z = s * s, half = 0.5f * x * x;
    return x - (half - s * (half + z * at(Format<float>::LOG_FAR, z)));
}

// x^y of x >= 0, computed wider than float.  A text is compiled once for each power that is a product,
// and once for any other; below 0 a product is one too, and any other power is NaN.
constexpr int ANY_POWER = 3;

template <int POWER, typename Real, typename Power>
INLINE Real power_of(Real x, Power y) {
    if constexpr (POWER == 0) return 1;
    else if constexpr (POWER == 1) return x;
    else if constexpr (POWER == 2) return x * x;
    else return Real(exp_of(double(y) * log_of(double(x))));
}

INLINE int kind_of_power(double y) { return y == 0 ? 0 : y == 1 ? 1 : y == 2 ? 2 : ANY_POWER; }

template <typename Real>
INLINE Real sinh_near_0(Real x) {
    const Real z = x * x;
    return x + x * (z * at(Format<Real>::SINH, z));
}

// Infinite as soon as exp(x) is.
template <typename Real>
INLINE Real sinh_of(Real x) {
    const Real size = fabs(x), e = exp_of(size);
    return pick(size <= 1, sinh_near_0(x), copysign(Real(0.5) * (e - 1 / e), x));
}

template <typename Real>
INLINE Real tanh_of(Real x) {
    const Real size = fabs(clamped(x, Real(-22), Real(22)));
    const Real e = exp_of(size), inverse = 1 / e;
    const Real sine = pick(size <= 1, sinh_near_0(size), Real(0.5) * (e - inverse));
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
