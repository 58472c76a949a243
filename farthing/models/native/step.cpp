// A whole decoding step of a dense model that computes in bfloat16, with weights in bfloat16 or of 8 bits: from one token
// a row to the logits of the next, or to itself.
//
// The threads go through the layers together and wait for each other after every phase: rows are shared out in the
// phases between products, blocks of rows and outputs in the products, key heads of rows in attention. `step.py` says
// what the arguments are: the first `drawing` rows have logits, those behind them are earlier tokens of the same places.

#include "product.h"
#include "whole.h"

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__)
#include <omp.h>

#include <memory>

#include "attention.h"
#include "head.h"

namespace {

// P: Product or Whole. R: what the residual stream, the embedding and the gains are kept in.
template <typename P, typename R>
struct Layer {
    const R *input_gain, *post_gain, *q_gain, *k_gain;
    const P *qkv, *out, *gate_up, *down;
};

// What is pointed to is said by the function that is called.
struct Model {
    const void *layers, *head, *embedding, *gain;
    int64_t num_layers, hidden, queries, keys, size, intermediate, vocabulary;
    float eps, scale;
};

struct Batch {
    const int64_t *tokens, *lengths, *places, *order, *donors, *shared;
    const bf16 *cos, *sin;
    bf16 *keys, *values;
    int64_t rows, drawing, room, layer_stride;
    float* logits;
    const double* uniform;
    int64_t* drawn;
    float* logprobs;
};

// Rows of everything that passes from one phase to the next; each is written before it is read.
template <typename R>
struct Between {
    std::unique_ptr<R[]> stream;
    std::unique_ptr<bf16[]> normed, qkv, read, gated, change;
    std::unique_ptr<uint8_t[]> numbers;
    std::unique_ptr<float[]> scales;

    Between(const Model& m, int64_t rows)
        : stream(new R[rows * m.hidden]), normed(new bf16[rows * m.hidden]),
          qkv(new bf16[rows * (m.queries + 2 * m.keys) * m.size]), read(new bf16[rows * m.queries * m.size]),
          gated(new bf16[rows * m.intermediate]), change(new bf16[rows * m.hidden]),
          numbers(new uint8_t[rows * (std::max({m.hidden, m.queries * m.size, m.intermediate}) + PIECE)]),
          scales(new float[rows]) {}
};

// One thread of those that go through the layers, and where they round rows.
struct Worker {
    int64_t rows;
    int thread, threads;
    WholeRows rounded;
};

// The products: each thread does its share, and nobody waits for the others in the end.
inline void apply(const Worker& w, const bf16* x, const Product& product, bf16* out) {
    multiply(x, product.inputs, product, out, product.outputs, w.rows, w.thread, w.threads);
}

inline void apply_gated(const Worker& w, const bf16* x, const Product& product, bf16* out) {
    multiply_gated(x, product.inputs, product, out, product.outputs / 2, w.rows, w.thread, w.threads);
}

// The head in float32: what it reads takes the place of `stream`.
inline void apply_head(const Worker& w, const bf16* x, const Model& m, const float& head, float* stream, float* out) {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < w.rows * m.hidden; i++) stream[i] = wide(x[i]);
    multiply_wide(stream, &head, m.hidden, m.vocabulary, out, w.rows, w.thread, w.threads);
}

// The same in bfloat16, as the weight is.
inline void apply_head(const Worker& w, const bf16* x, const Model& m, const bf16& head, bf16*, float* out) {
    multiply_wide(x, &head, m.hidden, m.vocabulary, out, w.rows, w.thread, w.threads);
}

inline void round_rows(const Worker& w, const bf16* x, const Whole& product) {
#pragma omp for schedule(static)
    for (int64_t n = 0; n < w.rows; n++) round_row(x + n * product.inputs, product, w.rounded, n);
}

inline void apply(const Worker& w, const bf16* x, const Whole& product, bf16* out) {
    round_rows(w, x, product);
    multiply(w.rounded, product, out, w.thread, w.threads);
}

inline void apply_gated(const Worker& w, const bf16* x, const Whole& product, bf16* out) {
    round_rows(w, x, product);
    multiply_gated(w.rounded, product, out, w.thread, w.threads);
}

template <typename R>
inline void apply_head(const Worker& w, const bf16* x, const Model&, const Whole& head, R*, float* out) {
    round_rows(w, x, head);
    multiply(w.rounded, head, out, w.thread, w.threads);
}

inline int64_t start_of(const Model& m, const Batch& batch, int64_t layer, int64_t place, int64_t h) {
    return layer * batch.layer_stride + (place * m.keys + h) * batch.room * m.size;
}

// One key head of one row: where it lies in what was computed for the row, and in its place.
struct Spot {
    int64_t n, h, at, own, donor;
    bf16* row;

    Spot(const Model& m, const Batch& batch, int64_t layer, int64_t job, bf16* qkv)
        : n(batch.order[job / m.keys]), h(job % m.keys), at(batch.lengths[n]),
          own(start_of(m, batch, layer, batch.places[n], h)), donor(start_of(m, batch, layer, batch.donors[n], h)),
          row(qkv + n * (m.queries + 2 * m.keys) * m.size) {}
};

// Turned, and written to its place.
template <typename P, typename R>
void write_head(const Model& m, const Layer<P, R>& layer, const Batch& batch, const Spot& spot, float* head) {
    int64_t here = spot.own + spot.at * m.size, turn = spot.at * m.size / 2;
    norm_rotate_head(spot.row + (m.queries + spot.h) * m.size, layer.k_gain, batch.cos + turn, batch.sin + turn,
                     batch.keys + here, m.size, m.eps, head);
    std::memcpy(batch.values + here, spot.row + (m.queries + m.keys + spot.h) * m.size, m.size * sizeof(bf16));
}

// Read by its queries.
template <typename P, typename R>
void read_head(const Model& m, const Layer<P, R>& layer, const Batch& batch, const Spot& spot, bf16* read,
               ReadGroup<bf16> read_group, Scratch<bf16>& scratch) {
    int64_t group = m.queries / m.keys, first = spot.h * group, turn = spot.at * m.size / 2;
    bf16* q = spot.row + first * m.size;
    for (int64_t g = 0; g < group; g++)
        norm_rotate_head(q + g * m.size, layer.q_gain, batch.cos + turn, batch.sin + turn, q + g * m.size, m.size,
                         m.eps, scratch.read.data());
    Cache<bf16> cache{batch.keys + spot.own,    batch.values + spot.own,   batch.keys + spot.donor,
                      batch.values + spot.donor, batch.shared[spot.n], spot.at + 1};
    read_group(group, q, cache, read + (spot.n * m.queries + first) * m.size, m.scale, scratch);
}

// Every key head of every row. Rows of one place read each other, so all are written before the first is read; otherwise
// each is read by the thread that has just written it.
template <typename P, typename R>
void attend(const Model& m, const Layer<P, R>& layer, const Batch& batch, int64_t index, bf16* qkv, bf16* read,
            ReadGroup<bf16> read_group, Scratch<bf16>& scratch, int threads) {
    int64_t jobs = batch.rows * m.keys;
    int chunk = std::max<int64_t>(1, std::min<int64_t>(4, jobs / (4 * threads)));
    bool apart = batch.rows == batch.drawing;
    if (!apart) {
#pragma omp for schedule(static)
        for (int64_t job = 0; job < jobs; job++)
            write_head(m, layer, batch, Spot(m, batch, index, job, qkv), scratch.read.data());
    }
#pragma omp for schedule(dynamic, chunk)
    for (int64_t job = 0; job < jobs; job++) {
        Spot spot(m, batch, index, job, qkv);
        if (apart) write_head(m, layer, batch, spot, scratch.read.data());
        read_head(m, layer, batch, spot, read, read_group, scratch);
    }
}

// The stream takes in a change, or begins as the tokens' embeddings, and its norm becomes what is computed next.
template <typename R>
void renew(const Model& m, const Batch& batch, const R* gain, const bf16* change, R* stream, bf16* out) {
    std::vector<float> row(m.hidden);
#pragma omp for schedule(static)
    for (int64_t n = 0; n < batch.rows; n++) {
        R* x = stream + n * m.hidden;
        const bf16* change_n = change ? change + n * m.hidden : nullptr;
        if (!change)
            std::memcpy(x, static_cast<const R*>(m.embedding) + batch.tokens[n] * m.hidden, m.hidden * sizeof(R));
        add_norm_row(x, change_n, gain, x, out + n * m.hidden, m.hidden, m.eps, row.data());
    }
}

// What is drawn from the logits.
void draw_rows(const Model& m, const Batch& batch) {
    std::vector<float> mass(m.vocabulary);
#pragma omp barrier
#pragma omp for schedule(static)
    for (int64_t n = 0; n < batch.drawing; n++)
        draw_row(batch.logits + n * m.vocabulary, batch.uniform[n], m.vocabulary, mass.data(), batch.drawn[n],
                 batch.logprobs[n]);
}

// H: what the head's weight is made of.
template <typename P, typename H, typename R>
void share(const Model& m, const Batch& batch, Between<R>& between, int thread, int threads) {
    auto working_on = [&](int64_t rows) {
        return Worker{rows, thread, threads, {between.numbers.get(), between.scales.get(), Blocks(rows, WHOLE_ROWS)}};
    };
    Worker worker = working_on(batch.rows);
    R* stream = between.stream.get();
    bf16 *normed = between.normed.get(), *qkv = between.qkv.get(), *read = between.read.get();
    bf16 *gated = between.gated.get(), *change = between.change.get();
    ReadGroup<bf16> read_group = reader<bf16>(m.size);
    Scratch<bf16> scratch(batch.room, m.size);
    for (int64_t index = 0; index < m.num_layers; index++) {
        const Layer<P, R>& layer = static_cast<const Layer<P, R>*>(m.layers)[index];
        renew(m, batch, layer.input_gain, index ? change : nullptr, stream, normed);
        apply(worker, normed, *layer.qkv, qkv);
#pragma omp barrier
        attend(m, layer, batch, index, qkv, read, read_group, scratch, threads);
        apply(worker, read, *layer.out, change);
#pragma omp barrier
        renew(m, batch, layer.post_gain, change, stream, normed);
        apply_gated(worker, normed, *layer.gate_up, gated);
#pragma omp barrier
        apply(worker, gated, *layer.down, change);
#pragma omp barrier
    }
    renew(m, batch, static_cast<const R*>(m.gain), change, stream, normed);
    apply_head(working_on(batch.drawing), normed, m, *static_cast<const H*>(m.head), stream, batch.logits);
    if (batch.uniform) draw_rows(m, batch);
}

template <typename P, typename H, typename R>
void decode(const Model& model, const Batch& batch, int threads) {
    Between<R> between(model, batch.rows);
#pragma omp parallel num_threads(threads)
    share<P, H, R>(model, batch, between, omp_get_thread_num(), omp_get_num_threads());
}

}  // namespace

extern "C" {

void decode_pairs_f(const Model* model, const Batch* batch, int threads) {
    decode<Product, float, float>(*model, *batch, threads);
}

void decode_pairs_b(const Model* model, const Batch* batch, int threads) {
    decode<Product, bf16, bf16>(*model, *batch, threads);
}

void decode_whole_f(const Model* model, const Batch* batch, int threads) {
    decode<Whole, Whole, float>(*model, *batch, threads);
}

void decode_whole_b(const Model* model, const Batch* batch, int threads) {
    decode<Whole, Whole, bf16>(*model, *batch, threads);
}

// Weights [outputs, inputs] into strips, see product.h.
void to_strips(const bf16* weight, bf16* strips, int64_t inputs, int64_t outputs, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t strip = 0; strip < outputs / LANES; strip++)
        for (int64_t i = 0; i < inputs; i += 2)
            for (int64_t lane = 0; lane < LANES; lane++)
                std::memcpy(strips + (strip * inputs + i) * LANES + 2 * lane,
                            weight + (strip * LANES + lane) * inputs + i, 2 * sizeof(bf16));
}

// out [rows, outputs] = x [rows, inputs] W^T + b; the rows of `x` lie `stride` apart.
void product(const bf16* x, int64_t stride, const Product* weights, bf16* out, int64_t rows, int threads) {
#pragma omp parallel num_threads(threads)
    multiply(x, stride, *weights, out, weights->outputs, rows, omp_get_thread_num(), omp_get_num_threads());
}
}

#endif
