// The ground that every kernel stands on.  Everything is static: objects compiled for several instruction
// sets are linked into one library, and none may run code of another.

#include <stdint.h>
#include <stdlib.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define INLINED __attribute__((always_inline))
#define METHOD inline __attribute__((always_inline))
#define OUTLINE static __attribute__((noinline))
#ifdef __clang__
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#define UNROLLED _Pragma("GCC unroll 64")
#endif

// Sums have this many lanes on every machine, whatever its vectors are.
constexpr int GROUP = 16;
// Lines of a cache; a vector that lies in two of them is read and written twice.
constexpr int LINE_BYTES = 64;
#define ON_LINES alignas(LINE_BYTES)
// How many numbers an array has that lies among others: a line more than it needs.  Arrays that lay whole
// pages apart took up to 2.4 times as long, in some places of memory and not in others: presumably the
// processor lets a read wait for a write whose address ends alike.
template <typename Number>
constexpr int64_t spaced(int64_t count) { return count + LINE_BYTES / int64_t(sizeof(Number)); }
// Elements that are computed between two looks at where they come from and go to.
constexpr int BLOCK = 512;

constexpr int MOST_INPUTS = 4, MOST_VECTORS = 4;

INLINE int whole_groups(int count) { return (count + GROUP - 1) / GROUP * GROUP; }

// The name of a kernel for one instruction set.
#define JOINED(left, right) left##right
#define JOINED_VALUES(left, right) JOINED(left, right)
#define ENTRY(name) JOINED_VALUES(lossd_host_, JOINED_VALUES(VARIANT, _##name))
#define EXPORT extern "C" __attribute__((visibility("default")))

// The widest vectors that the machine has.
#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif
