// How the products of a few to some thousand rows are cut into blocks, and these shared out among threads.

#pragma once

#include <cstdint>

namespace {

constexpr int ROWS = 6, STRIPS = 4;  // 24 sums, 4 pieces of weights and one of inputs: all but 3 of 32 registers

// Calls work(first row, rows, first strip) for this thread's even share of all blocks, weights outermost.
template <typename Work>
inline void shared_out(int64_t rows, int64_t groups, int thread, int threads, Work work) {
    int64_t blocks = (rows + ROWS - 1) / ROWS, units = blocks * groups;
    int64_t end = units * (thread + 1) / threads;
    for (int64_t unit = units * thread / threads; unit < end; unit++) {
        int64_t block = unit % blocks, first = rows * block / blocks;
        work(first, rows * (block + 1) / blocks - first, unit / blocks);
    }
}

}  // namespace
