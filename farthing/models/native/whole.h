// y = x W^T + b with weights and rows of 8 bits, on processors with dot products of such numbers (avx512_vnni).
//
//     y = (sum of x_i w_i) s_x s_w + b        x and w whole numbers in [-127, 127], s_x of the row, s_w of the output
//
// A weight [outputs, inputs] lies in strips of 16 outputs: strip s holds, for each four inputs, the fours of its outputs
// side by side, one register; zeros fill up the last strip, and the inputs to whole pieces of 64. The processor multiplies
// unsigned numbers with signed ones, so rows are shifted by 128, and every sum begins with what that adds to it taken off.
// Sums of whole numbers are exact: a row's numbers depend on that row alone, and are those of the plain twin in `whole.py`.

#pragma once

#include "blocks.h"
#include "numbers.h"

#ifdef __AVX512VNNI__
#include <immintrin.h>

#include <cfloat>

namespace {

constexpr int64_t PIECE = 64, AHEAD = 4096;
constexpr int WHOLE_ROWS = 16;

// `starts`, `scales` and `bias` are as long as the strips; there may be no bias.
struct Whole {
    const int8_t* weights;
    const int32_t* starts;
    const float *scales, *bias;
    int64_t inputs, outputs;

    int64_t width() const { return (inputs + PIECE - 1) / PIECE * PIECE; }
    int64_t strips() const { return (outputs + LANES - 1) / LANES; }
    const int8_t* strip(int64_t s) const { return weights + s * width() * LANES; }
};

// Rows as whole numbers shifted by 128, and the scale of each. A block of rows holds the first 64 numbers of each of its
// rows, then the next 64 of each, so that where they are is known when it is compiled.
struct WholeRows {
    uint8_t* numbers;
    float* scales;
    Blocks blocks;
};

// The first `count` of 16 lanes.
inline __mmask16 lanes(int64_t count) { return count >= LANES ? 0xffff : (1u << count) - 1; }

inline __m512 load(const float* x, __mmask16 here) { return _mm512_maskz_loadu_ps(here, x); }

inline __m512 load(const bf16* x, __mmask16 here) {
    return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(here, x)), 16);
}

inline void store(__m512 y, float* out, __mmask16 here) { _mm512_mask_storeu_ps(out, here, y); }

inline void store(__m512 y, bf16* out, __mmask16 here) {
    __m512i bits = (__m512i)y, odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    bits = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    __mmask16 none = _mm512_cmp_ps_mask(y, y, _CMP_UNORD_Q);
    _mm512_mask_cvtepi32_storeu_epi16(out, here, _mm512_mask_mov_epi32(bits, none, _mm512_set1_epi32(0x7fc0)));
}

// Row n of `rows` from x [inputs]: max |x| / 127 is its scale, and what is halfway between two numbers becomes the even
// one. The largest is sought among bits, where what is not a number is larger than all that are.
template <typename T>
inline void round_row(const T* x, const Whole& product, const WholeRows& rows, int64_t n) {
    int64_t inputs = product.inputs, block = rows.blocks.of(n), first = rows.blocks.first(block);
    int64_t step = (rows.blocks.first(block + 1) - first) * PIECE;
    uint8_t* out = rows.numbers + first * product.width() + (n - first) * PIECE;
    __m512i most = _mm512_setzero_si512();
    for (int64_t i = 0; i < inputs; i += LANES) {
        __m512i bits = (__m512i)load(x + i, lanes(inputs - i));
        most = _mm512_max_epi32(most, _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff)));
    }
    int32_t bits = _mm512_reduce_max_epi32(most);
    float largest;
    std::memcpy(&largest, &bits, sizeof largest);
    float scale = std::max(largest, FLT_MIN) / 127.0f;
    rows.scales[n] = scale;
    for (int64_t i = 0; i < inputs; i += LANES) {
        __m512 parts = _mm512_div_ps(load(x + i, lanes(inputs - i)), _mm512_set1_ps(scale));
        __m512i shifted = _mm512_add_epi32(_mm512_cvtps_epi32(parts), _mm512_set1_epi32(128));
        _mm_storeu_si128((__m128i*)(out + i / PIECE * step + i % PIECE), _mm512_cvtepi32_epi8(shifted));
    }
}

// As an instruction and not as `_mm512_dpbusd_epi32`, with which gcc 12 copies every sum about and keeps some in memory.
inline __m512i dot(__m512i sum, const uint8_t* x, __m512i weights) {
    int32_t four;
    std::memcpy(&four, x, sizeof four);
    __m512i fours = _mm512_set1_epi32(four);
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(fours), "v"(weights));
    return sum;
}

// The sums of R rows with the 16 outputs of a strip, whose weights lie in the order in which they are read, behind them the
// next strip's. Few rows have several sums each, which do not wait for one another; many take longer than the memory
// does, if it is asked ahead of time. Fewer rows by more strips would read weights more often.
template <int R>
inline void multiply(const uint8_t* x, const Whole& product, int64_t strip, __m512i (&sums)[R]) {
    constexpr int CHAINS = R == 1 ? 4 : R < 4 ? 2 : 1;
    const int8_t* weights = product.strip(strip);
    __m512i parts[R][CHAINS] = {};
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) parts[r][0] = _mm512_loadu_si512(product.starts + strip * LANES);
    for (int64_t left = product.width(); left > 0; left -= PIECE, x += R * PIECE)
        for (int i = 0; i < PIECE; i += 4 * CHAINS)
#pragma GCC unroll 4
            for (int c = 0; c < CHAINS; c++, weights += 4 * LANES) {
                __m512i fours = _mm512_loadu_si512(weights);
                if (R >= 8) __builtin_prefetch(weights + AHEAD, 0, 2);
#pragma GCC unroll 16
                for (int r = 0; r < R; r++) parts[r][c] = dot(parts[r][c], x + r * PIECE + i + 4 * c, fours);
            }
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
        sums[r] = parts[r][0];
#pragma GCC unroll 4
        for (int c = 1; c < CHAINS; c++) sums[r] = _mm512_add_epi32(sums[r], parts[r][c]);
    }
}

// What the sums of one strip stand for. The bias is added in a rounding of its own, asked for by name: a compiler may merge
// addition and multiplication into one, and the plain twin has two.
inline __m512 scaled(__m512i sums, float row, const Whole& product, int64_t strip) {
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(row));
    y = _mm512_mul_ps(y, _mm512_loadu_ps(product.scales + strip * LANES));
    if (!product.bias) return y;
    __m512 bias = _mm512_loadu_ps(product.bias + strip * LANES);
    return _mm512_add_round_ps(y, bias, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

template <int R, typename T>
void block(const uint8_t* x, const float* scales, const Whole& product, int64_t strip, T* out, int64_t stride) {
    __m512i sums[R];
    multiply<R>(x, product, strip, sums);
    __mmask16 here = lanes(product.outputs - strip * LANES);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) store(scaled(sums[r], scales[r], product, strip), out + r * stride, here);
}

// This thread's share of out = x W^T + b: out [rows, outputs].
template <typename T>
inline void multiply(const WholeRows& x, const Whole& product, T* out, int thread, int threads) {
    int64_t stride = product.outputs;
    shared_out(x.blocks, product.strips(), thread, threads, [&](int64_t first, int64_t count, int64_t strip) {
        const uint8_t* x_b = x.numbers + first * product.width();
        T* out_b = out + first * stride + strip * LANES;
        with_constant<WHOLE_ROWS>(count, [&](auto R) { block<R>(x_b, x.scales + first, product, strip, out_b, stride); });
    });
}

// This thread's share of out = silu(gate) * up, from the product of both, the gates first, in whole strips: out
// [rows, outputs / 2].
inline void multiply_gated(const WholeRows& x, const Whole& product, bf16* out, int thread, int threads) {
    int64_t pairs = product.strips() / 2, stride = product.outputs / 2;
    shared_out(x.blocks, pairs, thread, threads, [&](int64_t first, int64_t count, int64_t strip) {
        const uint8_t* x_b = x.numbers + first * product.width();
        bf16 gates[WHOLE_ROWS * LANES], ups[WHOLE_ROWS * LANES];
        with_constant<WHOLE_ROWS>(count, [&](auto R) {
            block<R>(x_b, x.scales + first, product, strip, gates, LANES);
            block<R>(x_b, x.scales + first, product, pairs + strip, ups, LANES);
        });
        for (int64_t r = 0; r < count; r++)
            gate_row(gates + r * LANES, ups + r * LANES, out + (first + r) * stride + strip * LANES, LANES);
    });
}

}  // namespace
#endif
