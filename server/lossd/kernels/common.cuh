// The parts that every kernel is made of.  The generated prelude defines T, the type of the
// computation, float or double; FIRST and SECOND, the types in which the first two inputs are
// stored, FIRST also that of the gradient; the inputs beyond two, PARAMETERS and ARGUMENTS.  NVRTC
// has neither <math.h> nor <stdint.h>.  Parameters that are numbers are doubles, NaN if unset: in
// float, one minus a number near 1 would be 0.  A text converts to T what it uses for every
// element.

// Elements that a thread takes at once: 128 bits of the first input.
constexpr int WIDTH = 16 / sizeof(FIRST);

// The smallest number that has all its digits, and the largest that is finite.
constexpr T SMALLEST = T(sizeof(T) == 4 ? 1.1754943508222875e-38 : 2.2250738585072014e-308);
template <typename Number>
constexpr Number LARGEST =
    Number(sizeof(Number) == 4 ? 3.4028234663852886e38 : 1.7976931348623157e308);

// WIDTH numbers as they are stored, loaded in as few instructions as possible, and widened.
template <typename S>
struct alignas(sizeof(S) * WIDTH < 16 ? sizeof(S) * WIDTH : 16) Stored {
    S items[WIDTH];
};
struct Pack {
    T items[WIDTH];
};

// Converts between numbers of 16 bits and T; everything that is stored is rounded once, to nearest.
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

// A derivative as it is stored.  `taint` remembers whether one was not finite: it is 0, and NaN
// from then on.
__device__ inline FIRST sent(T slope, T& taint) {
    FIRST rounded;
    round_to(rounded, slope);
    taint += widened(rounded) * T(0);
    return rounded;
}

// The bits of a number as an integer: they have the order of the numbers, also of those that a
// comparison may take for 0.
__device__ inline int order_of(float number) {
    union {
        float number;
        int bits;
    } found{number};
    return found.bits >= 0 ? found.bits : -(found.bits & 0x7fffffff);
}
__device__ inline long long order_of(double number) {
    union {
        double number;
        long long bits;
    } found{number};
    return found.bits >= 0 ? found.bits : -(found.bits & 0x7fffffffffffffff);
}
DOMAINS

// The flags of a row.
constexpr unsigned char NONFINITE = 1, OUTSIDE = 2;

// One number for each column of a row; 1 where the request gave none.
struct Weights {
    const T* items;
    __device__ T operator[](long long column) const { return items ? items[column] : T(1); }
};

// One of two numbers, both of which are computed: on the host a loop with branches is not
// vectorised.
template <typename Number>
__device__ inline Number pick(bool is_first, Number one, Number other) {
    return is_first ? one : other;
}

// exp(x) where the result is a normal number, and log(1 + x) from 0 to 1, which take fewer steps on the host.
__device__ inline T exp_within(T x) { return exp(x); }
__device__ inline T log1p_of_share(T x) { return T(log1p(x)); }

// A share of a cost: a share of 0 gives 0, even of infinity and NaN.
template <typename Share, typename Cost>
__device__ inline auto weighed(Share share, Cost cost) {
    return share == 0 ? decltype(share * cost)(0) : share * cost;
}

template <typename S>
__device__ inline bool is_aligned(const S* address) {
    return reinterpret_cast<unsigned long long>(address) % alignof(Stored<S>) == 0;
}

// The next elements of an array that has `left` more.  Which elements a thread owns never depends
// on alignment, only the instruction that loads them does: otherwise the bits of a result would
// depend on where its row lies.
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

// Which elements of a pack are in the row: all of them except at its end, so that full packs need
// no check.
struct All {
    __device__ bool has(int) const { return true; }
};
struct Some {
    int count;
    __device__ bool has(int i) const { return i < count; }
};

constexpr unsigned WARP = 32;
constexpr int MOST_THREADS = 512;

// A row has a team of threads, a power of two that the length of the row decides: all threads of a
// block, or those with the same threadIdx.y, where several teams share a warp.  Teams do not wait
// for each other.
//
// Calls visit(row) for each row of this team.
template <typename Visit>
__device__ inline void each_row(long long rows, Visit visit) {
    const long long stride = (long long)gridDim.x * blockDim.y;
    for (long long row = (long long)blockIdx.x * blockDim.y + threadIdx.y; row < rows; row += stride)
        visit(row);
}

// The lanes of a warp that belong to this team.
__device__ inline unsigned lanes_of_team() {
    if (blockDim.x >= WARP) return 0xffffffffu;
    const unsigned lane = (threadIdx.y * blockDim.x + threadIdx.x) % WARP;
    return ((1u << blockDim.x) - 1) << (lane - threadIdx.x);
}

// Calls visit(first column, columns from there on) for each pack that this thread owns of a row.
template <typename Visit>
__device__ inline void each_pack(long long columns, Visit visit) {
    const long long stride = (long long)blockDim.x * WIDTH;
    for (long long start = (long long)threadIdx.x * WIDTH; start < columns; start += stride)
        visit(start, columns - start);
}

// The number of another thread of the team.
__device__ inline float exchanged(float own, int distance, unsigned lanes) {
    return __shfl_xor_sync(lanes, own, distance);
}
__device__ inline double exchanged(double own, int distance, unsigned lanes) {
    return __shfl_xor_sync(lanes, own, distance);
}

// The numbers of all threads of a team joined, with the same bits in every thread: `join` must give
// the same result in either order.  The size of the team fixes the tree.
template <typename Value, typename Join>
__device__ inline Value over_team(Value own, Join join) {
    __shared__ Value parts[MOST_THREADS / WARP];
    const unsigned lanes = lanes_of_team();
    for (int distance = (blockDim.x < WARP ? blockDim.x : WARP) / 2; distance > 0; distance /= 2)
        own = join(own, exchanged(own, distance, lanes));
    if (blockDim.x <= WARP) return own;
    const int warps = blockDim.x / WARP;
    __syncthreads();  // the slowest warp may still be reading the parts of the previous time
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = own;
    __syncthreads();  // every part must be there before one is read
    own = parts[threadIdx.x % warps];
    for (int distance = warps / 2; distance > 0; distance /= 2)
        own = join(own, exchanged(own, distance, lanes));
    return own;
}

struct Sum {
    template <typename Number>
    __device__ Number operator()(Number left, Number right) const {
        return left + right;
    }
};

template <typename Number>
__device__ inline Number sum_over_team(Number own) {
    return over_team(own, Sum{});
}

// Whether something holds for any thread of the team.
__device__ inline bool any_of_team(bool own) {
    return blockDim.x > WARP ? __syncthreads_or(own) : __ballot_sync(lanes_of_team(), own);
}

__device__ inline bool is_finite(T number) { return number - number == 0; }

// Where the results of a row are written; `gradient` is null if none is wanted.
struct Results {
    T* value;
    FIRST* gradient;
    unsigned char* nonfinite;

    // `outside` tells whether this thread found a number outside its domain.
    __device__ void write(T found, T taint, bool outside = false) const {
        const bool is_tainted = any_of_team(taint != 0);
        const bool is_outside = CHECKS && any_of_team(outside);
        if (threadIdx.x != 0) return;
        *value = found;
        *nonfinite = (is_tainted || !is_finite(found) ? NONFINITE : 0) | (is_outside ? OUTSIDE : 0);
    }
    // The results of a silent row: exact zeros, without reading its inputs.
    __device__ void silence(long long columns) const {
        if (threadIdx.x == 0) {
            *value = T(0);
            *nonfinite = 0;
        }
        if (!gradient) return;
        each_pack(columns, [&](long long start, long long left) {
            store(gradient + start, Stored<FIRST>{}, left);
        });
    }
};
