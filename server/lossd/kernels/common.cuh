// What every kernel is made of.  The generated prelude defines T (float or double), which is computed
// in; FIRST and SECOND, the types in which the first two inputs are stored, of which FIRST is that of
// the gradient too; the inputs beyond two, PARAMETERS and ARGUMENTS, of which an unset number is NaN.
// NVRTC has neither <math.h> nor <stdint.h>.

// Elements that a thread takes at once: 128 bits of the first input.
constexpr int WIDTH = 16 / sizeof(FIRST);

// The smallest number that has all its digits, and the largest that is finite.
constexpr T SMALLEST = T(sizeof(T) == 4 ? 1.1754943508222875e-38 : 2.2250738585072014e-308);
constexpr T LARGEST = T(sizeof(T) == 4 ? 3.4028234663852886e38 : 1.7976931348623157e308);

// WIDTH numbers as they are stored, which are loaded in as few instructions as can be, and widened.
template <typename S>
struct alignas(sizeof(S) * WIDTH < 16 ? sizeof(S) * WIDTH : 16) Stored {
    S items[WIDTH];
};
struct Pack {
    T items[WIDTH];
};

// Numbers of 16 bits and those of T; all that is sent is rounded once, to the nearest.
__device__ inline T widened(float number) { return T(number); }
__device__ inline T widened(double number) { return T(number); }
__device__ inline void round_to(float& place, T number) { place = float(number); }
__device__ inline void round_to(double& place, T number) { place = double(number); }
#ifdef HAS_HALF
__device__ inline T widened(__half number) { return T(__half2float(number)); }
__device__ inline void round_to(__half& place, T number) {
    place = sizeof(T) == 4 ? __float2half_rn(float(number)) : __double2half(double(number));
}
#endif
#ifdef HAS_BFLOAT16
__device__ inline T widened(__nv_bfloat16 number) { return T(__bfloat162float(number)); }
__device__ inline void round_to(__nv_bfloat16& place, T number) {
    place = sizeof(T) == 4 ? __float2bfloat16_rn(float(number)) : __double2bfloat16(double(number));
}
#endif

template <typename S>
__device__ inline Pack widened(const Stored<S>& stored) {
    Pack pack;
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) pack.items[i] = widened(stored.items[i]);
    return pack;
}

// A slope as it is sent.  `taint` remembers whether one was not finite: it is 0, or NaN from then on.
__device__ inline FIRST sent(T slope, T& taint) {
    FIRST rounded;
    round_to(rounded, slope);
    taint += widened(rounded) * T(0);
    return rounded;
}

// One number for each column of a row; 1 where the request gave none.
struct Weights {
    const T* items;
    __device__ T operator[](long long column) const { return items ? items[column] : T(1); }
};

// A share of a cost: a share of 0 takes nothing of it, also of infinity and NaN.
__device__ inline T weighed(T share, T cost) { return share == 0 ? T(0) : share * cost; }

template <typename S>
__device__ inline bool is_aligned(const S* address) {
    return reinterpret_cast<unsigned long long>(address) % alignof(Stored<S>) == 0;
}

// The next elements of an array that has `left` more.  Which elements a thread owns never depends
// on alignment, only the instruction that loads them does: else bits would depend on a row's place.
template <typename S>
__device__ inline Stored<S> load_stored(const S* source, long long left) {
    if (left >= WIDTH && is_aligned(source)) return *reinterpret_cast<const Stored<S>*>(source);
    Stored<S> stored;
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) stored.items[i] = i < left ? source[i] : S(0.f);
    return stored;
}

template <typename S>
__device__ inline Pack load(const S* source, long long left) {
    return widened(load_stored(source, left));
}

template <typename S>
__device__ inline void store(S* place, const Stored<S>& stored, long long left) {
    if (left >= WIDTH && is_aligned(place)) {
        *reinterpret_cast<Stored<S>*>(place) = stored;
        return;
    }
#pragma unroll
    for (int i = 0; i < WIDTH; ++i)
        if (i < left) place[i] = stored.items[i];
}

__device__ inline int elements_of(long long left) { return left < WIDTH ? int(left) : WIDTH; }

constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr unsigned WARP = 32;
constexpr int MOST_THREADS = 512;

// A row has a team of threads, a power of two by the length of the row: all threads of a block, or
// those with one threadIdx.y, where several teams share a warp.
//
// Calls visit(row, is_absent) for each row of this team.  All threads of a block take the same number
// of turns, so a team beyond the last row is given that one, and writes nothing.
template <typename Visit>
__device__ inline void each_row(long long rows, Visit visit) {
    const long long stride = (long long)gridDim.x * blockDim.y;
    for (long long first = (long long)blockIdx.x * blockDim.y; first < rows; first += stride) {
        const long long row = first + threadIdx.y;
        visit(row < rows ? row : rows - 1, row >= rows);
    }
}

// Calls visit(first column, columns from there on) for each pack that this thread owns of a row.
template <typename Visit>
__device__ inline void each_pack(long long columns, Visit visit) {
    const long long stride = (long long)blockDim.x * WIDTH;
    for (long long start = (long long)threadIdx.x * WIDTH; start < columns; start += stride)
        visit(start, columns - start);
}

__device__ inline T exchanged(T own, int distance) {
    return __shfl_xor_sync(ALL_LANES, own, distance);
}

// What all threads of a team have together, the same bits in every thread: `join` must give the same
// of two whichever comes first.  The tree is fixed by the size of the team.
template <typename Value, typename Join>
__device__ inline Value over_team(Value own, Join join) {
    __shared__ Value parts[MOST_THREADS / WARP];
    const int lanes = blockDim.x < WARP ? blockDim.x : WARP;
    for (int distance = lanes / 2; distance > 0; distance /= 2)
        own = join(own, exchanged(own, distance));
    if (blockDim.x <= WARP) return own;
    const int warps = blockDim.x / WARP;
    __syncthreads();  // the slowest warp may still be reading the parts of the previous time
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = own;
    __syncthreads();  // every part must be there before one is read
    own = parts[threadIdx.x % warps];
    for (int distance = warps / 2; distance > 0; distance /= 2)
        own = join(own, exchanged(own, distance));
    return own;
}

struct Sum {
    __device__ T operator()(T left, T right) const { return left + right; }
};

__device__ inline T sum_over_team(T own) { return over_team(own, Sum{}); }

// Whether something holds for any thread of the team.
__device__ inline bool any_of_team(bool own) {
    if (blockDim.x > WARP) return __syncthreads_or(own);
    const unsigned votes = __ballot_sync(ALL_LANES, own);
    if (blockDim.x == WARP) return votes != 0;
    const unsigned lane = (threadIdx.y * blockDim.x + threadIdx.x) % WARP;
    return (votes >> (lane - threadIdx.x)) & ((1u << blockDim.x) - 1);
}

__device__ inline bool is_finite(T number) { return number - number == 0; }

// Where the results of a row go; `gradient` is null where none is wanted.
struct Results {
    T* value;
    FIRST* gradient;
    unsigned char* nonfinite;
    bool is_absent;  // the row is another team's: nothing is written

    // All threads of a block come here together.
    __device__ void write(T found, T taint) const {
        const bool is_tainted = any_of_team(taint != 0);
        if (threadIdx.x != 0 || is_absent) return;
        *value = found;
        *nonfinite = is_tainted || !is_finite(found);
    }
    // What a silent row leaves for a gradient: exact zeros.
    __device__ void silence(long long columns) const {
        if (!gradient || is_absent) return;
        each_pack(columns, [&](long long start, long long left) {
            store(gradient + start, Stored<FIRST>{}, left);
        });
    }
};
