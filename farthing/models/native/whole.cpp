// Products of whole numbers of 8 bits, rows in floating point on either side; `whole.py` says what the arguments are.

#include "whole.h"

#ifdef __AVX512VNNI__
#include <omp.h>

#include <memory>

namespace {

template <typename T>
void whole(const T* x, int64_t stride, const Whole& product, T* out, int64_t rows, int threads) {
    std::unique_ptr<uint8_t[]> numbers(new uint8_t[rows * product.width()]);
    std::unique_ptr<float[]> scales(new float[rows]);
    WholeRows rounded{numbers.get(), scales.get(), Blocks(rows, WHOLE_ROWS)};
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t n = 0; n < rows; n++) round_row(x + n * stride, product, rounded, n);
        multiply(rounded, product, out, omp_get_thread_num(), omp_get_num_threads());
    }
}

}  // namespace

extern "C" {

// out [rows, outputs] = x [rows, inputs] W^T + b; the rows of `x` lie `stride` apart.
void whole_f(const float* x, int64_t stride, const Whole* product, float* out, int64_t rows, int threads) {
    whole(x, stride, *product, out, rows, threads);
}

void whole_b(const bf16* x, int64_t stride, const Whole* product, bf16* out, int64_t rows, int threads) {
    whole(x, stride, *product, out, rows, threads);
}
}

#endif
