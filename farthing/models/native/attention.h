// One token's attention over the keys and values of its own row, read to its own end.

#pragma once

#include "numbers.h"

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

// Keys and values of one head of one row: the first `shared` ones, a multiple of 16, are read where another row has the
// same, so that they come from the memory once for all of a group.
template <typename T>
struct Cache {
    const T *keys, *values, *shared_keys, *shared_values;
    int64_t shared, count;
};

// GROUP queries of SIZE channels against one key after the other: lanes whose sum is a score.
template <typename T, int GROUP, int SIZE>
struct Queries {
    Lanes parts[GROUP][SIZE / LANES];

    explicit Queries(const T* q) {
        for (int g = 0; g < GROUP; g++)
            for (int i = 0; i < SIZE / LANES; i++) parts[g][i] = load(q + g * SIZE + i * LANES);
    }

    void meet(const T* key, Lanes (&sums)[GROUP]) const {
#pragma GCC unroll 16
        for (int i = 0; i < SIZE / LANES; i++) {
            Lanes part = load(key + i * LANES);
#pragma GCC unroll 4
            for (int g = 0; g < GROUP; g++) sums[g] += parts[g][i] * part;
        }
    }
};

// WIDTH channels, from the first on, of what GROUP queries read, value by value; weights lie `stride` apart.
template <typename T, int GROUP, int WIDTH>
inline void read_values(const Cache<T>& cache, int64_t step, int64_t channel, const T* weights, int64_t stride, float* out,
                        int64_t out_stride) {
    Lanes sums[GROUP][WIDTH / LANES] = {};
    for (int64_t t = 0; t < cache.count; t++) {
        const T* value_t = (t < cache.shared ? cache.shared_values : cache.values) + t * step + channel;
#pragma GCC unroll 8
        for (int i = 0; i < WIDTH / LANES; i++) {
            Lanes value = load(value_t + i * LANES);
#pragma GCC unroll 4
            for (int g = 0; g < GROUP; g++) sums[g][i] += wide(weights[g * stride + t]) * value;
        }
    }
    for (int g = 0; g < GROUP; g++)
        for (int i = 0; i < WIDTH / LANES; i++) std::memcpy(out + g * out_stride + i * LANES, &sums[g][i], sizeof(Lanes));
}

#ifdef __AVX512BF16__
// The same in pairs of channels, and pairs of values.
template <int GROUP, int SIZE>
struct Queries<bf16, GROUP, SIZE> {
    static constexpr int PARTS = (SIZE + 2 * LANES - 1) / (2 * LANES);
    __m512i parts[GROUP][PARTS];

    explicit Queries(const bf16* q) {
        for (int g = 0; g < GROUP; g++)
            for (int i = 0; i < PARTS; i++) parts[g][i] = pairs(q + g * SIZE + i * 2 * LANES, SIZE - i * 2 * LANES);
    }

    void meet(const bf16* key, Lanes (&sums)[GROUP]) const {
#pragma GCC unroll 8
        for (int i = 0; i < PARTS; i++) {
            __m512i part = pairs(key + i * 2 * LANES, SIZE - i * 2 * LANES);
#pragma GCC unroll 4
            for (int g = 0; g < GROUP; g++)
                sums[g] = (Lanes)_mm512_dpbf16_ps((__m512)sums[g], (__m512bh)parts[g][i], (__m512bh)part);
        }
    }
};

template <int GROUP, int WIDTH>
inline void read_pairs(const Cache<bf16>& cache, int64_t step, int64_t channel, const bf16* weights, int64_t stride,
                       float* out, int64_t out_stride) {
    constexpr int PARTS = (WIDTH + 2 * LANES - 1) / (2 * LANES);
    __m512 sums[GROUP][PARTS][2] = {};
    for (int64_t t = 0; t < cache.count; t += 2) {
        const bf16* values = (t < cache.shared ? cache.shared_values : cache.values) + t * step + channel;
        __m512i weight[GROUP];
#pragma GCC unroll 4
        for (int g = 0; g < GROUP; g++) {
            int32_t both;
            std::memcpy(&both, weights + g * stride + t, sizeof both);
            weight[g] = _mm512_set1_epi32(both);
        }
#pragma GCC unroll 2
        for (int i = 0; i < PARTS; i++) {
            const bf16* first = values + i * 2 * LANES;
            int here = WIDTH - i * 2 * LANES;
            // Behind the last value stands anything; its weight is zero, and it must not be infinite.
            __m512i a = pairs(first, here), b = t + 1 < cache.count ? pairs(first + step, here) : _mm512_setzero_si512();
            __m512bh low = (__m512bh)_mm512_unpacklo_epi16(a, b), high = (__m512bh)_mm512_unpackhi_epi16(a, b);
#pragma GCC unroll 4
            for (int g = 0; g < GROUP; g++) {
                sums[g][i][0] = _mm512_dpbf16_ps(sums[g][i][0], (__m512bh)weight[g], low);
                sums[g][i][1] = _mm512_dpbf16_ps(sums[g][i][1], (__m512bh)weight[g], high);
            }
        }
    }
    // Unpacking went by quarters of a register: put the channels in order again.
    const __m512i front = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i back = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    for (int g = 0; g < GROUP; g++)
        for (int i = 0; i < PARTS; i++) {
            float* out_i = out + g * out_stride + i * 2 * LANES;
            _mm512_storeu_ps(out_i, _mm512_permutex2var_ps(sums[g][i][0], front, sums[g][i][1]));
            if (WIDTH - i * 2 * LANES > LANES)
                _mm512_storeu_ps(out_i + LANES, _mm512_permutex2var_ps(sums[g][i][0], back, sums[g][i][1]));
        }
}
#endif

// What is read soon: `tokens` of SIZE channels each, asked for from the memory ahead of time.
template <int SIZE, typename T>
inline void expect(const T* x, int64_t tokens) {
    const char* first = reinterpret_cast<const char*>(x);
    for (int64_t byte = 0; byte < tokens * SIZE * static_cast<int64_t>(sizeof(T)); byte += 64)
        __builtin_prefetch(first + byte, 0, 2);
}

// Scores of GROUP queries with all keys, 16 keys at a time; those behind the last key are minus infinity. The values are
// needed next: they are asked for on the way.
template <typename T, int GROUP, int SIZE>
void score(const T* q, const Cache<T>& cache, float scale, float* scores, int64_t stride) {
    int64_t count = cache.count;
    Queries<T, GROUP, SIZE> queries(q);
    Lanes tile[GROUP][LANES] = {};
    for (int64_t t = 0; t < count; t += LANES) {
        int64_t here = std::min<int64_t>(LANES, count - t);
        const T* keys = t < cache.shared ? cache.shared_keys : cache.keys;
        expect<SIZE>((t < cache.shared ? cache.shared_values : cache.values) + t * SIZE, here);
        for (int64_t j = 0; j < here; j++) {
            Lanes sums[GROUP] = {};
            queries.meet(keys + (t + j) * SIZE, sums);
#pragma GCC unroll 4
            for (int g = 0; g < GROUP; g++) tile[g][j] = sums[g];
        }
        for (int g = 0; g < GROUP; g++) {
            Lanes sums = lane_sums(tile[g]) * scale;
            std::memcpy(scores + g * stride + t, &sums, sizeof sums);
            for (int64_t j = here; j < LANES; j++) scores[g * stride + t + j] = -INFINITY;
        }
    }
}

// Scores become weights: their softmax.
template <typename T>
void weigh(float* scores, T* weights, int64_t count) {
    float most = -INFINITY, sum = 0.0f;
#pragma omp simd reduction(max : most)
    for (int64_t t = 0; t < count; t++) {
        scores[t] = kept<T>(scores[t]);
        most = std::max(most, scores[t]);
    }
#pragma omp simd reduction(+ : sum)
    for (int64_t t = 0; t < count; t++) {
        scores[t] = exponential(scores[t] - most);
        sum += scores[t];
    }
    float share = 1.0f / sum;
#pragma omp simd
    for (int64_t t = 0; t < count; t++) narrow(scores[t] * share, weights[t]);
}

// What one thread needs beside keys and values: room for the scores and weights of four queries.
template <typename T>
struct Scratch {
    std::vector<float> scores, read;
    std::vector<T> weights;

    Scratch(int64_t keys, int64_t size) : scores(4 * (keys + LANES)), read(4 * size), weights(4 * (keys + LANES)) {}
};

// One key head of one row: GROUP queries read all keys and values. softmax(q k^T scale) v.
template <typename T, int GROUP, int SIZE>
void read_head(const T* q, const Cache<T>& cache, T* out, float scale, Scratch<T>& scratch) {
    constexpr int WIDTH = SIZE < 64 ? SIZE : SIZE % 64 == 0 ? 64 : SIZE % 48 == 0 ? 48 : 16;
    int64_t stride = (cache.count + LANES - 1) / LANES * LANES;
    float *scores = scratch.scores.data(), *read = scratch.read.data();
    T* weights = scratch.weights.data();
    score<T, GROUP, SIZE>(q, cache, scale, scores, stride);
    for (int g = 0; g < GROUP; g++) weigh<T>(scores + g * stride, weights + g * stride, stride);
    for (int i = 0; i < SIZE; i += WIDTH) {
#ifdef __AVX512BF16__
        if constexpr (sizeof(T) == 2) {
            read_pairs<GROUP, WIDTH>(cache, SIZE, i, weights, stride, read + i, SIZE);
            continue;
        }
#endif
        read_values<T, GROUP, WIDTH>(cache, SIZE, i, weights, stride, read + i, SIZE);
    }
#pragma omp simd
    for (int i = 0; i < GROUP * SIZE; i++) narrow(read[i], out[i]);
}

template <typename T, int SIZE>
void read_group(int64_t group, const T* q, const Cache<T>& cache, T* out, float scale, Scratch<T>& scratch) {
    // As many queries at a time as fit the registers; more would read the keys from the cache again, not from memory.
    while (group >= 4) {
        read_head<T, 4, SIZE>(q, cache, out, scale, scratch);
        q += 4 * SIZE, out += 4 * SIZE, group -= 4;
    }
    if (group == 3) read_head<T, 3, SIZE>(q, cache, out, scale, scratch);
    if (group == 2) read_head<T, 2, SIZE>(q, cache, out, scale, scratch);
    if (group == 1) read_head<T, 1, SIZE>(q, cache, out, scale, scratch);
}

template <typename T>
using ReadGroup = void (*)(int64_t, const T*, const Cache<T>&, T*, float, Scratch<T>&);

// The function for heads of `size` channels; null where there is none.
template <typename T>
ReadGroup<T> reader(int64_t size) {
    switch (size) {
        case 16: return read_group<T, 16>;
        case 32: return read_group<T, 32>;
        case 64: return read_group<T, 64>;
        case 80: return read_group<T, 80>;
        case 96: return read_group<T, 96>;
        case 128: return read_group<T, 128>;
        case 256: return read_group<T, 256>;
    }
    return nullptr;
}

}  // namespace
