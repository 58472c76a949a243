// What stands between the matrix products of a decoding step, each as one pass over memory.
//
// Compiled once per machine by fused.py, which also says what every argument is; where there is no compiler the plain
// PyTorch beside each call does the same. A row's numbers depend on that row alone: never on how many rows there are,
// nor on the thread that computes it.

#include "attention.h"
#include "head.h"

namespace {

template <typename R, typename T>
void add_norm(const R* x, const T* change, const R* gain, R* sum, T* out, int64_t rows, int64_t size, float eps,
              int threads) {
#pragma omp parallel num_threads(threads) if (rows * size > 8192)
    {
        std::vector<float> row(size);
#pragma omp for
        for (int64_t n = 0; n < rows; n++)
            add_norm_row(x + n * size, change ? change + n * size : nullptr, gain, sum + n * size,
                         out ? out + n * size : nullptr, size, eps, row.data());
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
        for (int64_t n = 0; n < rows; n++)
            for (int64_t h = 0; h < heads; h++)
                norm_rotate_head(x + n * stride + h * size, h < queries ? q_gain : k_gain, cos + (n % tables) * half,
                                 sin + (n % tables) * half, out + (n * heads + h) * size, size, eps, head.data());
    }
}

template <typename T>
void gated(const T* gate_up, T* out, int64_t rows, int64_t size, int threads) {
#pragma omp parallel for num_threads(threads) if (rows * size > 4096)
    for (int64_t n = 0; n < rows; n++)
        gate_row(gate_up + 2 * n * size, gate_up + (2 * n + 1) * size, out + n * size, size);
}

template <typename T>
int attend(const T* q, const T* k, const T* v, int64_t q_stride, int64_t k_stride, int64_t v_stride, T* keys,
           T* values, const int64_t* lengths, T* out, int64_t rows, int64_t heads, int64_t group, int64_t size,
           int64_t room, float scale, int threads) {
    ReadGroup<T> read = reader<T>(size);
    if (!read) return 1;
#pragma omp parallel num_threads(threads)
    {
        Scratch<T> scratch(room, size);
#pragma omp for schedule(dynamic, 4)
        for (int64_t job = 0; job < rows * heads; job++) {
            int64_t n = job / heads, h = job % heads;
            T* keys_h = keys + job * room * size;
            T* values_h = values + job * room * size;
            std::memcpy(keys_h + lengths[n] * size, k + n * k_stride + h * size, size * sizeof(T));
            std::memcpy(values_h + lengths[n] * size, v + n * v_stride + h * size, size * sizeof(T));
            Cache<T> cache{keys_h, values_h, keys_h, values_h, 0, lengths[n] + 1};
            read(group, q + n * q_stride + h * group * size, cache, out + (n * heads + h) * group * size, scale,
                 scratch);
        }
    }
    return 0;
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
        return attend<T>(q, k, v, q_stride, k_stride, v_stride, keys, values, lengths, out, rows, heads, group,  \
                         size, room, scale, threads);                                                            \
    }

STREAM(ff, float, float)
STREAM(fb, float, bf16)
STREAM(bb, bf16, bf16)
COMPUTE(f, float)
COMPUTE(b, bf16)

// One token a row, see draw_row.
void draw(const float* logits, const double* uniform, int64_t* tokens, float* logprobs, int64_t rows, int64_t size,
          int threads) {
#pragma omp parallel num_threads(threads) if (rows * size > 8192)
    {
        std::vector<float> mass(size);
#pragma omp for
        for (int64_t n = 0; n < rows; n++)
            draw_row(logits + n * size, uniform[n], size, mass.data(), tokens[n], logprobs[n]);
    }
}
}
