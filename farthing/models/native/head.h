// The end of a decoding step: logits in float32, and the token that is drawn from them.

#pragma once

#include "blocks.h"
#include "numbers.h"

namespace {

// One token by inverting the cumulative distribution at `uniform` in [0, 1), and its log-probability. `mass` is scratch
// of `size`.
inline void draw_row(const float* logits, double uniform, int64_t size, float* mass, int64_t& token, float& logprob) {
    float most = logits[0];
    double sum = 0.0;
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < size; i++) most = std::max(most, logits[i]);
#pragma omp simd
    for (int64_t i = 0; i < size; i++) mass[i] = exponential(logits[i] - most);
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < size; i++) sum += mass[i];
    double threshold = uniform * sum, below = 0.0;
    for (token = 0; token < size - 1; token++) {
        below += mass[token];
        if (below > threshold) break;
    }
    logprob = logits[token] - most - static_cast<float>(std::log(sum));
}

constexpr int SIDE = 4, WIDE = 16;  // SIDE rows and SIDE outputs have 16 sums; WIDE outputs are read per block of rows

// One register of inputs, and what one of states and one of weights add to a register of sums.
inline Lanes piece(const float* x, int64_t) { return load(x); }

inline Lanes met(Lanes sums, Lanes x, Lanes weights) { return sums + x * weights; }

#ifdef __AVX512BF16__
inline __m512i piece(const bf16* x, int64_t here) { return pairs(x, here); }

inline Lanes met(Lanes sums, __m512i x, __m512i weights) {
    return (Lanes)_mm512_dpbf16_ps((__m512)sums, (__m512bh)x, (__m512bh)weights);
}
#endif

// out [R, count] = x [R, inputs] W^T for up to SIDE outputs from the first on: sums over lanes, added up at the end.
template <int R, typename T>
inline void wide_block(const T* x, const T* weight, int64_t inputs, int64_t count, float* out, int64_t stride) {
    constexpr int STEP = 64 / sizeof(T);
    using Piece = decltype(piece(x, 0));
    const T* rows[SIDE];
    for (int s = 0; s < SIDE; s++) rows[s] = weight + std::min<int64_t>(s, count - 1) * inputs;
    Lanes sums[SIDE * SIDE] = {};
    for (int64_t i = 0; i < inputs; i += STEP) {
        Piece weights[SIDE];
#pragma GCC unroll 4
        for (int s = 0; s < SIDE; s++) weights[s] = piece(rows[s] + i, inputs - i);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            Piece x_r = piece(x + r * inputs + i, inputs - i);
#pragma GCC unroll 4
            for (int s = 0; s < SIDE; s++) sums[r * SIDE + s] = met(sums[r * SIDE + s], x_r, weights[s]);
        }
    }
    Lanes found = lane_sums(sums);
    for (int r = 0; r < R; r++)
        std::memcpy(out + r * stride, reinterpret_cast<const float*>(&found) + r * SIDE, count * sizeof(float));
}

// This thread's share of out [rows, outputs] = x [rows, inputs] W^T, both in float32 or in bfloat16; inputs in whole
// lanes. Every sum is taken in float32 and in one order, whatever stands beside it.
template <typename T>
inline void multiply_wide(const T* x, const T* weight, int64_t inputs, int64_t outputs, float* out, int64_t rows,
                          int thread, int threads) {
    int64_t groups = (outputs + WIDE - 1) / WIDE;
    shared_out(Blocks(rows, SIDE), groups, thread, threads, [&](int64_t first, int64_t count, int64_t group) {
        const T* x_b = x + first * inputs;
        int64_t end = std::min((group + 1) * WIDE, outputs);
        for (int64_t o = group * WIDE; o < end; o += SIDE)
            with_constant<SIDE>(count, [&](auto R) {
                float* out_b = out + first * outputs + o;
                wide_block<R>(x_b, weight + o * inputs, inputs, std::min<int64_t>(SIDE, end - o), out_b, outputs);
            });
    });
}

}  // namespace
