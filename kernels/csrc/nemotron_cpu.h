// The C interface of the library that computes decode steps on a CPU; nemotron_kernels/native/interface.py mirrors it.
//
// Letters: t rows (tokens) of a step, b sequences, d model width, h heads, p head dim, g groups of heads that share B and
// C, n state size, r places of a ring, c channels of the convolution, k its taps.
#pragma once
#include <stdint.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

#define NK_VERSION 1

enum { NK_FP32 = 0, NK_BF16 = 1, NK_FP16 = 2, NK_INT8 = 3, NK_FP8 = 4 };
enum { NK_ISA_NONE = 0, NK_ISA_AVX2 = 1, NK_ISA_AVX512 = 2, NK_ISA_AVX512_BF16 = 3 };

// y = W·x + bias; weight (outputs, inputs) row-major in the model's type, bias FP32 or null.
typedef struct {
    const void *weight;
    const float *bias;
    int64_t outputs, inputs;
} NkLinear;

// One block and the memory it has: what its kind has no use for is null.
typedef struct {
    int64_t kind;         // the letter of the pattern
    const float *norm;    // (d)
    NkLinear in, out;     // M: in_proj, out_proj; *: qkv_proj, o_proj; -: up, down; E: the shared expert's up, down
    // M: (k, c), (c) or null, (h), (h), (h), (h · p)
    const float *conv_weight, *conv_bias, *A, *D, *dt_bias, *gate_norm;
    // M: states (slot, h, p, n) in the states' type; scales of INT8 (slot, h, ⌈p·n/128⌉); before (slot, h)
    void *states;
    float *scales;
    double *before;
    // M: taps (slot, r, c), xs (slot, h, r, p), Bs (slot, g, r, n) in the model's type; sums, keys (slot, h, r)
    void *taps, *xs, *Bs;
    double *sums, *keys;
    // *: (page, token, kv head, head dim) in the model's type, or FP8
    void *key_pages, *value_pages;
    // E: gate (e, d), correction (e); up (e, inner, width), down (e, width, inner); latent projections or null
    const float *gate, *correction;
    const void *experts_up, *experts_down;
    NkLinear to_latent, from_latent;
} NkBlock;

typedef struct {
    int64_t dtype, state_dtype, kv_dtype;
    int64_t hidden, vocabulary, blocks;
    int64_t heads, head_dim, state_size, groups, taps;
    int64_t query_heads, kv_heads, attention_dim, page_tokens;
    int64_t experts, chosen, expert_size, expert_width, router_groups, router_top_groups, normalize;
    int64_t ring, block_tokens;
    double eps, router_scale;
    const void *embeddings;  // (vocabulary, d)
    const float *norm;       // (d)
    NkLinear head;
    const NkBlock *block;
} NkModel;

// The same few new tokens or other ones of each of b sequences; rows lie sequence by sequence.
typedef struct {
    int64_t rows, sequences, yields, table_width;
    const int64_t *tokens;   // (t)
    const int64_t *counts;   // (b) new tokens of each
    const int64_t *slots;    // (b)
    const int64_t *starts;   // (b) position of the first new token
    const int64_t *anchors;  // (b) tokens that the state holds, once what is due is committed
    const int64_t *commits;  // (b) 1 where the anchor moves on by a block first
    const int64_t *tables;   // (b, table_width) page ids
    const int64_t *yield;    // (yields) rows whose logits are wanted
    float *logits;           // (yields, vocabulary)
    float *normed;           // (t, d) all rows after the final norm, or null
} NkStep;

typedef struct NkPlan NkPlan;

int64_t nk_version(void);
// Bytes of the structures as this library has them: 0 NkLinear, 1 NkBlock, 2 NkModel, 3 NkStep.
int64_t nk_sizeof(int64_t which);
// The best instruction set of this processor, one of NK_ISA_*.
int64_t nk_isa(void);
// A plan, whose model's tensors must outlive it, and threads - 1 threads; null where memory or threads are refused.
NkPlan *nk_open(const NkModel *model, int64_t threads, int64_t isa);
// 0, or -1 where memory is refused; then nothing was written.
int64_t nk_step(NkPlan *plan, const NkStep *step);
void nk_close(NkPlan *plan);

// Single operations, for tests and measurements. Rows x (t, inputs), y (t, outputs) are FP32.
int64_t nk_linear(int64_t isa, int64_t dtype, const NkLinear *linear, const float *x, int64_t rows, float *y);
int64_t nk_rms_norm(int64_t isa, const float *x, const float *weight, int64_t rows, int64_t width, double eps, float *y);
// which: 0 exp, 1 sigmoid, 2 silu
int64_t nk_function(int64_t isa, int64_t which, const float *x, int64_t count, float *y);
// scores (t, experts) before the sigmoid → ids (t, chosen) ascending, weights (t, chosen)
int64_t nk_route(int64_t isa, const NkModel *model, const float *scores, const float *correction, int64_t rows,
                 int64_t *ids, float *weights);

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop
