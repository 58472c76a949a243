// How the rows of a product are cut into blocks, and the work on these shared out among threads.

#pragma once

#include <cstdint>
#include <type_traits>

namespace {

// Blocks of at most `most` rows, as even as can be.
struct Blocks {
    int64_t rows, count;

    Blocks(int64_t rows, int64_t most) : rows(rows), count((rows + most - 1) / most) {}
    int64_t first(int64_t block) const { return rows * block / count; }
    int64_t of(int64_t row) const { return ((row + 1) * count - 1) / rows; }
};

// Calls work(first row, rows, group) for this thread's even share of all blocks, for each group of outputs; weights
// outermost.
template <typename Work>
inline void shared_out(const Blocks& blocks, int64_t groups, int thread, int threads, Work work) {
    int64_t units = blocks.count * groups, end = units * (thread + 1) / threads;
    for (int64_t unit = units * thread / threads; unit < end; unit++) {
        int64_t block = unit % blocks.count, first = blocks.first(block);
        work(first, blocks.first(block + 1) - first, unit / blocks.count);
    }
}

// Calls work(rows) with the number of rows, R at most, as a constant.
template <int R, typename Work>
inline void with_constant(int64_t rows, Work work) {
    if (rows == R) return work(std::integral_constant<int, R>());
    if constexpr (R > 1) with_constant<R - 1>(rows, work);
}

}  // namespace
