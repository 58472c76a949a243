// What stands between the matrix products of a decoding step, each as one pass over memory.
//
// Compiled once per machine by fused.py, which also says what every argument is; where there is no compiler the plain
// PyTorch beside each call does the same. Arithmetic is in float32, rounded wherever the plain twin rounds: the learner
// computes with that one, and has to find the sampler's numbers. A row's numbers depend on that row alone: never on how
// many rows there are, nor on the thread that computes it.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

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
inline void narrow(float x, bf16& out) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    out.bits = static_cast<uint16_t>(x != x ? 0x7fc0 : rounded);
}

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

inline float inverse_length(const float* x, int64_t size, float eps) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < size; i++) sum += x[i] * x[i];
    return 1.0f / std::sqrt(sum / size + eps);
}

template <typename R, typename T>
void add_norm(const R* x, const T* change, const R* gain, R* sum, T* out, int64_t rows, int64_t size, float eps,
              int threads) {
#pragma omp parallel num_threads(threads) if (rows * size > 8192)
    {
        std::vector<float> row(size);
#pragma omp for
        for (int64_t n = 0; n < rows; n++) {
            const R* x_n = x + n * size;
            if (change) {
#pragma omp simd
                for (int64_t i = 0; i < size; i++) {
                    // The stream is rounded to its own dtype before it is read again.
                    narrow(wide(x_n[i]) + wide(change[n * size + i]), sum[n * size + i]);
                    row[i] = wide(sum[n * size + i]);
                }
            } else {
#pragma omp simd
                for (int64_t i = 0; i < size; i++) row[i] = wide(x_n[i]);
            }
            if (!out) continue;
            float scale = inverse_length(row.data(), size, eps);
#pragma omp simd
            for (int64_t i = 0; i < size; i++) narrow(row[i] * scale * wide(gain[i]), out[n * size + i]);
        }
    }
}

template <typename R, typename T>
void norm_rotate(const T* x, int64_t stride, const R* q_gain, const R* k_gain, const T* cos, const T* sin,
                 int64_t tables, T* out, int64_t rows, int64_t queries, int64_t heads, int64_t size, float eps,
                 int threads) {
    int64_t half = size / 2;
#pragma omp parallel num_threads(threads) if (rows * heads * size > 8192)
    {
        std::vector<float> head(size);
#pragma omp for
        for (int64_t n = 0; n < rows; n++) {
            const T* c = cos + (n % tables) * half;
            const T* s = sin + (n % tables) * half;
            for (int64_t h = 0; h < heads; h++) {
                const T* x_h = x + n * stride + h * size;
                T* out_h = out + (n * heads + h) * size;
#pragma omp simd
                for (int64_t i = 0; i < size; i++) head[i] = wide(x_h[i]);
                const R* gain = h < queries ? q_gain : k_gain;
                if (gain) {
                    float scale = inverse_length(head.data(), size, eps);
#pragma omp simd
                    for (int64_t i = 0; i < size; i++) head[i] = kept<T>(head[i] * scale * wide(gain[i]));
                }
#pragma omp simd
                for (int64_t i = 0; i < half; i++) {
                    narrow(kept<T>(head[i] * wide(c[i])) - kept<T>(head[i + half] * wide(s[i])), out_h[i]);
                    narrow(kept<T>(head[i + half] * wide(c[i])) + kept<T>(head[i] * wide(s[i])), out_h[i + half]);
                }
            }
        }
    }
}

template <typename T>
void gated(const T* gate_up, T* out, int64_t rows, int64_t size, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * size > 4096)
    for (int64_t n = 0; n < rows; n++) {
        const T* gate = gate_up + 2 * n * size;
#pragma omp simd
        for (int64_t i = 0; i < size; i++) {
            float g = wide(gate[i]);
            narrow(kept<T>(g / (1.0f + exponential(-g))) * wide(gate[i + size]), out[n * size + i]);
        }
    }
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

// Scores of GROUP queries with `count` keys, 16 keys at a time; those behind the last key are minus infinity.
template <typename T, int GROUP, int SIZE>
void score(const T* q, const T* keys, int64_t count, float scale, float* scores, int64_t stride) {
    Lanes query[GROUP][SIZE / LANES], tile[GROUP][LANES] = {};
    for (int g = 0; g < GROUP; g++)
        for (int i = 0; i < SIZE / LANES; i++) query[g][i] = load(q + g * SIZE + i * LANES) * scale;
    for (int64_t t = 0; t < count; t += LANES) {
        int64_t here = std::min<int64_t>(LANES, count - t);
        for (int64_t j = 0; j < here; j++) {
            const T* k = keys + (t + j) * SIZE;
            Lanes sums[GROUP] = {};
#pragma GCC unroll 16
            for (int i = 0; i < SIZE / LANES; i++) {
                Lanes part = load(k + i * LANES);
#pragma GCC unroll 4
                for (int g = 0; g < GROUP; g++) sums[g] += query[g][i] * part;
            }
#pragma GCC unroll 4
            for (int g = 0; g < GROUP; g++) tile[g][j] = sums[g];
        }
        for (int g = 0; g < GROUP; g++) {
            Lanes sums = lane_sums(tile[g]);
            std::memcpy(scores + g * stride + t, &sums, sizeof sums);
            for (int64_t j = here; j < LANES; j++) scores[g * stride + t + j] = -INFINITY;
        }
    }
}

// Scores become weights in place: their softmax.
template <typename T>
void weigh(float* scores, int64_t count) {
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
#pragma omp simd
    for (int64_t t = 0; t < count; t++) scores[t] = kept<T>(scores[t] / sum);
}

// One key head of one row: GROUP queries read `count` keys and values. softmax(q k^T scale) v.
template <typename T, int GROUP, int SIZE>
void read_head(const T* q, const T* keys, const T* values, T* out, int64_t count, float scale, float* scores) {
    int64_t stride = (count + LANES - 1) / LANES * LANES;
    score<T, GROUP, SIZE>(q, keys, count, scale, scores, stride);
    for (int g = 0; g < GROUP; g++) weigh<T>(scores + g * stride, stride);
    Lanes sums[GROUP][SIZE / LANES] = {};
    for (int64_t t = 0; t < count; t++)
#pragma GCC unroll 16
        for (int i = 0; i < SIZE / LANES; i++) {
            Lanes value = load(values + t * SIZE + i * LANES);
#pragma GCC unroll 4
            for (int g = 0; g < GROUP; g++) sums[g][i] += scores[g * stride + t] * value;
        }
    float read[GROUP * SIZE];
#pragma GCC unroll 4
    for (int g = 0; g < GROUP; g++)
#pragma GCC unroll 16
        for (int i = 0; i < SIZE / LANES; i++) std::memcpy(read + g * SIZE + i * LANES, &sums[g][i], sizeof(Lanes));
#pragma omp simd
    for (int i = 0; i < GROUP * SIZE; i++) narrow(read[i], out[i]);
}

template <typename T, int SIZE>
void read_group(int64_t group, const T* q, const T* keys, const T* values, T* out, int64_t count, float scale,
                float* scores) {
    // As many queries at a time as fit the registers; more would read the keys from the cache again, not from memory.
    while (group >= 4) {
        read_head<T, 4, SIZE>(q, keys, values, out, count, scale, scores);
        q += 4 * SIZE, out += 4 * SIZE, group -= 4;
    }
    if (group == 3) read_head<T, 3, SIZE>(q, keys, values, out, count, scale, scores);
    if (group == 2) read_head<T, 2, SIZE>(q, keys, values, out, count, scale, scores);
    if (group == 1) read_head<T, 1, SIZE>(q, keys, values, out, count, scale, scores);
}

template <typename T, int SIZE>
void attend(const T* q, const T* k, const T* v, int64_t q_stride, int64_t k_stride, int64_t v_stride, T* keys,
            T* values, const int64_t* lengths, T* out, int64_t rows, int64_t heads, int64_t group, int64_t room,
            float scale, int threads) {
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> scores(4 * (room + LANES));
#pragma omp for schedule(dynamic, 4)
        for (int64_t job = 0; job < rows * heads; job++) {
            int64_t n = job / heads, h = job % heads;
            T* keys_h = keys + job * room * SIZE;
            T* values_h = values + job * room * SIZE;
            std::memcpy(keys_h + lengths[n] * SIZE, k + n * k_stride + h * SIZE, SIZE * sizeof(T));
            std::memcpy(values_h + lengths[n] * SIZE, v + n * v_stride + h * SIZE, SIZE * sizeof(T));
            read_group<T, SIZE>(group, q + n * q_stride + h * group * SIZE, keys_h, values_h,
                                out + (n * heads + h) * group * SIZE, lengths[n] + 1, scale, scores.data());
        }
    }
}

template <typename T>
int attend_any(const T* q, const T* k, const T* v, int64_t q_stride, int64_t k_stride, int64_t v_stride, T* keys,
               T* values, const int64_t* lengths, T* out, int64_t rows, int64_t heads, int64_t group, int64_t size,
               int64_t room, float scale, int threads) {
#define SIZED(SIZE)                                                                                              \
    case SIZE:                                                                                                   \
        attend<T, SIZE>(q, k, v, q_stride, k_stride, v_stride, keys, values, lengths, out, rows, heads, group,   \
                        room, scale, threads);                                                                   \
        return 0;
    switch (size) {
        SIZED(16) SIZED(32) SIZED(64) SIZED(80) SIZED(96) SIZED(128) SIZED(256)
    }
#undef SIZED
    return 1;
}

}  // namespace

extern "C" {

#define STREAM(NAME, R, T)                                                                                       \
    void add_norm_##NAME(const R* x, const T* change, const R* gain, R* sum, T* out, int64_t rows, int64_t size,  \
                         float eps, int threads) {                                                               \
        add_norm<R, T>(x, change, gain, sum, out, rows, size, eps, threads);                                     \
    }                                                                                                            \
    void norm_rotate_##NAME(const T* x, int64_t stride, const R* q_gain, const R* k_gain, const T* cos,          \
                            const T* sin, int64_t tables, T* out, int64_t rows, int64_t queries, int64_t heads,  \
                            int64_t size, float eps, int threads) {                                              \
        norm_rotate<R, T>(x, stride, q_gain, k_gain, cos, sin, tables, out, rows, queries, heads, size, eps,     \
                          threads);                                                                              \
    }

#define COMPUTE(NAME, T)                                                                                         \
    void gated_##NAME(const T* gate_up, T* out, int64_t rows, int64_t size, int threads) {                       \
        gated<T>(gate_up, out, rows, size, threads);                                                             \
    }                                                                                                            \
    int attend_##NAME(const T* q, const T* k, const T* v, int64_t q_stride, int64_t k_stride, int64_t v_stride,  \
                      T* keys, T* values, const int64_t* lengths, T* out, int64_t rows, int64_t heads,           \
                      int64_t group, int64_t size, int64_t room, float scale, int threads) {                     \
        return attend_any<T>(q, k, v, q_stride, k_stride, v_stride, keys, values, lengths, out, rows, heads,     \
                             group, size, room, scale, threads);                                                 \
    }

STREAM(ff, float, float)
STREAM(fb, float, bf16)
STREAM(bb, bf16, bf16)
COMPUTE(f, float)
COMPUTE(b, bf16)

// One token a row by inverting the cumulative distribution at `uniform`, and its log-probability.
void draw(const float* logits, const double* uniform, int64_t* tokens, float* logprobs, int64_t rows, int64_t size,
          int threads) {
#pragma omp parallel num_threads(threads) if (rows * size > 8192)
    {
        std::vector<float> mass(size);
#pragma omp for
        for (int64_t n = 0; n < rows; n++) {
            const float* x = logits + n * size;
            float most = x[0];
            double sum = 0.0;
#pragma omp simd reduction(max : most)
            for (int64_t i = 0; i < size; i++) most = std::max(most, x[i]);
#pragma omp simd
            for (int64_t i = 0; i < size; i++) mass[i] = exponential(x[i] - most);
#pragma omp simd reduction(+ : sum)
            for (int64_t i = 0; i < size; i++) sum += mass[i];
            double threshold = uniform[n] * sum, below = 0.0;
            int64_t token = 0;
            for (; token < size - 1; token++) {
                below += mass[token];
                if (below > threshold) break;
            }
            tokens[n] = token;
            logprobs[n] = x[token] - most - static_cast<float>(std::log(sum));
        }
    }
}
}
