// y = x W^T + b in bfloat16 for a handful to some thousand rows, on processors with dot products of bfloat16 pairs.
//
// A weight [outputs, inputs] lies in strips of 16 outputs: strip s holds, for each pair of inputs, the 16 pairs of its
// outputs side by side, one register. Every output sums its pairs of inputs from the first to the last in float32,
// whatever stands beside it: a row's numbers do not depend on the other rows, nor on who computes them.

#pragma once

#include "blocks.h"
#include "numbers.h"

#ifdef __AVX512BF16__
#include <immintrin.h>

namespace {

constexpr int ROWS = 6, STRIPS = 4;  // 24 sums, 4 pieces of weights and a pair of inputs: all but 3 of 32 registers

struct Product {
    const bf16* strips;
    const bf16* bias;
    int64_t inputs, outputs;

    const bf16* strip(int64_t s) const { return strips + s * inputs * LANES; }
};

inline __m512 dot(__m512 sum, const bf16* x, __m512i weights) {
    int32_t pair;
    std::memcpy(&pair, x, sizeof pair);
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)weights);
}

template <int R, int S>
inline void multiply(const bf16* x, int64_t stride, const bf16* const* strips, int64_t inputs, __m512 (&sums)[R][S]) {
    const bf16* rows[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        rows[r] = x + r * stride;
#pragma GCC unroll 4
        for (int s = 0; s < S; s++) sums[r][s] = _mm512_setzero_ps();
    }
    for (int64_t i = 0; i < inputs; i += 2) {
        __m512i weights[S];
#pragma GCC unroll 4
        for (int s = 0; s < S; s++) weights[s] = _mm512_loadu_si512(strips[s] + i * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
#pragma GCC unroll 4
            for (int s = 0; s < S; s++) sums[r][s] = dot(sums[r][s], rows[r] + i, weights[s]);
    }
}

inline void store(__m512 sum, bf16* out) {
    _mm256_storeu_si256((__m256i*)out, (__m256i)_mm512_cvtneps_pbh(sum));
}

template <int R, int S>
void block(const bf16* x, int64_t stride, const Product& product, int64_t strip, bf16* out, int64_t out_stride) {
    const bf16* strips[S];
    for (int s = 0; s < S; s++) strips[s] = product.strip(strip + s);
    __m512 sums[R][S];
    multiply<R, S>(x, stride, strips, product.inputs, sums);
#pragma GCC unroll 4
    for (int s = 0; s < S; s++) {
        int64_t column = (strip + s) * LANES;
        __m512 bias = product.bias ? (__m512)load(product.bias + column) : _mm512_setzero_ps();
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) store(product.bias ? sums[r][s] + bias : sums[r][s], out + r * out_stride + column);
    }
}

// silu(gate) * up of S / 2 strips of each: the gates are the first half of the product's outputs.
template <int R, int S>
void gated_block(const bf16* x, int64_t stride, const Product& product, int64_t strip, bf16* out, int64_t out_stride) {
    const bf16* strips[S];
    for (int s = 0; s < S / 2; s++) {
        strips[s] = product.strip(strip + s);
        strips[S / 2 + s] = product.strip(product.outputs / LANES / 2 + strip + s);
    }
    __m512 sums[R][S];
    multiply<R, S>(x, stride, strips, product.inputs, sums);
    for (int r = 0; r < R; r++)
        for (int s = 0; s < S / 2; s++) {
            bf16 pair[2][LANES];
            store(sums[r][s], pair[0]);
            store(sums[r][S / 2 + s], pair[1]);
            gate_row(pair[0], pair[1], out + r * out_stride + (strip + s) * LANES, LANES);
        }
}

// This thread's share of out = x W^T + b: x [rows, inputs], out [rows, outputs]; outputs in whole strips.
inline void multiply(const bf16* x, int64_t stride, const Product& product, bf16* out, int64_t out_stride, int64_t rows,
                     int thread, int threads) {
    int64_t strips = product.outputs / LANES, groups = (strips + STRIPS - 1) / STRIPS;
    shared_out(Blocks(rows, ROWS), groups, thread, threads, [&](int64_t first, int64_t count, int64_t group) {
        const bf16* x_b = x + first * stride;
        bf16* out_b = out + first * out_stride;
        int64_t strip = group * STRIPS, end = std::min(strip + STRIPS, strips);
        with_constant<ROWS>(count, [&](auto R) {
            if (end - strip == STRIPS) return block<R, STRIPS>(x_b, stride, product, strip, out_b, out_stride);
            for (int64_t s = strip; s < end; s++) block<R, 1>(x_b, stride, product, s, out_b, out_stride);
        });
    });
}

// This thread's share of out = silu(gate) * up, from the product of both: out [rows, outputs / 2].
inline void multiply_gated(const bf16* x, int64_t stride, const Product& product, bf16* out, int64_t out_stride,
                           int64_t rows, int thread, int threads) {
    int64_t pairs = product.outputs / LANES / 2, groups = (pairs + 1) / 2;
    shared_out(Blocks(rows, ROWS), groups, thread, threads, [&](int64_t first, int64_t count, int64_t group) {
        const bf16* x_b = x + first * stride;
        bf16* out_b = out + first * out_stride;
        with_constant<ROWS>(count, [&](auto R) {
            bool is_whole = pairs - 2 * group >= 2;
            auto work = is_whole ? gated_block<R, STRIPS> : gated_block<R, STRIPS / 2>;
            work(x_b, stride, product, 2 * group, out_b, out_stride);
        });
    });
}

}  // namespace
#endif
