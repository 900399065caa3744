// One step: from tokens to logits, all threads side by side.
#pragma once
#include "attention.h"
#include "mamba.h"
#include "route.h"

namespace NK_ISA {

// Outputs that a thread takes at once.
constexpr int64_t CHUNK = 32;

inline int64_t chunks(int64_t outputs) { return (outputs + CHUNK - 1) / CHUNK; }

// One step of one model, as one of its threads goes through it.
template <class T> struct Pass {
    using X = Input<T>;

    NkPlan &plan;
    const NkStep &step;
    nk::Worker &worker;
    const float *codes;

    const NkModel &m() const { return plan.model; }
    NkBuffers &b() const { return plan.buffer; }
    int64_t rows() const { return step.rows; }
    X *normed() const { return reinterpret_cast<X *>(b().normed_in); }
    X *mixed() const { return reinterpret_cast<X *>(b().mixed_in); }
    X *latent() const { return reinterpret_cast<X *>(b().latent_in); }
    X *inner() const { return reinterpret_cast<X *>(b().inner_in); }

    void run() {
        embed();
        for (int64_t i = 0; i < m().blocks; ++i) mix(plan.blocks[i]);
        norm(m().norm);
        if (step.normed && worker.number == 0)
            memcpy(step.normed, b().normed, size_t(rows() * m().hidden) * sizeof(float));
        for_chunks(m().head.outputs, [&](int64_t from, int64_t to) {
            multiply(m().head, b().yield_rows, step.yields, from, to, [&](int64_t i, int64_t o, __m128 y, int64_t n) {
                put_four(step.logits + i * m().head.outputs + o, y, n);
            });
        });
    }

  private:
    template <class F> void for_chunks(int64_t outputs, F f) {
        each(worker, chunks(outputs), [&](int64_t i) {
            int64_t to = (i + 1) * CHUNK;
            f(i * CHUNK, to < outputs ? to : outputs);
        });
    }

    // Some outputs of a product with its bias: put(row, output, four of them, how many count).
    template <class Put>
    void multiply(const NkLinear &linear, const void **x, int64_t rows, int64_t from, int64_t to, Put put) {
        const float *bias = linear.bias;
        product(static_cast<const T *>(linear.weight), linear.inputs, from, to, reinterpret_cast<const X *const *>(x), rows,
                linear.inputs, [&](int64_t row, int64_t o, __m128 y, int64_t n) {
                    put(row, o, bias ? _mm_add_ps(y, take_four(bias + o, n)) : y, n);
                });
    }

    void embed() {
        int64_t d = m().hidden;
        each(worker, rows(), [&](int64_t row) {
            const T *from = static_cast<const T *>(m().embeddings) + step.tokens[row] * d;
            vectors(d, [&](int64_t i, int64_t n) { put(b().h + row * d + i, some(from + i, n), n); });
        });
    }

    void norm(const float *weight) {
        int64_t d = m().hidden;
        each(worker, rows(), [&](int64_t row) {
            rms_norm(b().h + row * d, weight, d, m().eps, b().normed + row * d, normed() + row * d);
        });
    }

    void mix(const NkBlock &block) {
        norm(block.norm);
        switch (block.kind) {
        case 'M': return mix_mamba(block);
        case '*': return mix_attention(block);
        case 'E': return mix_experts(block);
        default: return mix_mlp(block);
        }
    }

    void project_in(const NkBlock &block) {
        for_chunks(block.in.outputs, [&](int64_t from, int64_t to) { project_in(block, from, to); });
    }
    void project_in(const NkBlock &block, int64_t from, int64_t to) {
        multiply(block.in, b().normed_rows, rows(), from, to, [&](int64_t row, int64_t o, __m128 y, int64_t n) {
            put_four(b().wide + row * plan.width.wide + o, y, n);
        });
    }
    void project_up(const NkBlock &block, int64_t from, int64_t to) {
        multiply(block.in, b().normed_rows, rows(), from, to, [&](int64_t row, int64_t o, __m128 y, int64_t n) {
            put_four(mixed() + row * plan.width.mixed + o, relu_squared(y), n);
        });
    }
    void project_out(const NkBlock &block) {
        for_chunks(block.out.outputs, [&](int64_t from, int64_t to) { add_product(block.out, b().mixed_rows, from, to); });
    }
    void add_product(const NkLinear &linear, const void **x, int64_t from, int64_t to) {
        multiply(linear, x, rows(), from, to, [&](int64_t row, int64_t o, __m128 y, int64_t n) {
            float *h = b().h + row * m().hidden + o;
            put_four(h, _mm_add_ps(take_four(h, n), y), n);
        });
    }

    void mix_mamba(const NkBlock &block) {
        project_in(block);
        MambaScratch scratch(Pieces{worker.scratch}, m(), b().counts);
        each(worker, step.sequences * m().groups, [&](int64_t i) {
            int64_t s = i / m().groups;
            Group<T> group{m(), block, b(), plan.width.wide, plan.width.mixed, b().first_rows[s], step.counts[s],
                           step.slots[s], step.starts[s], step.anchors[s], i % m().groups, scratch};
            mix_group(group, step.commits[s] != 0);
        });
        project_out(block);
    }

    void mix_attention(const NkBlock &block) {
        project_in(block);
        AttentionScratch scratch(Pieces{worker.scratch}, m(), b().counts);
        each(worker, step.sequences * m().kv_heads, [&](int64_t i) {
            int64_t s = i / m().kv_heads;
            Head<T> head{m(), block, b(), step.tables + s * step.table_width, plan.width.wide, plan.width.mixed,
                         b().first_rows[s], step.counts[s], step.starts[s], i % m().kv_heads, codes, scratch};
            attend(head);
        });
        project_out(block);
    }

    void mix_mlp(const NkBlock &block) {
        for_chunks(block.in.outputs, [&](int64_t from, int64_t to) { project_up(block, from, to); });
        project_out(block);
    }

    void mix_experts(const NkBlock &block);
    void begin_experts(const NkBlock &block);
    void run_experts(const NkBlock &block);
    void combine(const NkBlock &block, int64_t row);
    template <class Put> void of_group(const void *weights, int64_t group, const void **x, int64_t outputs, int64_t inputs,
                                       int64_t from, int64_t to, Put put);
};

}  // namespace NK_ISA
