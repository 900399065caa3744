// Choose experts by biased sigmoid scores, weigh them by the unbiased ones; ties go to the lower index.
//
// Source: DeepSeek-V3 (arXiv 2412.19437) §2.1.2, as nemotron_kernels.router has it.
#pragma once
#include "functions.h"
#include "plan.h"

namespace NK_ISA {

constexpr int64_t MOST_EXPERTS = 1024;

// Mark the `count` largest of `size` numbers; `marked` is not looked at for what is excluded already.
inline void mark_largest(const float *values, int64_t size, int64_t count, const bool *excluded, bool *marked) {
    for (int64_t i = 0; i < size; ++i) marked[i] = false;
    for (int64_t c = 0; c < count; ++c) {
        int64_t best = -1;
        for (int64_t i = 0; i < size; ++i)
            if (!marked[i] && !(excluded && excluded[i]) && (best < 0 || values[i] > values[best])) best = i;
        if (best >= 0) marked[best] = true;
    }
}

// Experts of all but the groups whose two best score highest together.
inline void exclude(const NkModel &m, const float *choice, bool *excluded) {
    int64_t members = m.experts / m.router_groups;
    float group[MOST_EXPERTS];
    bool best[MOST_EXPERTS];
    for (int64_t g = 0; g < m.router_groups; ++g) {
        float first = -INFINITY, second = -INFINITY;
        for (int64_t i = g * members; i < (g + 1) * members; ++i) {
            if (choice[i] > first) second = first, first = choice[i];
            else if (choice[i] > second) second = choice[i];
        }
        group[g] = members > 1 ? first + second : first;
    }
    mark_largest(group, m.router_groups, m.router_top_groups, nullptr, best);
    for (int64_t i = 0; i < m.experts; ++i) excluded[i] = !best[i / members];
}

// scores (experts) before the sigmoid → ids (chosen), ascending, and their weights.
inline void route(const NkModel &m, const float *scores, const float *correction, int64_t *ids, float *weights) {
    float each[MOST_EXPERTS], choice[MOST_EXPERTS];
    bool excluded[MOST_EXPERTS], marked[MOST_EXPERTS];
    vectors(m.experts, [&](int64_t i, int64_t n) {
        V score = sigmoid(some(scores + i, n));
        put(each + i, score, n);
        put(choice + i, add(score, some(correction + i, n)), n);
    });
    bool in_groups = m.router_top_groups < m.router_groups;
    if (in_groups) exclude(m, choice, excluded);
    mark_largest(choice, m.experts, m.chosen, in_groups ? excluded : nullptr, marked);
    float total = 0.0f;
    for (int64_t i = 0, k = 0; i < m.experts && k < m.chosen; ++i)
        if (marked[i]) {
            ids[k] = i;
            weights[k++] = each[i];
            total += each[i];
        }
    float scale = m.normalize ? float(m.router_scale) / (total + 1e-20f) : float(m.router_scale);
    for (int64_t k = 0; k < m.chosen; ++k) weights[k] *= scale;
}

// Put the pairs of token and expert together by expert, in the order of the tokens.
inline void group_pairs(const NkModel &m, NkBuffers &b, int64_t rows, const void *const *inputs) {
    int64_t count[MOST_EXPERTS + 1] = {};
    for (int64_t i = 0; i < rows * m.chosen; ++i) ++count[b.ids[i] + 1];
    b.groups = 0;
    for (int64_t e = 0; e < m.experts; ++e) {
        if (count[e + 1]) {
            b.group_experts[b.groups] = e;
            b.group_starts[b.groups++] = count[e];
        }
        count[e + 1] += count[e];
    }
    b.group_starts[b.groups] = rows * m.chosen;
    for (int64_t i = 0; i < rows * m.chosen; ++i) {
        int64_t place = count[b.ids[i]]++;
        b.pair_places[i] = place;
        b.pair_rows[place] = inputs[i / m.chosen];
    }
}

}  // namespace NK_ISA
