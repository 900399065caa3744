// Elementwise functions and norms in FP32.
#pragma once
#include <math.h>

#include "vec.h"

namespace NK_ISA {

// e^x within 1 ulp or two; coefficients of the minimax polynomial as Cephes' expf has them.
inline V exp(V x) {
    x = greater(all(-150.0f), lesser(all(150.0f), x));
    V n = whole(mul(x, all(1.44269504088896341f)));
    V r = fma(n, all(-0.693359375f), x);
    r = fma(n, all(2.12194440e-4f), r);
    V y = all(1.9875691500e-4f);
    y = fma(y, r, all(1.3981999507e-3f));
    y = fma(y, r, all(8.3334519073e-3f));
    y = fma(y, r, all(4.1665795894e-2f));
    y = fma(y, r, all(1.6666665459e-1f));
    y = fma(y, r, all(5.0000001201e-1f));
    y = fma(y, mul(r, r), add(r, all(1.0f)));
    return scaled(y, n);
}
inline V sigmoid(V x) { return div(all(1.0f), add(all(1.0f), exp(sub(zero(), x)))); }
inline V silu(V x) { return div(x, add(all(1.0f), exp(sub(zero(), x)))); }

// As torch's: exp(-20) is below half an ulp of 20.
inline float softplus(float x) { return x > 20.0f ? x : ::log1pf(::expf(x)); }

inline float sum_of_squares(const float *x, int64_t count) {
    V total = zero();
    vectors(count, [&](int64_t i, int64_t n) {
        V v = some(x + i, n);
        total = fma(v, v, total);
    });
    return sum(total);
}

// N vectors of a weighted sum of rows: as many at once as there are, since each waits for its last addition.
template <int N, class T>
inline void add_vectors(float *out, float faded, const float *weight, const T *rows, int64_t stride, int64_t count) {
    V total[N];
    for (int v = 0; v < N; ++v) total[v] = mul(load(out + v * WIDTH), all(faded));
    for (int64_t t = 0; t < count; ++t)
        for (int v = 0; v < N; ++v) total[v] = fma(all(weight[t]), load(rows + t * stride + v * WIDTH), total[v]);
    for (int v = 0; v < N; ++v) store(out + v * WIDTH, total[v]);
}

// out (dim) ← out · faded + Σ_t weight_t · row_t, in the order of t.
template <class T>
inline void add_rows(float *out, float faded, const float *weight, const T *rows, int64_t stride, int64_t count, int64_t dim) {
    int64_t i = 0;
    for (; i + 4 * WIDTH <= dim; i += 4 * WIDTH) add_vectors<4>(out + i, faded, weight, rows + i, stride, count);
    int64_t left = (dim - i) / WIDTH;
    if (left == 3) add_vectors<3>(out + i, faded, weight, rows + i, stride, count);
    if (left == 2) add_vectors<2>(out + i, faded, weight, rows + i, stride, count);
    if (left == 1) add_vectors<1>(out + i, faded, weight, rows + i, stride, count);
    i += left * WIDTH;
    if (i == dim) return;
    V total = mul(load(out + i, dim - i), all(faded));
    for (int64_t t = 0; t < count; ++t) total = fma(all(weight[t]), load(rows + t * stride + i, dim - i), total);
    store(out + i, total, dim - i);
}

// y = x / rms(x) · weight, in FP32 and, for products, in their inputs' type.
template <class X> inline void rms_norm(const float *x, const float *weight, int64_t width, double eps, float *y, X *as_input) {
    float scale = 1.0f / ::sqrtf(sum_of_squares(x, width) / float(width) + float(eps));
    vectors(width, [&](int64_t i, int64_t n) {
        V v = mul(mul(some(x + i, n), all(scale)), some(weight + i, n));
        put(y + i, v, n);
        if ((void *)y != (void *)as_input) put(as_input + i, v, n);
    });
}

}  // namespace NK_ISA
