// What a variant of the library for one instruction set can do.
#pragma once
#include "plan.h"

#define NK_VARIANT(name)                                                                                          \
    namespace name {                                                                                              \
    void run(void *call, nk::Worker &worker);                                                                     \
    int64_t input_bytes(int64_t dtype);                                                                           \
    int64_t scratch_bytes(const NkModel &model, int64_t count);                                                   \
    void linear(int64_t dtype, const NkLinear &linear, const float *x, int64_t rows, float *y, void *room);       \
    void norm(const float *x, const float *weight, int64_t rows, int64_t width, double eps, float *y);            \
    void function(int64_t which, const float *x, int64_t count, float *y);                                        \
    void choose(const NkModel &model, const float *scores, const float *correction, int64_t rows, int64_t *ids,   \
                float *weights);                                                                                  \
    void decode_fp8(float *codes);                                                                                \
    }

NK_VARIANT(nk_avx2)
NK_VARIANT(nk_avx512)
NK_VARIANT(nk_avx512_bf16)
