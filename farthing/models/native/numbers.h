// Numbers as they are kept and as they are computed with, and what is done to a row of them.
//
// Arithmetic is in float32, rounded wherever the plain PyTorch twin rounds: the learner computes with that one, and has
// to find the sampler's numbers.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

struct bf16 {
    uint16_t bits;
};

inline float wide(float x) { return x; }

inline float wide(bf16 x) {
    uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
}

inline void narrow(float x, float& out) { out = x; }

// Round to nearest, ties to even; what is not a number stays so.
inline bf16 narrow(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return {static_cast<uint16_t>(x != x ? 0x7fc0 : rounded)};
}

inline void narrow(float x, bf16& out) { out = narrow(x); }

// What is left of x when it is kept as a T.
template <typename T>
inline float kept(float x) {
    T out;
    narrow(x, out);
    return wide(out);
}

// e^x by a polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes' expf): vectorised, and the same with every C library.
inline float exponential(float x) {
    float bounded = std::min(std::max(x, -87.0f), 88.0f);
    float n = (bounded * 1.44269504f + 12582912.0f) - 12582912.0f;
    float r = bounded - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, 4);
    return x < -87.0f ? 0.0f : p * power;
}

typedef float Lanes __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));
typedef uint32_t Bits __attribute__((vector_size(64)));
constexpr int LANES = 16;

inline Lanes load(const float* x) {
    Lanes out;
    std::memcpy(&out, x, sizeof out);
    return out;
}

inline Lanes load(const bf16* x) {
    Halves halves;
    std::memcpy(&halves, x, sizeof halves);
    return (Lanes)(__builtin_convertvector(halves, Bits) << 16);
}

// Sums over the lanes of 16 vectors at once: lane i of the result is the sum of rows[i].
#define FOLD(WIDTH, ...)                                                                   \
    for (int i = 0; i < WIDTH; i++) {                                                      \
        Lanes a = rows[i], b = rows[i + WIDTH];                                            \
        rows[i] = __builtin_shufflevector(a, b, __VA_ARGS__)
inline Lanes lane_sums(Lanes* rows) {
    FOLD(8, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
        __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    }
    FOLD(4, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27) +
        __builtin_shufflevector(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
    }
    FOLD(2, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
        __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
    FOLD(1, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30) +
        __builtin_shufflevector(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
    }
    return rows[0];
}
#undef FOLD

#ifdef __AVX512BF16__
// The first `here` of 32 values, the others zero.
inline __m512i pairs(const bf16* x, int64_t here) {
    return here >= 2 * LANES ? _mm512_loadu_si512(x) : _mm512_maskz_loadu_epi16((1u << here) - 1, x);
}
#endif

inline float inverse_length(const float* x, int64_t size, float eps) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < size; i++) sum += x[i] * x[i];
    return 1.0f / std::sqrt(sum / size + eps);
}

// sum = x + change, rounded to the stream's own dtype before it is read again, and its norm; without a change the sum
// is not written, without `out` there is no norm. `row` is scratch of `size`.
template <typename R, typename T>
inline void add_norm_row(const R* x, const T* change, const R* gain, R* sum, T* out, int64_t size, float eps,
                         float* row) {
    if (change) {
#pragma omp simd
        for (int64_t i = 0; i < size; i++) {
            narrow(wide(x[i]) + wide(change[i]), sum[i]);
            row[i] = wide(sum[i]);
        }
    } else {
#pragma omp simd
        for (int64_t i = 0; i < size; i++) row[i] = wide(x[i]);
    }
    if (!out) return;
    float scale = inverse_length(row, size, eps);
#pragma omp simd
    for (int64_t i = 0; i < size; i++) narrow(row[i] * scale * wide(gain[i]), out[i]);
}

// One head, normalised where there is a gain, then turned in halves. `head` is scratch of `size`.
template <typename R, typename T>
inline void norm_rotate_head(const T* x, const R* gain, const T* cos, const T* sin, T* out, int64_t size, float eps,
                             float* head) {
    int64_t half = size / 2;
#pragma omp simd
    for (int64_t i = 0; i < size; i++) head[i] = wide(x[i]);
    if (gain) {
        float scale = inverse_length(head, size, eps);
#pragma omp simd
        for (int64_t i = 0; i < size; i++) head[i] = kept<T>(head[i] * scale * wide(gain[i]));
    }
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        narrow(kept<T>(head[i] * wide(cos[i])) - kept<T>(head[i + half] * wide(sin[i])), out[i]);
        narrow(kept<T>(head[i + half] * wide(cos[i])) + kept<T>(head[i] * wide(sin[i])), out[i + half]);
    }
}

// silu(gate) * up.
template <typename T>
inline void gate_row(const T* gate, const T* up, T* out, int64_t size) {
#pragma omp simd
    for (int64_t i = 0; i < size; i++) {
        float g = wide(gate[i]);
        narrow(kept<T>(g / (1.0f + exponential(-g))) * wide(up[i]), out[i]);
    }
}

}  // namespace
