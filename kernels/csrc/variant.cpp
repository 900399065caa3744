// Everything that is compiled once per instruction set.
#include "variant.h"

#include "experts.h"

namespace NK_ISA {

void run(void *argument, nk::Worker &worker) {
    NkCall &call = *static_cast<NkCall *>(argument);
    const float *codes = call.plan->codes;
    if (call.plan->model.dtype == NK_BF16) Pass<bf16>{*call.plan, *call.step, worker, codes}.run();
    else Pass<float>{*call.plan, *call.step, worker, codes}.run();
}

int64_t input_bytes(int64_t dtype) { return dtype == NK_BF16 ? sizeof(Input<bf16>) : sizeof(float); }

int64_t scratch_bytes(const NkModel &model, int64_t count) {
    int64_t mamba = MambaScratch(Pieces{nullptr}, model, count).bytes;
    int64_t attention = AttentionScratch(Pieces{nullptr}, model, count).bytes;
    return mamba > attention ? mamba : attention;
}

template <class T> static void multiply(const NkLinear &linear, const float *x, int64_t rows, float *y, void *room) {
    using X = Input<T>;
    const X **pointers = static_cast<const X **>(room);
    X *inputs = reinterpret_cast<X *>(pointers + rows);
    for (int64_t row = 0; row < rows; ++row) {
        pointers[row] = inputs + row * linear.inputs;
        for (int64_t i = 0; i < linear.inputs; ++i) narrow(x[row * linear.inputs + i], inputs[row * linear.inputs + i]);
    }
    product(static_cast<const T *>(linear.weight), linear.inputs, 0, linear.outputs, pointers, rows, linear.inputs,
            [&](int64_t row, int64_t o, __m128 four, int64_t n) {
                if (linear.bias) four = _mm_add_ps(four, take_four(linear.bias + o, n));
                put_four(y + row * linear.outputs + o, four, n);
            });
}

void linear(int64_t dtype, const NkLinear &linear, const float *x, int64_t rows, float *y, void *room) {
    if (dtype == NK_BF16) multiply<bf16>(linear, x, rows, y, room);
    else multiply<float>(linear, x, rows, y, room);
}

void norm(const float *x, const float *weight, int64_t rows, int64_t width, double eps, float *y) {
    for (int64_t row = 0; row < rows; ++row) rms_norm(x + row * width, weight, width, eps, y + row * width, y + row * width);
}

void function(int64_t which, const float *x, int64_t count, float *y) {
    vectors(count, [&](int64_t i, int64_t n) {
        V v = some(x + i, n);
        put(y + i, which == 0 ? exp(v) : which == 1 ? sigmoid(v) : silu(v), n);
    });
}

void choose(const NkModel &model, const float *scores, const float *correction, int64_t rows, int64_t *ids, float *weights) {
    for (int64_t row = 0; row < rows; ++row)
        route(model, scores + row * model.experts, correction, ids + row * model.chosen, weights + row * model.chosen);
}

void decode_fp8(float *codes) {
    for (int code = 0; code < 256; ++code) codes[code] = from_e4m3(uint8_t(code));
}

}  // namespace NK_ISA
