// What every kernel is made of.  The generated prelude defines T (float or double), the inputs beyond
// two, PARAMETERS and ARGUMENTS; NVRTC has neither <math.h> nor <stdint.h>.  Numbers among the
// parameters are doubles, of which an unset one is NaN: 1 less one that is nearly 1 would be 0 in
// float.  A text makes a T of what it computes with for every element.

// Elements of a 128-bit load.
constexpr int WIDTH = 16 / sizeof(T);

// The smallest number that has all its digits.
constexpr T SMALLEST = T(sizeof(T) == 4 ? 1.1754943508222875e-38 : 2.2250738585072014e-308);

struct alignas(16) Pack {
    T items[WIDTH];
};

// One number for each column of a row; 1 where the request gave none.
struct Weights {
    const T* items;
    __device__ T operator[](long long column) const { return items ? items[column] : T(1); }
};

// A share of a cost: a share of 0 takes nothing of it, also of infinity and NaN.
template <typename Number>
__device__ inline Number weighed(Number share, Number cost) {
    return share == 0 ? Number(0) : share * cost;
}

__device__ inline bool is_aligned(const void* address) {
    return reinterpret_cast<unsigned long long>(address) % sizeof(Pack) == 0;
}

// The next elements of an array that has `left` more.  Which elements a thread owns never depends
// on alignment, only the instruction that loads them does: else bits would depend on a row's place.
__device__ inline Pack load(const T* source, long long left) {
    if (left >= WIDTH && is_aligned(source)) return *reinterpret_cast<const Pack*>(source);
    Pack pack;
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) pack.items[i] = i < left ? source[i] : T(0);
    return pack;
}

__device__ inline void store(T* place, const Pack& pack, long long left) {
    if (left >= WIDTH && is_aligned(place)) {
        *reinterpret_cast<Pack*>(place) = pack;
        return;
    }
#pragma unroll
    for (int i = 0; i < WIDTH; ++i)
        if (i < left) place[i] = pack.items[i];
}

// Calls visit(first column, columns from there on) for each pack that this thread owns of a row.
template <typename Visit>
__device__ inline void each_pack(long long columns, Visit visit) {
    const long long stride = (long long)blockDim.x * WIDTH;
    for (long long start = (long long)threadIdx.x * WIDTH; start < columns; start += stride)
        visit(start, columns - start);
}

constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int WARP = 32;
constexpr int MOST_THREADS = 512;

// The sum over the threads of a block, the same bits in every thread.  The tree is fixed by the
// number of threads, which is fixed by the length of a row.
template <typename Number>
__device__ inline Number sum_over_block(Number own) {
    __shared__ Number parts[MOST_THREADS / WARP];
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        own += __shfl_xor_sync(ALL_LANES, own, distance);
    __syncthreads();  // the slowest warp may still be reading the parts of the previous sum
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = own;
    __syncthreads();  // every part must be there before one is read
    Number total = parts[0];
    for (unsigned warp = 1; warp < blockDim.x / WARP; ++warp) total += parts[warp];
    return total;
}

// What a silent row leaves: exact zeros, without a look at its inputs.
__device__ inline void silence(T* value, T* gradient, long long columns) {
    if (threadIdx.x == 0) *value = T(0);
    if (!gradient) return;
    each_pack(columns, [&](long long start, long long left) {
        store(gradient + start, Pack{}, left);
    });
}
