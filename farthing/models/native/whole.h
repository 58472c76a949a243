// y = x W^T + b with weights and rows of 8 bits, on processors with dot products of such numbers (avx512_vnni).
//
//     y = (sum of x_i w_i) s_x s_w + b        x and w whole numbers in [-127, 127], s_x of the row, s_w of the output
//
// A weight [outputs, inputs] lies in strips of 16 outputs: strip s holds, for each four inputs, the fours of its outputs
// side by side, one register; zeros fill up the last four and the last strip. The processor multiplies unsigned numbers
// with signed ones, so rows are shifted by 128, and every sum begins with what that adds to it taken off. Sums of whole
// numbers are exact: a row's numbers depend on that row alone, and are those of the plain twin in `whole.py`.

#pragma once

#include "blocks.h"
#include "numbers.h"

#ifdef __AVX512VNNI__
#include <immintrin.h>

#include <cfloat>
#include <type_traits>

namespace {

// `starts`, `scales` and `bias` are as long as the strips; there may be no bias.
struct Whole {
    const int8_t* weights;
    const int32_t* starts;
    const float *scales, *bias;
    int64_t inputs, outputs;

    int64_t width() const { return (inputs + 3) / 4 * 4; }
    int64_t strips() const { return (outputs + LANES - 1) / LANES; }
    const int8_t* strip(int64_t s) const { return weights + s * width() * LANES; }
};

// Rows as whole numbers shifted by 128, `width` apart, and the scale of each.
struct WholeRows {
    uint8_t* numbers;
    float* scales;
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
    int64_t inputs = product.inputs, width = product.width();
    uint8_t* out = rows.numbers + n * width;
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
    for (int64_t i = 0; i < width; i += LANES) {
        __m512 parts = _mm512_div_ps(load(x + i, lanes(inputs - i)), _mm512_set1_ps(scale));
        __m512i shifted = _mm512_add_epi32(_mm512_cvtps_epi32(parts), _mm512_set1_epi32(128));
        _mm512_mask_cvtepi32_storeu_epi8(out + i, lanes(width - i), shifted);
    }
}

// As an instruction and not as `_mm512_dpbusd_epi32`, with which gcc 12 keeps half of a block's sums in memory.
inline __m512i dot(__m512i sum, const uint8_t* x, __m512i weights) {
    int32_t four;
    std::memcpy(&four, x, sizeof four);
    __m512i fours = _mm512_set1_epi32(four);
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(fours), "v"(weights));
    return sum;
}

template <int R, int S>
inline void multiply(const uint8_t* x, const Whole& product, const int64_t (&strips)[S], __m512i (&sums)[R][S]) {
    int64_t width = product.width();
    const uint8_t* rows[R];
    const int8_t* weights[S];
#pragma GCC unroll 4
    for (int s = 0; s < S; s++) weights[s] = product.strip(strips[s]);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        rows[r] = x + r * width;
#pragma GCC unroll 4
        for (int s = 0; s < S; s++) sums[r][s] = _mm512_loadu_si512(product.starts + strips[s] * LANES);
    }
    for (int64_t i = 0; i < width; i += 4) {
        __m512i fours[S];
#pragma GCC unroll 4
        for (int s = 0; s < S; s++) fours[s] = _mm512_loadu_si512(weights[s] + i * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
#pragma GCC unroll 4
            for (int s = 0; s < S; s++) sums[r][s] = dot(sums[r][s], rows[r] + i, fours[s]);
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

template <int R, int S, typename T>
void block(const uint8_t* x, const float* scales, const Whole& product, int64_t first, T* out) {
    int64_t strips[S];
    for (int s = 0; s < S; s++) strips[s] = first + s;
    __m512i sums[R][S];
    multiply<R, S>(x, product, strips, sums);
#pragma GCC unroll 4
    for (int s = 0; s < S; s++) {
        int64_t column = strips[s] * LANES;
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
            store(scaled(sums[r][s], scales[r], product, strips[s]), out + r * product.outputs + column,
                  lanes(product.outputs - column));
    }
}

// silu(gate) * up of S / 2 strips of each: the gates are the first half of the product's outputs, in whole strips.
template <int R, int S>
void gated_block(const uint8_t* x, const float* scales, const Whole& product, int64_t first, bf16* out) {
    int64_t strips[S];
    for (int s = 0; s < S / 2; s++) {
        strips[s] = first + s;
        strips[S / 2 + s] = product.strips() / 2 + first + s;
    }
    __m512i sums[R][S];
    multiply<R, S>(x, product, strips, sums);
    for (int r = 0; r < R; r++)
        for (int s = 0; s < S / 2; s++) {
            bf16 pair[2][LANES];
            store(scaled(sums[r][s], scales[r], product, strips[s]), pair[0], lanes(LANES));
            store(scaled(sums[r][S / 2 + s], scales[r], product, strips[S / 2 + s]), pair[1], lanes(LANES));
            gate_row(pair[0], pair[1], out + r * product.outputs / 2 + strips[s] * LANES, LANES);
        }
}

// Calls work(rows) with the number of rows, R at most, as a constant.
template <int R = ROWS, typename Work>
inline void with_constant(int64_t rows, Work work) {
    if (rows == R) return work(std::integral_constant<int, R>());
    if constexpr (R > 1) with_constant<R - 1>(rows, work);
}

// This thread's share of out = x W^T + b: out [rows, outputs].
template <typename T>
inline void multiply(const WholeRows& x, const Whole& product, T* out, int64_t rows, int thread, int threads) {
    int64_t strips = product.strips();
    shared_out(rows, (strips + STRIPS - 1) / STRIPS, thread, threads, [&](int64_t first, int64_t count, int64_t group) {
        const uint8_t* x_b = x.numbers + first * product.width();
        T* out_b = out + first * product.outputs;
        int64_t strip = group * STRIPS, end = std::min(strip + STRIPS, strips);
        with_constant(count, [&](auto R) {
            if (end - strip == STRIPS) return block<R, STRIPS>(x_b, x.scales + first, product, strip, out_b);
            for (; strip < end; strip++) block<R, 1>(x_b, x.scales + first, product, strip, out_b);
        });
    });
}

// This thread's share of out = silu(gate) * up, from the product of both: out [rows, outputs / 2].
inline void multiply_gated(const WholeRows& x, const Whole& product, bf16* out, int64_t rows, int thread, int threads) {
    int64_t pairs = product.strips() / 2;
    shared_out(rows, (pairs + 1) / 2, thread, threads, [&](int64_t first, int64_t count, int64_t group) {
        const uint8_t* x_b = x.numbers + first * product.width();
        bf16* out_b = out + first * product.outputs / 2;
        with_constant(count, [&](auto R) {
            if (pairs - 2 * group >= 2) return gated_block<R, 4>(x_b, x.scales + first, product, 2 * group, out_b);
            gated_block<R, 2>(x_b, x.scales + first, product, 2 * group, out_b);
        });
    });
}

}  // namespace
#endif
