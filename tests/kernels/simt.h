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
using std::fabs;
using std::fma;
using std::fmax;
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
    double exchanged = 0;  // what this thread offers to a shuffle: 64 bits of anything
};
static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static void (*body)(void*);
static void* body_arguments;

static unsigned thread() { return threadIdx.y * blockDim.x + threadIdx.x; }

static void run_fiber() {
    body(body_arguments);
    fibers[thread()].is_done = true;
}

static void wait_for_block() { swapcontext(&fibers[thread()].context, &scheduler); }

// Runs every thread to its next barrier or end; false if some stand at one and others have ended.
static bool run_to_barrier(bool& is_done) {
    unsigned ended = 0;
    for (unsigned i = 0; i < fibers.size(); ++i) {
        threadIdx = {i % blockDim.x, i / blockDim.x};
        swapcontext(&scheduler, &fibers[i].context);
        ended += fibers[i].is_done;
    }
    is_done = ended == fibers.size();
    return ended == 0 || is_done;
}

static bool run_block() {
    for (Fiber& fiber : fibers) {
        fiber.is_done = false;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = &scheduler;
        makecontext(&fiber.context, run_fiber, 0);
    }
    for (bool is_done = false; !is_done;)
        if (!run_to_barrier(is_done)) return false;
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

}  // namespace simt

inline void __syncthreads() { simt::wait_for_block(); }

namespace simt {

// Calls read(offer) with what each thread offers, once all threads of the block are here, which is
// more than CUDA asks for.
template <typename Offer, typename Read>
void exchange(Offer own, Read read) {
    static_assert(sizeof own <= sizeof(double));
    std::memcpy(&fibers[thread()].exchanged, &own, sizeof own);
    wait_for_block();
    read([](unsigned other) {
        Offer offer;
        std::memcpy(&offer, &fibers[other].exchanged, sizeof offer);
        return offer;
    });
    wait_for_block();  // a slow thread may still be reading what the next one replaces
}

}  // namespace simt

template <typename Number>
Number __shfl_xor_sync(unsigned, Number own, int distance) {
    Number found;
    simt::exchange(own, [&](auto offer) { found = offer(simt::thread() ^ distance); });
    return found;
}

inline unsigned __ballot_sync(unsigned, int own) {
    unsigned votes = 0;
    simt::exchange(own, [&](auto offer) {
        const unsigned first = simt::thread() / 32 * 32;
        for (unsigned lane = 0; lane < 32; ++lane) votes |= (offer(first + lane) != 0) << lane;
    });
    return votes;
}

inline int __syncthreads_or(int own) {
    int any = 0;
    simt::exchange(own, [&](auto offer) {
        for (unsigned other = 0; other < simt::fibers.size(); ++other) any |= offer(other) != 0;
    });
    return any;
}
