// The library's C interface: which variant this processor takes, and the room that plans have.
#include <stdlib.h>
#include <string.h>

#include "variant.h"

namespace {

struct Variant {
    nk::Work run;
    int64_t (*input_bytes)(int64_t);
    int64_t (*scratch_bytes)(const NkModel &, int64_t);
    void (*linear)(int64_t, const NkLinear &, const float *, int64_t, float *, void *);
    void (*norm)(const float *, const float *, int64_t, int64_t, double, float *);
    void (*function)(int64_t, const float *, int64_t, float *);
    void (*choose)(const NkModel &, const float *, const float *, int64_t, int64_t *, float *);
    void (*decode_fp8)(float *);
};

#define NK_TABLE(name) \
    {name::run, name::input_bytes, name::scratch_bytes, name::linear, name::norm, name::function, name::choose, name::decode_fp8}

const Variant VARIANTS[] = {{}, NK_TABLE(nk_avx2), NK_TABLE(nk_avx512), NK_TABLE(nk_avx512_bf16)};

constexpr int64_t LINE = 64;

int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

NkWidths widths(const NkModel &m) {
    NkWidths width = {1, 1, larger(1, m.expert_width), larger(1, m.expert_size)};
    for (int64_t i = 0; i < m.blocks; ++i) {
        const NkBlock &block = m.block[i];
        if (block.kind == 'M' || block.kind == '*') width.wide = larger(width.wide, block.in.outputs);
        width.mixed = larger(width.mixed, block.out.inputs);
    }
    return width;
}

// Hands out memory in lines; with no memory it only counts.
struct Room {
    char *base;
    int64_t used = 0;

    template <class T> void take(T *&pointer, int64_t bytes) {
        pointer = base ? reinterpret_cast<T *>(base + used) : nullptr;
        used += (bytes + LINE - 1) / LINE * LINE;
    }
};

int64_t divide(NkPlan &plan, char *base, int64_t rows, int64_t counts) {
    const NkModel &m = plan.model;
    NkBuffers &b = plan.buffer;
    int64_t x = plan.input_bytes, pairs = rows * m.chosen, pointer = sizeof(void *), number = sizeof(int64_t);
    Room room{base};
    room.take(b.h, rows * m.hidden * 4);
    room.take(b.normed, rows * m.hidden * 4);
    if (x == 4) b.normed_in = reinterpret_cast<char *>(b.normed);
    else room.take(b.normed_in, rows * m.hidden * x);
    room.take(b.wide, rows * plan.width.wide * 4);
    room.take(b.mixed_in, rows * plan.width.mixed * x);
    room.take(b.latent_in, rows * plan.width.latent * x);
    room.take(b.inner_in, pairs * plan.width.inner * x);
    room.take(b.routed, pairs * m.expert_width * 4);
    room.take(b.shared, rows * m.hidden * 4);
    room.take(b.scores, rows * m.experts * 4);
    room.take(b.weights, pairs * 4);
    room.take(b.ids, pairs * number);
    room.take(b.pair_places, pairs * number);
    room.take(b.first_rows, rows * number);
    room.take(b.group_experts, m.experts * number);
    room.take(b.group_starts, (m.experts + 1) * number);
    room.take(b.normed_rows, rows * pointer);
    room.take(b.mixed_rows, rows * pointer);
    room.take(b.latent_rows, rows * pointer);
    room.take(b.yield_rows, rows * pointer);
    room.take(b.inner_rows, pairs * pointer);
    room.take(b.pair_rows, pairs * pointer);
    for (int64_t i = 0; i < plan.team.size; ++i) room.take(plan.team.workers[i].scratch, plan.scratch_bytes);
    b.rows = rows;
    b.counts = counts;
    return room.used;
}

void point(const void **pointers, const char *base, int64_t count, int64_t bytes) {
    for (int64_t i = 0; i < count; ++i) pointers[i] = base + i * bytes;
}

// Room for a step of so many rows, and so many new tokens of a sequence; false where memory is refused.
bool reserve(NkPlan &plan, int64_t rows, int64_t counts) {
    NkBuffers &b = plan.buffer;
    if (rows <= b.rows && counts <= b.counts) return true;
    rows = larger(rows, b.rows);
    counts = larger(counts, b.counts);
    plan.scratch_bytes = VARIANTS[plan.isa].scratch_bytes(plan.model, counts);
    int64_t bytes = divide(plan, nullptr, rows, counts);
    free(plan.arena);
    plan.arena = static_cast<char *>(aligned_alloc(size_t(LINE), size_t(bytes)));
    if (!plan.arena) {
        b.rows = b.counts = 0;
        return false;
    }
    divide(plan, plan.arena, rows, counts);
    int64_t x = plan.input_bytes;
    point(b.normed_rows, b.normed_in, rows, plan.model.hidden * x);
    point(b.mixed_rows, b.mixed_in, rows, plan.width.mixed * x);
    point(b.latent_rows, b.latent_in, rows, plan.width.latent * x);
    point(b.inner_rows, b.inner_in, rows * plan.model.chosen, plan.width.inner * x);
    return true;
}

}  // namespace

extern "C" {

int64_t nk_version(void) { return NK_VERSION; }

int64_t nk_sizeof(int64_t which) {
    const int64_t sizes[] = {sizeof(NkLinear), sizeof(NkBlock), sizeof(NkModel), sizeof(NkStep)};
    return which >= 0 && which < 4 ? sizes[which] : -1;
}

int64_t nk_isa(void) {
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (!avx2) return NK_ISA_NONE;
    if (!avx512) return NK_ISA_AVX2;
    return __builtin_cpu_supports("avx512bf16") ? NK_ISA_AVX512_BF16 : NK_ISA_AVX512;
}

NkPlan *nk_open(const NkModel *model, int64_t threads, int64_t isa) {
    NkPlan *plan = static_cast<NkPlan *>(aligned_alloc(LINE, sizeof(NkPlan)));
    if (!plan) return nullptr;
    memset(static_cast<void *>(plan), 0, sizeof(NkPlan));
    plan->team = nk::Team();
    plan->model = *model;
    plan->width = widths(*model);
    plan->isa = isa;
    plan->input_bytes = VARIANTS[isa].input_bytes(model->dtype);
    VARIANTS[isa].decode_fp8(plan->codes);
    plan->blocks = static_cast<NkBlock *>(malloc(size_t(model->blocks) * sizeof(NkBlock)));
    if (plan->blocks) memcpy(plan->blocks, model->block, size_t(model->blocks) * sizeof(NkBlock));
    if (nk::open(plan->team, threads) && plan->blocks) return plan;
    nk_close(plan);
    return nullptr;
}

int64_t nk_step(NkPlan *plan, const NkStep *step) {
    int64_t most = 1;
    for (int64_t i = 0; i < step->sequences; ++i) most = larger(most, step->counts[i]);
    if (!reserve(*plan, step->rows, most)) return -1;
    NkBuffers &b = plan->buffer;
    for (int64_t i = 0, row = 0; i < step->sequences; row += step->counts[i++]) b.first_rows[i] = row;
    for (int64_t i = 0; i < step->yields; ++i) b.yield_rows[i] = b.normed_rows[step->yield[i]];
    NkCall call = {plan, step};
    nk::together(plan->team, VARIANTS[plan->isa].run, &call);
    return 0;
}

void nk_close(NkPlan *plan) {
    nk::close(plan->team);
    free(plan->blocks);
    free(plan->arena);
    free(plan);
}

int64_t nk_linear(int64_t isa, int64_t dtype, const NkLinear *linear, const float *x, int64_t rows, float *y) {
    void *room = malloc(size_t(rows) * (sizeof(void *) + size_t(linear->inputs) * sizeof(float)) + LINE);
    if (!room) return -1;
    VARIANTS[isa].linear(dtype, *linear, x, rows, y, room);
    free(room);
    return 0;
}

int64_t nk_rms_norm(int64_t isa, const float *x, const float *weight, int64_t rows, int64_t width, double eps, float *y) {
    VARIANTS[isa].norm(x, weight, rows, width, eps, y);
    return 0;
}

int64_t nk_function(int64_t isa, int64_t which, const float *x, int64_t count, float *y) {
    VARIANTS[isa].function(which, x, count, y);
    return 0;
}

int64_t nk_route(int64_t isa, const NkModel *model, const float *scores, const float *correction, int64_t rows, int64_t *ids,
                 float *weights) {
    VARIANTS[isa].choose(*model, scores, correction, rows, ids, weights);
    return 0;
}
}
