// What a team keeps of its row in the chip's own memory: all columns, or the first ones of a row that
// is too long, so that they are read from the device's memory once.

struct alignas(16) Chunk {
    unsigned words[4];
};
extern __shared__ Chunk on_chip[];

// A row of an input, in the type in which it is stored.  No thread reads what another one kept.
template <typename S>
struct Source {
    const S* items;
    S* kept = nullptr;
    long long count = 0;  // of the columns that are kept: whole packs, or all

    // Keeps columns at an offset, for all teams of the block, of so many bytes a pack.  A thread
    // copies the packs that are its own.
    __device__ void keep(long long wanted, long long bytes_before) {
        if (!wanted) return;
        const long long packs = (wanted + WIDTH - 1) / WIDTH;
        char* const begin = reinterpret_cast<char*>(on_chip) + blockDim.y * packs * bytes_before;
        kept = reinterpret_cast<S*>(begin) + threadIdx.y * packs * WIDTH;
        count = wanted;
        const long long stride = (long long)blockDim.x * WIDTH;
#pragma unroll 4
        for (long long start = (long long)threadIdx.x * WIDTH; start < wanted; start += stride)
            *reinterpret_cast<Stored<S>*>(kept + start) =
                load_stored(items + start, wanted - start);
    }

    // Of a column that is this thread's own, and of a pack that is.
    __device__ T own(long long column) const {
        return widened(column < count ? kept[column] : items[column]);
    }
    __device__ Pack own_pack(long long start, long long left) const {
        if (start >= count) return load(items + start, left);
        return widened(*reinterpret_cast<const Stored<S>*>(kept + start));
    }
};
