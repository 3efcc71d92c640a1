// A CUDA block on the CPU: every thread is a fiber that runs to its next barrier, in turns, so that
// g++ executes the unmodified source of a kernel.  It knows what the templates use and nothing more.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

using std::exp;
using std::expm1;
using std::fabs;
using std::fma;
using std::fmax;
using std::frexp;
using std::ldexp;
using std::log;
using std::log1p;
using std::pow;
using std::sinh;
using std::tanh;

#define __global__
#define __device__
#define __shared__ thread_local  // at block scope that is static, and extern may stand before it
#define __launch_bounds__(...)

struct Indices {
    unsigned x, y;
};
static Indices threadIdx, blockIdx, blockDim, gridDim;

namespace simt {

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(1 << 16);
    bool is_done = false;
    unsigned barriers = 0;   // that it came to
    unsigned exchanges = 0;  // that it took part in
    double offers[2] = {};   // to the last two: 64 bits of anything
};
static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static bool has_moved;  // whether a thread came any further since all had a turn
static void (*body)(void*);
static void* body_arguments;

static unsigned thread() { return threadIdx.y * blockDim.x + threadIdx.x; }

static void run_fiber() {
    body(body_arguments);
    fibers[thread()].is_done = has_moved = true;
}

// Lets the other threads run until something holds.
template <typename Condition>
void wait(Condition holds) {
    while (!holds()) swapcontext(&fibers[thread()].context, &scheduler);
    has_moved = true;
}

// Runs all threads in turns; false if none comes any further, since some wait for one that is not
// going to come.
static bool run_block() {
    for (Fiber& fiber : fibers) {
        fiber.is_done = false;
        fiber.barriers = fiber.exchanges = 0;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = &scheduler;
        makecontext(&fiber.context, run_fiber, 0);
    }
    for (unsigned ended = 0; ended < fibers.size();) {
        has_moved = false;
        ended = 0;
        for (unsigned i = 0; i < fibers.size(); ++i) {
            threadIdx = {i % blockDim.x, i / blockDim.x};
            if (!fibers[i].is_done) swapcontext(&scheduler, &fibers[i].context);
            ended += fibers[i].is_done;
        }
        if (!has_moved) return false;
    }
    return true;
}

// A kernel and pointers to its arguments.
template <typename... Parameters>
struct Call {
    void (*kernel)(Parameters...);
    void** arguments;

    template <std::size_t... I>
    void apply(std::index_sequence<I...>) const {
        kernel(*static_cast<std::remove_cv_t<Parameters>*>(arguments[I])...);
    }
    static void run(void* call) {
        static_cast<Call*>(call)->apply(std::index_sequence_for<Parameters...>{});
    }
};

// Returns 0, or 1 if the threads of a block parted at a barrier.
template <typename... Parameters>
int launch(unsigned blocks, unsigned threads, unsigned rows, void (*kernel)(Parameters...),
           void** arguments) {
    Call<Parameters...> call{kernel, arguments};
    body = call.run;
    body_arguments = &call;
    fibers = std::vector<Fiber>(threads * rows);
    blockDim = {threads, rows};
    gridDim = {blocks, 1};
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        if (!run_block()) return 1;
    return 0;
}

// Exchanges something with the lanes of a warp that are in a mask, each of which must come here.
// Returns what gives the offer of a lane.  An offer stays until the next but one, for which all have
// to have seen this one.
template <typename Offer>
auto exchange(unsigned mask, Offer own) {
    static_assert(sizeof own <= sizeof(double));
    Fiber& fiber = fibers[thread()];
    const unsigned first = thread() / 32 * 32, turn = fiber.exchanges++;
    std::memcpy(&fiber.offers[turn % 2], &own, sizeof own);
    wait([=] {
        for (unsigned lane = 0; lane < 32; ++lane)
            if (mask >> lane & 1 && fibers[first + lane].exchanges <= turn) return false;
        return true;
    });
    return [=](unsigned lane) {
        Offer offer;
        std::memcpy(&offer, &fibers[first + lane].offers[turn % 2], sizeof offer);
        return offer;
    };
}

}  // namespace simt

inline void __syncthreads() {
    const unsigned turn = simt::fibers[simt::thread()].barriers++;
    simt::wait([=] {
        for (const simt::Fiber& fiber : simt::fibers)
            if (fiber.barriers <= turn) return false;
        return true;
    });
}

template <typename Number>
Number __shfl_xor_sync(unsigned mask, Number own, int distance) {
    return simt::exchange(mask, own)(simt::thread() % 32 ^ distance);
}

inline unsigned __ballot_sync(unsigned mask, int own) {
    const auto offer = simt::exchange(mask, own);
    unsigned votes = 0;
    for (unsigned lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1) votes |= (offer(lane) != 0) << lane;
    return votes;
}

inline int __syncthreads_or(int own) {
    static thread_local std::vector<int> votes;
    votes.resize(simt::fibers.size());
    votes[simt::thread()] = own;
    __syncthreads();
    int any = 0;
    for (int vote : votes) any |= vote != 0;
    __syncthreads();  // a slow thread may still be reading what the next one replaces
    return any;
}
