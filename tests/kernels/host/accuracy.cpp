// How far the functions of maths.hpp are from the C library's wider ones, in units of the last place: of
// float over every float32 or one in so many, of double over a range.  Prints "name worst at" for each.

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace host {
#include "base.hpp"
#include "maths.hpp"
}  // namespace host

static double units_between(float found, double wanted) {
    const float rounded = static_cast<float>(wanted);
    if (isnan(found) || isnan(wanted)) return isnan(found) && isnan(wanted) ? 0 : INFINITY;
    if (isinf(found) || isinf(rounded)) return found == rounded ? 0 : INFINITY;
    int exponent;
    frexp(wanted, &exponent);
    const double unit = ldexp(1.0, exponent - 24 < -149 ? -149 : exponent - 24);
    return fabs(found - wanted) / unit;
}

template <typename Function>
static void measure(const char* name, Function function, double (*wanted)(double), uint32_t step) {
    double worst = 0;
    float place = 0;
    for (uint64_t all = 0; all <= UINT32_MAX; all += step) {
        const uint32_t bits = static_cast<uint32_t>(all);
        float x;
        memcpy(&x, &bits, sizeof x);
        const double units = units_between(function(x), wanted(x));
        if (units > worst) worst = units, place = x;
    }
    printf("%s %.3f %.9g\n", name, worst, place);
}

template <typename Function>
static void measure_double(
    const char* name, Function function, long double (*wanted)(long double), double low, double high) {
    constexpr int STEPS = 100000;
    double worst = 0, place = 0;
    for (int i = 0; i <= STEPS; ++i) {
        const double x = low + (high - low) * i / STEPS;
        const long double exact = wanted(x);
        int exponent;
        frexpl(exact, &exponent);
        const double units = static_cast<double>(fabsl(function(x) - exact) / ldexpl(1, exponent - 53));
        if (units > worst) worst = units, place = x;
    }
    printf("%s %.3f %.17g\n", name, worst, place);
}

int main(int, char** arguments) {
    const uint32_t step = static_cast<uint32_t>(strtoul(arguments[1], nullptr, 10));
    measure("exp", [](float x) { return host::exp(x); }, exp, step);
    measure("expm1", [](float x) { return host::expm1(x); }, expm1, step);
    measure("log", [](float x) { return host::log(x); }, log, step);
    measure("log1p", [](float x) { return host::log1p(x); }, log1p, step);
    measure("log1p_of_share", [](float x) {
        return x >= 0 && x <= 1 ? host::log1p_of_share(x) : host::log1p(x);
    }, log1p, step);
    measure("tanh", [](float x) { return host::tanh(x); }, tanh, step);
    const auto exponential = [](double x) { return host::exp(x); };
    measure_double("exp_of_double", exponential, expl, -700, 700);
    measure_double("exp_of_small_double", exponential, expl, -1, 1);
    measure_double("expm1_of_double", [](double x) { return host::expm1(x); }, expm1l, -2, 2);
    // Where they may be called, and of numbers that stand for those of float.
    measure_double("expm1_within", [](double x) { return host::expm1_within(x); }, expm1l, -50, 50);
    measure_double("exp_of_narrow", [](double x) { return host::exp_of<double, host::Narrow>(x); }, expl, -50, 50);
    measure_double("expm1_of_narrow", [](double x) { return host::expm1_of<double, host::Narrow>(x); }, expm1l, -2, 2);
    measure_double("log_of_double", [](double x) { return host::log(x); }, logl, 1e-9, 4);
    measure_double("log1p_of_double", [](double x) { return host::log1p(x); }, log1pl, -0.999, 4);
}
