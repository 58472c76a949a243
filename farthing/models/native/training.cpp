// What stands between the matrix products of a training step, forward and backward, each as one pass over memory.
//
// Compiled once per machine by fused_training.py, which also says what every argument is; the plain PyTorch beside each
// call does the same. Arithmetic is in float32, rounded to bfloat16 wherever the plain twin rounds. A number depends on
// the inputs alone, never on how many threads there are: sums over rows are made in blocks of BLOCK.

#include "numbers.h"

namespace {

constexpr int64_t BLOCK = 32;

// dx of y = x r gain, r = 1 / sqrt(mean x^2 + eps), for one row; adds dy x r to the gain's gradient.
inline void unnorm(const float* x, const float* grad, const float* gain, float scale, float* grad_x, float* grad_gain,
                   int64_t size) {
    float share = 0.0f;
#pragma omp simd reduction(+ : share)
    for (int64_t i = 0; i < size; i++) {
        float normed = x[i] * scale;
        share += grad[i] * gain[i] * normed;
        grad_gain[i] += grad[i] * normed;
    }
    share /= size;
#pragma omp simd
    for (int64_t i = 0; i < size; i++) grad_x[i] = (grad[i] * gain[i] - x[i] * scale * share) * scale;
}

// x + change, written to `sum`.
inline const float* added(const float* x, const bf16* change, float* sum, int64_t size) {
#pragma omp simd
    for (int64_t i = 0; i < size; i++) sum[i] = x[i] + wide(change[i]);
    return sum;
}

}  // namespace

extern "C" {

// The norm of x, or of x + change, and what it is the norm of where `total` asks for that.
void norm(const float* x, const bf16* change, const float* gain, float* total, bf16* out, float* scales, int64_t rows,
          int64_t size, float eps, int threads) {
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> sum(size);
#pragma omp for
        for (int64_t n = 0; n < rows; n++) {
            const float* row = x + n * size;
            if (change) row = added(row, change + n * size, total ? total + n * size : sum.data(), size);
            float scale = inverse_length(row, size, eps);
            if (scales) scales[n] = scale;
#pragma omp simd
            for (int64_t i = 0; i < size; i++) out[n * size + i] = narrow(row[i] * scale * gain[i]);
        }
    }
}

void norm_back(const float* x, const bf16* change, const float* gain, const float* scales, const bf16* grad,
               const float* grad_total, float* grad_x, bf16* grad_change, float* grad_gain, int64_t rows, int64_t size,
               int threads) {
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> dy(size), sum(size);
#pragma omp for
        for (int64_t block = 0; block < (rows + BLOCK - 1) / BLOCK; block++) {
            float* gains = grad_gain + block * size;
            std::fill(gains, gains + size, 0.0f);
            for (int64_t n = block * BLOCK; n < std::min(rows, (block + 1) * BLOCK); n++) {
                const float* row = x + n * size;
                if (change) row = added(row, change + n * size, sum.data(), size);
                float* dx = grad_x + n * size;
#pragma omp simd
                for (int64_t i = 0; i < size; i++) dy[i] = wide(grad[n * size + i]);
                unnorm(row, dy.data(), gain, scales[n], dx, gains, size);
                if (grad_total) {
#pragma omp simd
                    for (int64_t i = 0; i < size; i++) dx[i] += grad_total[n * size + i];
                }
                if (grad_change) {
#pragma omp simd
                    for (int64_t i = 0; i < size; i++) grad_change[n * size + i] = narrow(dx[i]);
                }
            }
        }
    }
}

// The heads of one token: `queries` + `keys` of them normalised (where there are gains) and turned, `keys` copied.
void turn(const bf16* qkv, const float* q_gain, const float* k_gain, const bf16* cos, const bf16* sin, bf16* q,
          bf16* k, bf16* v, float* scales, int64_t rows, int64_t queries, int64_t keys, int64_t size, float eps,
          int threads) {
    int64_t half = size / 2, turned = queries + keys;
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> head(size);
#pragma omp for
        for (int64_t n = 0; n < rows; n++) {
            const bf16 *x = qkv + n * (turned + keys) * size, *c = cos + n * half, *s = sin + n * half;
            for (int64_t h = 0; h < turned; h++, x += size) {
                bf16* out = h < queries ? q + (n * queries + h) * size : k + (n * keys + h - queries) * size;
                const float* gain = h < queries ? q_gain : k_gain;
#pragma omp simd
                for (int64_t i = 0; i < size; i++) head[i] = wide(x[i]);
                if (gain) {
                    float scale = scales[n * turned + h] = inverse_length(head.data(), size, eps);
#pragma omp simd
                    for (int64_t i = 0; i < size; i++) head[i] = kept<bf16>(head[i] * scale * gain[i]);
                }
#pragma omp simd
                for (int64_t i = 0; i < half; i++) {
                    float first = head[i], second = head[i + half], cosine = wide(c[i]), sine = wide(s[i]);
                    out[i] = narrow(kept<bf16>(first * cosine) - kept<bf16>(second * sine));
                    out[i + half] = narrow(kept<bf16>(second * cosine) + kept<bf16>(first * sine));
                }
            }
            std::memcpy(v + n * keys * size, x, keys * size * sizeof(bf16));
        }
    }
}

void turn_back(const bf16* qkv, const float* q_gain, const float* k_gain, const bf16* cos, const bf16* sin,
               const float* scales, const bf16* grad_q, const bf16* grad_k, const bf16* grad_v, bf16* grad,
               float* grad_gain, int64_t rows, int64_t queries, int64_t keys, int64_t size, int threads) {
    int64_t half = size / 2, turned = queries + keys;
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> head(size), dy(size), dx(size);
#pragma omp for
        for (int64_t block = 0; block < (rows + BLOCK - 1) / BLOCK; block++) {
            float* gains = grad_gain + block * 2 * size;
            std::fill(gains, gains + 2 * size, 0.0f);
            for (int64_t n = block * BLOCK; n < std::min(rows, (block + 1) * BLOCK); n++) {
                const bf16 *x = qkv + n * (turned + keys) * size, *c = cos + n * half, *s = sin + n * half;
                bf16* out = grad + n * (turned + keys) * size;
                for (int64_t h = 0; h < turned; h++, x += size, out += size) {
                    bool query = h < queries;
                    const bf16* g = query ? grad_q + (n * queries + h) * size : grad_k + (n * keys + h - queries) * size;
                    const float* gain = query ? q_gain : k_gain;
#pragma omp simd
                    for (int64_t i = 0; i < half; i++) {
                        float first = wide(g[i]), second = wide(g[i + half]), cosine = wide(c[i]), sine = wide(s[i]);
                        dy[i] = kept<bf16>(kept<bf16>(first * cosine) + kept<bf16>(second * sine));
                        dy[i + half] = kept<bf16>(kept<bf16>(second * cosine) - kept<bf16>(first * sine));
                    }
                    const float* result = dy.data();
                    if (gain) {
#pragma omp simd
                        for (int64_t i = 0; i < size; i++) head[i] = wide(x[i]);
                        unnorm(head.data(), dy.data(), gain, scales[n * turned + h], dx.data(),
                               gains + (query ? 0 : size), size);
                        result = dx.data();
                    }
#pragma omp simd
                    for (int64_t i = 0; i < size; i++) out[i] = narrow(result[i]);
                }
                std::memcpy(out, grad_v + n * keys * size, keys * size * sizeof(bf16));
            }
        }
    }
}

void gate(const bf16* gate_up, bf16* out, int64_t rows, int64_t size, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t n = 0; n < rows; n++) {
        const bf16 *gates = gate_up + 2 * n * size, *ups = gates + size;
#pragma omp simd
        for (int64_t i = 0; i < size; i++) {
            float g = wide(gates[i]);
            out[n * size + i] = narrow(kept<bf16>(g / (1.0f + exponential(-g))) * wide(ups[i]));
        }
    }
}

void gate_back(const bf16* gate_up, const bf16* grad, bf16* out, int64_t rows, int64_t size, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t n = 0; n < rows; n++) {
        const bf16 *gates = gate_up + 2 * n * size, *ups = gates + size, *dys = grad + n * size;
        bf16 *grad_gate = out + 2 * n * size, *grad_up = grad_gate + size;
#pragma omp simd
        for (int64_t i = 0; i < size; i++) {
            float g = wide(gates[i]), dy = wide(dys[i]), share = 1.0f / (1.0f + exponential(-g));
            grad_up[i] = narrow(dy * kept<bf16>(g * share));
            grad_gate[i] = narrow(kept<bf16>(dy * wide(ups[i])) * share * (1.0f + g * (1.0f - share)));
        }
    }
}

// Logits become probabilities in place.
void softmax(float* logits, const int64_t* targets, float* logprobs, float* entropies, int64_t rows, int64_t size,
             float temperature, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t n = 0; n < rows; n++) {
        float *x = logits + n * size, most = -INFINITY, sum = 0.0f, mean = 0.0f;
        if (temperature != 1.0f) {
#pragma omp simd
            for (int64_t i = 0; i < size; i++) x[i] /= temperature;
        }
#pragma omp simd reduction(max : most)
        for (int64_t i = 0; i < size; i++) most = std::max(most, x[i]);
        float target = x[targets[n]] - most;
#pragma omp simd reduction(+ : sum, mean)
        for (int64_t i = 0; i < size; i++) {
            float above = x[i] - most, mass = exponential(above);
            x[i] = mass;
            sum += mass;
            mean += mass > 0.0f ? mass * above : 0.0f;
        }
        float share = 1.0f / sum, total = std::log(sum);
#pragma omp simd
        for (int64_t i = 0; i < size; i++) x[i] *= share;
        logprobs[n] = target - total;
        if (entropies) entropies[n] = total - mean * share;
    }
}

void softmax_back(const float* probabilities, const int64_t* targets, const float* scales, bf16* grad, int64_t rows,
                  int64_t size, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t n = 0; n < rows; n++) {
        const float* p = probabilities + n * size;
        float scale = scales[n];
#pragma omp simd
        for (int64_t i = 0; i < size; i++) grad[n * size + i] = narrow(-p[i] * scale);
        grad[n * size + targets[n]] = narrow(scale - p[targets[n]] * scale);
    }
}
}
