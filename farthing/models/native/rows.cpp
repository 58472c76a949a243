// Attention of the rows of a micro-batch, forward and backward, in bfloat16 products of this machine's own width.
//
// Compiled once per machine by fused_rows.py. A row reads itself, causally, and all of the prompt it continues,
// each to its exact length. The backward pass computes the scores again: of a token they are more than all else. All five products are one kernel: 8 rows of a left operand, whose pairs of channels are
// spread over a vector, times up to three vectors of a right operand in which pairs lie side by side.
// Results are rounded to bfloat16 where the plain twin (short_rows.py) rounds; what several rows add to their prompt's
// keys and values is summed in float32, in the order of the rows, whatever the number of threads.

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

typedef uint16_t Half;
constexpr int64_t TILE = 8, LANES = 16;

// Where a row's `length` tokens lie, the row that is its prompt (-1: none), and how many tokens of that it continues.
struct Row {
    int64_t start, length, prompt, prefix;
    int64_t keys() const { return prefix + length; }
    // Room for a row of scores: whole vectors and one more, which a tile of the backward pass may touch.
    int64_t room() const { return (keys() + LANES - 1) / LANES * LANES + LANES; }
};

struct Shape {
    int64_t heads, key_heads, size;
    int64_t group() const { return heads / key_heads; }
};

inline int32_t word(const void* at) {
    int32_t out;
    std::memcpy(&out, at, 4);
    return out;
}

inline void store_halves(Half* at, __m512 x) { _mm256_storeu_si256((__m256i*)at, (__m256i)_mm512_cvtneps_pbh(x)); }

inline __m512 load_halves(const Half* at) {
    return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)at)), 16);
}

inline __m512 rounded(__m512 x) {
    return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x)), 16);
}

// sums[m][j] += over pairs k of left(m, k) * right[k][16 j ...]; strides in words of two channels.
template <int WIDTH>
inline void multiply(const int32_t* left, int64_t row, int64_t pair, const int32_t* right, int64_t stride, int64_t pairs,
                     __m512 (&sums)[TILE][WIDTH]) {
    for (int64_t k = 0; k < pairs; k++) {
        __m512bh columns[WIDTH];
#pragma GCC unroll 3
        for (int j = 0; j < WIDTH; j++) columns[j] = (__m512bh)_mm512_loadu_si512(right + k * stride + j * LANES);
#pragma GCC unroll 8
        for (int m = 0; m < TILE; m++) {
            __m512bh spread = (__m512bh)_mm512_set1_epi32(word(left + m * row + k * pair));
#pragma GCC unroll 3
            for (int j = 0; j < WIDTH; j++) sums[m][j] = _mm512_dpbf16_ps(sums[m][j], spread, columns[j]);
        }
    }
}

// 8 rows times `vectors` of columns; `put(m, column, sum)` takes each vector of the result.
template <typename Put>
inline void product(const int32_t* left, int64_t row, int64_t pair, const int32_t* right, int64_t stride, int64_t pairs,
                    int64_t vectors, Put put) {
    int64_t j = 0;
#define STRIP(WIDTH)                                                                       \
    {                                                                                      \
        __m512 sums[TILE][WIDTH] = {};                                                     \
        multiply<WIDTH>(left, row, pair, right + j * LANES, stride, pairs, sums);          \
        for (int m = 0; m < TILE; m++)                                                     \
            for (int i = 0; i < WIDTH; i++) put(m, (j + i) * LANES, sums[m][i]);           \
        j += WIDTH;                                                                        \
    }
    while (vectors - j >= 3 && vectors - j != 4) STRIP(3)
    while (vectors - j >= 2) STRIP(2)
    if (vectors - j) STRIP(1)
#undef STRIP
}

// 16 rows of 16 words, transposed.
inline void transpose(const int32_t* const* from, int64_t offset, int32_t* to, int64_t stride) {
    __m512i r[16], t[16];
    for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(from[i] + offset);
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int c = 0; c < 4; c++) {
        __m512i a = _mm512_shuffle_i32x4(r[c], r[4 + c], 0x88), b = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0x88);
        __m512i d = _mm512_shuffle_i32x4(r[c], r[4 + c], 0xdd), e = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0xdd);
        _mm512_storeu_si512(to + c * stride, _mm512_shuffle_i32x4(a, b, 0x88));
        _mm512_storeu_si512(to + (4 + c) * stride, _mm512_shuffle_i32x4(d, e, 0x88));
        _mm512_storeu_si512(to + (8 + c) * stride, _mm512_shuffle_i32x4(a, b, 0xdd));
        _mm512_storeu_si512(to + (12 + c) * stride, _mm512_shuffle_i32x4(d, e, 0xdd));
    }
}

// Rows [count][channels] with channels as pairs in front: [channels / 2][stride] words.
inline void across(const Half* const* rows, int64_t count, int64_t size, int32_t* to, int64_t stride) {
    for (int64_t s = 0; s < count; s += LANES)
        for (int64_t d = 0; d < size / 2; d += LANES)
            transpose((const int32_t* const*)(rows + s), d, to + d * stride + s, stride);
}

// Two rows of `count` channels, interleaved.
inline void interleave(const Half* even, const Half* odd, int64_t count, int32_t* to) {
    for (int64_t i = 0; i < count; i += LANES) {
        __m512i low = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(even + i)));
        __m512i high = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)(odd + i)));
        _mm512_storeu_si512(to + i, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
}

inline __m512 exponential(__m512 x) {
    // In this order what is not a number stays so.
    __m512 bounded = _mm512_max_ps(_mm512_set1_ps(-87.0f), x);
    __m512 n = _mm512_roundscale_ps(bounded * 1.44269504f, 0);
    __m512 r = bounded - n * 0.693359375f + n * 2.12194440e-4f;
    __m512 p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_NLT_UQ), _mm512_scalef_ps(p, n));
}

struct Scratch {
    std::vector<const Half*> key_rows, value_rows;
    // `keys` and `values` with their pairs of channels in front, or of tokens.
    std::vector<int32_t> keys_across, keys, values, queries, grads, weights, scores;
    std::vector<float> tile, grad_keys, grad_values;
    std::vector<Half> probabilities, grad_scores;
    std::vector<Half> nothing;
};

// Pointers to the keys and values that a row reads, behind them zeros.
void gather(const Row* rows, const Row& own, const Shape& shape, int64_t head, const Half* k, const Half* v,
            Scratch& work) {
    int64_t room = own.room(), stride = shape.key_heads * shape.size;
    work.nothing.assign(shape.size, 0);
    work.key_rows.assign(room, work.nothing.data());
    work.value_rows.assign(room, work.nothing.data());
    for (int64_t s = 0; s < own.keys(); s++) {
        int64_t place = s < own.prefix ? rows[own.prompt].start + s : own.start + s - own.prefix;
        work.key_rows[s] = k + place * stride + head * shape.size;
        work.value_rows[s] = v + place * stride + head * shape.size;
    }
}

// Scores of 8 tokens become their softmax over the first `count + m` keys, zeros behind, as bfloat16.
void weigh(float* scores, int64_t room, int64_t count, Half* out) {
    int64_t end = std::min((count + TILE - 1 + LANES - 1) / LANES * LANES + LANES, room);
    for (int64_t m = 0; m < TILE; m++, scores += room, out += room) {
        int64_t seen = count + m;
        __m512 most = _mm512_set1_ps(-INFINITY), sums = _mm512_setzero_ps();
        for (int64_t s = 0; s < seen; s += LANES) {
            __mmask16 mask = seen - s >= LANES ? 0xffff : (1 << (seen - s)) - 1;
            most = _mm512_mask_max_ps(most, mask, most, _mm512_loadu_ps(scores + s));
        }
        most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
        for (int64_t s = 0; s < seen; s += LANES) {
            __mmask16 mask = seen - s >= LANES ? 0xffff : (1 << (seen - s)) - 1;
            __m512 mass = _mm512_maskz_mov_ps(mask, exponential(_mm512_loadu_ps(scores + s) - most));
            sums += mass;
            _mm512_storeu_ps(scores + s, mass);
        }
        __m512 share = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(sums));
        int64_t s = 0;
        for (; s < seen; s += LANES) store_halves(out + s, _mm512_loadu_ps(scores + s) * share);
        for (; s < end; s += LANES) store_halves(out + s, _mm512_setzero_ps());
    }
}

// Room for the scores of 8 tokens, and the keys that `weights` reads.
void prepare(const Row& own, const Shape& shape, Scratch& work) {
    int64_t room = own.room();
    work.keys_across.resize(shape.size / 2 * room), work.tile.resize(TILE * room);
    work.probabilities.resize(TILE * room);
    across(work.key_rows.data(), room, shape.size, work.keys_across.data(), room);
}

// What the 8 tokens from `t` on give each key they see, for the head whose queries begin at `place`.
const Half* weights(const Row& own, const Shape& shape, const Half* q, int64_t place, int64_t t, float scale,
                    Scratch& work) {
    int64_t room = own.room(), seen = own.prefix + t + TILE;
    __m512 scales = _mm512_set1_ps(scale);
    float* tile = work.tile.data();
    product((const int32_t*)(q + place), shape.heads * shape.size / 2, 1, work.keys_across.data(), room, shape.size / 2,
            (seen + LANES - 1) / LANES,
            [&](int m, int64_t s, __m512 sum) { _mm512_storeu_ps(tile + m * room + s, rounded(sum * scales)); });
    weigh(tile, room, own.prefix + t + 1, work.probabilities.data());
    return work.probabilities.data();
}

void read(const Row* rows, const Row& own, const Shape& shape, int64_t head, const Half* q, const Half* k,
          const Half* v, Half* out, float scale, Scratch& work) {
    int64_t room = own.room(), size = shape.size, width = shape.heads * size;
    gather(rows, own, shape, head, k, v, work);
    prepare(own, shape, work);
    work.values.resize(room / 2 * size);
    for (int64_t s = 0; s < room; s += 2)
        interleave(work.value_rows[s], work.value_rows[s + 1], size, work.values.data() + s / 2 * size);
    for (int64_t g = 0; g < shape.group(); g++) {
        int64_t h = head * shape.group() + g;
        for (int64_t t = 0; t < own.length; t += TILE) {
            int64_t place = (own.start + t) * width + h * size, seen = own.prefix + t + TILE;
            int64_t vectors = (seen + LANES - 1) / LANES;
            const Half* p = weights(own, shape, q, place, t, scale, work);
            product((const int32_t*)p, room / 2, 1, work.values.data(), size, vectors * LANES / 2, size / LANES,
                    [&](int m, int64_t d, __m512 sum) { store_halves(out + place + m * width + d, sum); });
        }
    }
}

// The gradient of 8 tokens' scores: p (dp - sum of dp p), as bfloat16, zeros behind the keys they see.
void unweigh(const float* grads, const Half* p, int64_t room, int64_t count, Half* out) {
    int64_t vectors = (count + LANES - 1) / LANES * LANES;
    for (int64_t m = 0; m < TILE; m++, grads += room, p += room, out += room) {
        __m512 sums = _mm512_setzero_ps();
        for (int64_t s = 0; s < vectors; s += LANES) sums += _mm512_loadu_ps(grads + s) * load_halves(p + s);
        __m512 share = _mm512_set1_ps(_mm512_reduce_add_ps(sums));
        int64_t s = 0;
        for (; s < vectors; s += LANES)
            store_halves(out + s, (_mm512_loadu_ps(grads + s) - share) * load_halves(p + s));
        for (; s < std::min(vectors + LANES, room); s += LANES) store_halves(out + s, _mm512_setzero_ps());
    }
}

// sums [keys][size] += left^T right over the tokens that see each key: left [tokens / 2][room], right
// [tokens / 2][size], both interleaved by token.
void gather_back(const Row& own, const Shape& shape, const int32_t* left, const int32_t* right, float* sums) {
    int64_t room = own.room(), size = shape.size;
    for (int64_t s = 0; s < own.keys(); s += TILE) {
        int64_t first = std::max<int64_t>(0, s - own.prefix) / TILE * TILE / 2;
        product(left + first * room + s, 1, room, right + first * size, size, own.length / 2 - first, size / LANES,
                [&](int m, int64_t d, __m512 sum) {
                    float* at = sums + (s + m) * size + d;
                    _mm512_storeu_ps(at, _mm512_loadu_ps(at) + sum);
                });
    }
}

// Gradients of a row's queries; those of what it reads, summed over its queries, are left in work.
void read_back(const Row* rows, const Row& own, const Shape& shape, int64_t head, const Half* q, const Half* k,
               const Half* v, const Half* grad, Half* grad_q, float scale, Scratch& work) {
    int64_t room = own.room(), size = shape.size, width = shape.heads * size;
    gather(rows, own, shape, head, k, v, work);
    prepare(own, shape, work);
    work.keys.resize(room / 2 * size), work.values.resize(size / 2 * room);
    work.queries.resize(own.length / 2 * size), work.grads.resize(own.length / 2 * size);
    work.weights.resize(own.length / 2 * room), work.scores.resize(own.length / 2 * room);
    work.grad_scores.resize(TILE * room);
    work.grad_keys.assign(room * size, 0.0f), work.grad_values.assign(room * size, 0.0f);
    across(work.value_rows.data(), room, size, work.values.data(), room);
    for (int64_t s = 0; s < room; s += 2)
        interleave(work.key_rows[s], work.key_rows[s + 1], size, work.keys.data() + s / 2 * size);
    __m512 scales = _mm512_set1_ps(scale);
    for (int64_t g = 0; g < shape.group(); g++) {
        int64_t h = head * shape.group() + g;
        for (int64_t t = 0; t < own.length; t += TILE) {
            int64_t place = (own.start + t) * width + h * size, seen = own.prefix + t + TILE;
            const Half* p = weights(own, shape, q, place, t, scale, work);
            int64_t vectors = (seen + LANES - 1) / LANES, end = std::min((vectors + 1) * LANES, room);
            float* tile = work.tile.data();
            Half* scores = work.grad_scores.data();
            product((const int32_t*)(grad + place), width / 2, 1, work.values.data(), room, size / 2, vectors,
                    [&](int m, int64_t s, __m512 sum) { _mm512_storeu_ps(tile + m * room + s, rounded(sum)); });
            unweigh(tile, p, room, seen, scores);
            product((const int32_t*)scores, room / 2, 1, work.keys.data(), size, vectors * LANES / 2, size / LANES,
                    [&](int m, int64_t d, __m512 sum) {
                        store_halves(grad_q + place + m * width + d, rounded(sum) * scales);
                    });
            for (int64_t m = 0; m < TILE; m += 2) {
                int64_t pair = (t + m) / 2, at = place + m * width;
                interleave(p + m * room, p + (m + 1) * room, end, work.weights.data() + pair * room);
                interleave(scores + m * room, scores + (m + 1) * room, end, work.scores.data() + pair * room);
                interleave(q + at, q + at + width, size, work.queries.data() + pair * size);
                interleave(grad + at, grad + at + width, size, work.grads.data() + pair * size);
            }
        }
        gather_back(own, shape, work.weights.data(), work.grads.data(), work.grad_values.data());
        gather_back(own, shape, work.scores.data(), work.queries.data(), work.grad_keys.data());
    }
}

// Where in `flat` the first key head of every row stands, of `each` numbers a row and key head; the end of all last.
template <typename Each>
std::vector<int64_t> places(const Row* rows, int64_t count, int64_t key_heads, Each each) {
    std::vector<int64_t> found(1, 0);
    for (int64_t n = 0; n < count; n++) found.push_back(found.back() + key_heads * each(rows[n]));
    return found;
}

}  // namespace

extern "C" {

void rows(const Row* rows, int64_t count, int64_t heads, int64_t key_heads, int64_t size, const Half* q, const Half* k,
          const Half* v, Half* out, float scale, int threads) {
    Shape shape{heads, key_heads, size};
#pragma omp parallel num_threads(threads)
    {
        Scratch work;
#pragma omp for schedule(dynamic)
        for (int64_t job = 0; job < count * key_heads; job++) {
            read(rows, rows[job / key_heads], shape, job % key_heads, q, k, v, out, scale, work);
        }
    }
}

void rows_back(const Row* rows, int64_t count, int64_t heads, int64_t key_heads, int64_t size, const Half* q,
               const Half* k, const Half* v, const Half* grad, Half* grad_q, Half* grad_k, Half* grad_v, float scale,
               int threads) {
    Shape shape{heads, key_heads, size};
    // What each row adds to its prompt: keys, then values.
    std::vector<int64_t> added = places(rows, count, key_heads, [&](const Row& row) { return 2 * row.prefix * size; });
    std::vector<float> additions(added.back());
    __m512 scales = _mm512_set1_ps(scale);
    auto one = [&](int64_t job, Scratch& work) {
        int64_t n = job / key_heads, head = job % key_heads;
        const Row& own = rows[n];
        read_back(rows, own, shape, head, q, k, v, grad, grad_q, scale, work);
        float *keys = work.grad_keys.data(), *values = work.grad_values.data();
        int64_t shared = own.prefix * size;
        if (own.prefix) {
            float* mine = additions.data() + added[n] + head * 2 * shared;
            std::memcpy(mine, keys, shared * sizeof(float));
            std::memcpy(mine + shared, values, shared * sizeof(float));
        }
        for (int64_t m = 0; m < count; m++) {
            if (rows[m].prompt != n) continue;
            int64_t numbers = rows[m].prefix * size;
            const float* theirs = additions.data() + added[m] + head * 2 * numbers;
            for (int64_t i = 0; i < numbers; i++) keys[i] += theirs[i], values[i] += theirs[numbers + i];
        }
        for (int64_t t = 0; t < own.length; t++)
            for (int64_t d = 0; d < size; d += LANES) {
                int64_t at = ((own.start + t) * key_heads + head) * size + d, from = shared + t * size + d;
                store_halves(grad_k + at, rounded(_mm512_loadu_ps(keys + from)) * scales);
                store_halves(grad_v + at, _mm512_loadu_ps(values + from));
            }
    };
#pragma omp parallel num_threads(threads)
    {
        Scratch work;
        // Those that continue a prompt before the prompts themselves.
#pragma omp for schedule(dynamic)
        for (int64_t job = 0; job < count * key_heads; job++)
            if (rows[job / key_heads].prompt >= 0) one(job, work);
#pragma omp for schedule(dynamic)
        for (int64_t job = 0; job < count * key_heads; job++)
            if (rows[job / key_heads].prompt < 0) one(job, work);
    }
}
}
