// A block of experts: router, latent space, experts grouped by who chose them, and the shared expert.
#pragma once
#include "step.h"

namespace NK_ISA {

template <class T> void Pass<T>::mix_experts(const NkBlock &block) {
    begin_experts(block);
    each(worker, 1, [&](int64_t) {
        for (int64_t row = 0; row < rows(); ++row)
            route(m(), b().scores + row * m().experts, block.correction, b().ids + row * m().chosen,
                  b().weights + row * m().chosen);
        group_pairs(m(), b(), rows(), block.to_latent.weight ? b().latent_rows : b().normed_rows);
    });
    run_experts(block);
    each(worker, rows(), [&](int64_t row) { combine(block, row); });
    if (block.from_latent.weight)
        for_chunks(block.from_latent.outputs, [&](int64_t from, int64_t to) {
            add_product(block.from_latent, b().latent_rows, from, to);
        });
}

// All that needs the norm alone: the router's scores, the way into latent space, the shared expert's first half.
template <class T> void Pass<T>::begin_experts(const NkBlock &block) {
    const NkLinear gate = {block.gate, nullptr, m().experts, m().hidden};
    int64_t gates = chunks(gate.outputs), latents = block.to_latent.weight ? chunks(block.to_latent.outputs) : 0;
    int64_t shared = block.in.weight ? chunks(block.in.outputs) : 0, d = m().hidden;
    each(worker, gates + latents + shared, [&](int64_t i) {
        if (i < gates) {
            int64_t from = i * CHUNK, to = from + CHUNK < gate.outputs ? from + CHUNK : gate.outputs;
            for (int64_t row = 0; row < rows(); ++row) {
                const float *x = b().normed + row * d;
                product(block.gate, d, from, to, &x, 1, d, [&](int64_t, int64_t o, __m128 y, int64_t n) {
                    put_four(b().scores + row * m().experts + o, y, n);
                });
            }
        } else if (i < gates + latents) {
            int64_t from = (i - gates) * CHUNK, last = block.to_latent.outputs;
            int64_t to = from + CHUNK < last ? from + CHUNK : last;
            multiply(block.to_latent, b().normed_rows, rows(), from, to, [&](int64_t row, int64_t o, __m128 y, int64_t n) {
                put_four(latent() + row * plan.width.latent + o, y, n);
            });
        } else {
            int64_t from = (i - gates - latents) * CHUNK, last = block.in.outputs;
            project_up(block, from, from + CHUNK < last ? from + CHUNK : last);
        }
    });
}

// Some outputs of one expert for all that chose it; rows count from the first pair.
template <class T>
template <class Put>
void Pass<T>::of_group(const void *weights, int64_t group, const void **x, int64_t outputs, int64_t inputs, int64_t from,
                       int64_t to, Put put) {
    int64_t first = b().group_starts[group], count = b().group_starts[group + 1] - first;
    const T *w = static_cast<const T *>(weights) + b().group_experts[group] * outputs * inputs;
    product(w, inputs, from, to, reinterpret_cast<const X *const *>(x) + first, count, inputs,
            [&](int64_t row, int64_t o, __m128 y, int64_t n) { put(first + row, o, y, n); });
}

// Both halves of the chosen experts, and beside the first one the shared expert's second half.
template <class T> void Pass<T>::run_experts(const NkBlock &block) {
    int64_t size = m().expert_size, width = m().expert_width, d = m().hidden;
    int64_t up = chunks(size), down = chunks(width), shared = block.out.weight ? chunks(d) : 0, groups = b().groups;
    each(worker, shared + groups * up, [&](int64_t i) {
        int64_t from = (i < shared ? i : (i - shared) % up) * CHUNK, to = from + CHUNK;
        if (i < shared)
            multiply(block.out, b().mixed_rows, rows(), from, to < d ? to : d, [&](int64_t row, int64_t o, __m128 y, int64_t n) {
                put_four(b().shared + row * d + o, y, n);
            });
        else
            of_group(block.experts_up, (i - shared) / up, b().pair_rows, size, width, from, to < size ? to : size,
                     [&](int64_t pair, int64_t o, __m128 y, int64_t n) {
                         put_four(inner() + pair * plan.width.inner + o, relu_squared(y), n);
                     });
    });
    each(worker, groups * down, [&](int64_t i) {
        int64_t from = i % down * CHUNK, to = from + CHUNK;
        of_group(block.experts_down, i / down, b().inner_rows, width, size, from, to < width ? to : width,
                 [&](int64_t pair, int64_t o, __m128 y, int64_t n) { put_four(b().routed + pair * width + o, y, n); });
    });
}

// A token's experts, weighed, in the order of their numbers; with the shared one to the residual stream.
template <class T> void Pass<T>::combine(const NkBlock &block, int64_t row) {
    int64_t width = m().expert_width, k = m().chosen, d = m().hidden;
    const float *weights = b().weights + row * k;
    const int64_t *places = b().pair_places + row * k;
    float *h = b().h + row * d;
    const float *shared = block.out.weight ? b().shared + row * d : nullptr;
    bool in_latent = block.from_latent.weight;
    if (shared)
        vectors(d, [&](int64_t i, int64_t n) { put(h + i, add(some(h + i, n), some(shared + i, n)), n); });
    vectors(width, [&](int64_t i, int64_t n) {
        V total = zero();
        for (int64_t j = 0; j < k; ++j) total = fma(all(weights[j]), some(b().routed + places[j] * width + i, n), total);
        if (in_latent) put(latent() + row * plan.width.latent + i, total, n);
        else put(h + i, add(some(h + i, n), total), n);
    });
}

}  // namespace NK_ISA
