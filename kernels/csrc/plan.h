// What a plan holds between steps: the model, its threads, and room for everything that a step computes.
#pragma once
#include "nemotron_cpu.h"
#include "team.h"

// Where rows of intermediate values lie; `*_in` are inputs of products, in the type that those take.
struct NkBuffers {
    int64_t rows, counts;  // what there is room for: rows of a step, and new tokens of one sequence
    float *h, *normed, *wide, *scores, *routed, *shared;
    char *normed_in, *mixed_in, *latent_in, *inner_in;
    float *weights;
    int64_t *ids, *first_rows;
    int64_t *group_experts, *group_starts, groups;  // experts that were chosen, and where their rows begin
    int64_t *pair_places;                           // (t, chosen) where each pair of token and expert lies
    const void **normed_rows, **mixed_rows, **latent_rows, **inner_rows, **pair_rows, **yield_rows;
};

// The widest of each kind of row in any block, in elements.
struct NkWidths {
    int64_t wide, mixed, latent, inner;
};

struct NkPlan {
    NkModel model;
    NkBlock *blocks;
    NkWidths width;
    int64_t isa, input_bytes, scratch_bytes;
    nk::Team team;
    NkBuffers buffer;
    float codes[256];  // what each byte of FP8 stands for
    char *arena;
    int64_t arena_bytes;
};

struct NkCall {
    NkPlan *plan;
    const NkStep *step;
};
