// A Mamba-2 block's middle, one group of heads of one sequence at a time: convolution, recurrence, gated norm.
//
// Formulas as nemotron_kernels.ssd.window has them: y_t = C_t·S exp(L_t - L_S) + Σ_j (C_t·B_j) exp(L_t - K_j) x_j.
#pragma once
#include "functions.h"
#include "product.h"
#include "scratch.h"

namespace NK_ISA {

// One group of one sequence's new tokens.
template <class T> struct Group {
    const NkModel &m;
    const NkBlock &block;
    const NkBuffers &buffer;
    int64_t wide, mixed;                        // strides of the rows
    int64_t row, count, slot, start, anchor, g;  // first row, new tokens, and where they belong
    MambaScratch s;

    int64_t heads() const { return m.heads / m.groups; }
    int64_t width() const { return heads() * m.head_dim; }
    int64_t inner() const { return m.heads * m.head_dim; }
    int64_t channels() const { return inner() + 2 * m.groups * m.state_size; }
    int64_t head(int64_t i) const { return slot * m.heads + g * heads() + i; }
    int64_t place(int64_t token) const { return (token + m.ring) % m.ring; }
    const float *projected(int64_t i) const { return buffer.wide + (row + i) * wide; }
    T *x_of(int64_t i) const { return static_cast<T *>(block.xs) + head(i) * m.ring * m.head_dim; }
    T *Bs() const { return static_cast<T *>(block.Bs) + (slot * m.groups + g) * m.ring * m.state_size; }
    double *sums(int64_t i) const { return block.sums + head(i) * m.ring; }
    double *keys(int64_t i) const { return block.keys + head(i) * m.ring; }
};

// One head's state in FP32: where it lies, or a copy of what is kept in another type.
template <class T> inline const float *state_of(const Group<T> &a, int64_t i) {
    int64_t size = a.m.head_dim * a.m.state_size, at = a.head(i) * size;
    if (a.m.state_dtype == NK_FP32) return static_cast<const float *>(a.block.states) + at;
    if (a.m.state_dtype == NK_FP16) {
        const uint16_t *from = static_cast<const uint16_t *>(a.block.states) + at;
        int64_t e = 0;
        for (; e + WIDTH <= size; e += WIDTH) store(a.s.state + e, load_half(from + e));
        for (; e < size; ++e) a.s.state[e] = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(from[e])));
        return a.s.state;
    }
    constexpr int64_t SCALED_TOGETHER = 128;
    const int8_t *from = static_cast<const int8_t *>(a.block.states) + at;
    const float *scales = a.block.scales + a.head(i) * ((size + SCALED_TOGETHER - 1) / SCALED_TOGETHER);
    for (int64_t e = 0; e < size; ++e) a.s.state[e] = float(from[e]) * scales[e / SCALED_TOGETHER];
    return a.s.state;
}

// S ← S exp(L - L_S) + Σ_j exp(L - K_j) x_j⊗B_j over a block of tokens, and their places are empty.
template <class T> inline void commit(const Group<T> &a) {
    const NkModel &m = a.m;
    int64_t block = m.block_tokens, from = a.anchor - block;
    for (int64_t i = 0; i < a.heads(); ++i) {
        double end = a.sums(i)[a.place(a.anchor - 1)], &before = a.block.before[a.head(i)];
        float decay = ::expf(float(end - before)), *weight = a.s.weights;
        for (int64_t j = 0; j < block; ++j) weight[j] = ::expf(float(end - a.keys(i)[a.place(from + j)]));
        float *state = static_cast<float *>(a.block.states) + a.head(i) * m.head_dim * m.state_size;
        for (int64_t p = 0; p < m.head_dim; ++p, state += m.state_size)
            vectors(m.state_size, [&](int64_t n, int64_t width) {
                V sum = mul(some(state + n, width), all(decay));
                for (int64_t j = 0; j < block; ++j) {
                    int64_t place = a.place(from + j);
                    float x = widen(a.x_of(i)[place * m.head_dim + p]) * weight[j];
                    sum = fma(all(x), some(a.Bs() + place * m.state_size + n, width), sum);
                }
                put(state + n, sum, width);
            });
        before = end;
        for (int64_t j = 0; j < block; ++j) a.keys(i)[a.place(from + j)] = INFINITY;
    }
}

// silu(bias + Σ_j weight_j · input_j) for some channels, oldest tap first: kept(token, channel, values, how many).
template <class T, class Kept> inline void convolve(const Group<T> &a, int64_t from, int64_t count, Kept kept) {
    int64_t all_channels = a.channels();
    T *taps = static_cast<T *>(a.block.taps) + a.slot * a.m.ring * all_channels + from;
    const float *bias = a.block.conv_bias, *weight = a.block.conv_weight + from;
    for (int64_t i = 0; i < a.count; ++i) {
        const float *in = a.projected(i) + a.inner() + from;
        T *to = taps + a.place(a.start + i) * all_channels;
        vectors(count, [&](int64_t c, int64_t n) { put(to + c, some(in + c, n), n); });
    }
    for (int64_t i = 0; i < a.count; ++i)
        vectors(count, [&](int64_t c, int64_t n) {
            V y = zero();
            for (int64_t j = 0; j < a.m.taps; ++j) {
                const T *tap = taps + a.place(a.start + i - a.m.taps + 1 + j) * all_channels;
                y = fma(some(tap + c, n), some(weight + j * all_channels + c, n), y);
            }
            if (bias) y = add(y, some(bias + from + c, n));
            kept(i, c, silu(y), n);
        });
}

// The new tokens' x and B into their places, C aside.
template <class T> inline void convolve(const Group<T> &a) {
    int64_t p = a.m.head_dim, n_state = a.m.state_size;
    for (int64_t h = 0; h < a.heads(); ++h)
        convolve(a, (a.g * a.heads() + h) * p, p, [&](int64_t i, int64_t c, V y, int64_t n) {
            put(a.x_of(h) + a.place(a.start + i) * p + c, y, n);
        });
    int64_t B = a.inner() + a.g * n_state, C = B + a.m.groups * n_state;
    convolve(a, B, n_state, [&](int64_t i, int64_t c, V y, int64_t n) {
        put(a.Bs() + a.place(a.start + i) * n_state + c, y, n);
    });
    convolve(a, C, n_state, [&](int64_t i, int64_t c, V y, int64_t n) { put(a.s.C + i * n_state + c, y, n); });
}

// L and K of the new tokens, in FP64, since differences of them cancel.
template <class T> inline void remember_decays(const Group<T> &a) {
    for (int64_t h = 0; h < a.heads(); ++h) {
        int64_t head = a.g * a.heads() + h;
        double *sums = a.sums(h), *keys = a.keys(h), before = sums[a.place(a.start - 1)];
        for (int64_t i = 0; i < a.count; ++i) {
            double step = softplus(a.projected(i)[a.inner() + a.channels() + head] + a.block.dt_bias[head]);
            before += step * double(a.block.A[head]);
            sums[a.place(a.start + i)] = before;
            keys[a.place(a.start + i)] = before - ::log(step);
        }
    }
}

// C_i·B_j for the places of tokens since the anchor; 1 in `hidden` where a place is none of them, or after token i.
template <class T> inline void score(const Group<T> &a) {
    int64_t ring = a.m.ring, n = a.m.state_size, first = a.place(a.anchor), tokens = a.start + a.count - a.anchor;
    for (int64_t i = 0; i < a.count; ++i) a.s.C_rows[i] = a.s.C + i * n;
    int64_t until = first + tokens < ring ? first + tokens : ring;
    int64_t ranges[2][2] = {{first, until}, {0, first + tokens - until}};
    for (auto &range : ranges)
        product(a.Bs(), n, range[0], range[1], a.s.C_rows, a.count, n, [&](int64_t i, int64_t j, __m128 four, int64_t some) {
            put_four(a.s.scores + i * ring + j, four, some);
        });
    memset(a.s.hidden, 1, size_t(a.count * ring));
    for (int64_t i = 0; i < a.count; ++i)
        for (int64_t token = a.anchor; token <= a.start + i; ++token) a.s.hidden[i * ring + a.place(token)] = 0;
}

// One head's y of token i: what the state gives is in `carried`, what its ring gives is added, and D·x.
template <class T> inline void attend_ring(const Group<T> &a, int64_t h, int64_t i) {
    int64_t ring = a.m.ring, p = a.m.head_dim, now = a.place(a.start + i);
    const double *keys = a.keys(h);
    double sum = a.sums(h)[now];
    float *weight = a.s.weights, decay = ::expf(float(sum - a.block.before[a.head(h)]));
    for (int64_t j = 0; j < ring; ++j) weight[j] = a.s.hidden[i * ring + j] ? -INFINITY : float(sum - keys[j]);
    const float *scores = a.s.scores + i * ring;
    vectors(ring, [&](int64_t j, int64_t n) { put(weight + j, mul(exp(some(weight + j, n)), some(scores + j, n)), n); });
    const T *xs = a.x_of(h);
    float *y = a.s.carried + i * p, D = a.block.D[a.g * a.heads() + h];
    int64_t first = a.place(a.anchor), tokens = a.start + i + 1 - a.anchor;
    int64_t until = first + tokens < ring ? first + tokens : ring;
    add_rows(y, decay, weight + first, xs + first * p, p, until - first, p);
    add_rows(y, 1.0f, weight, xs, p, first + tokens - until, p);
    vectors(p, [&](int64_t c, int64_t n) {
        put(a.s.y + i * a.width() + h * p + c, fma(all(D), some(xs + now * p + c, n), some(y + c, n)), n);
    });
}

// y · silu(z), its group at root mean square 1, times the weight, as an input of the next product.
template <class T> inline void gate(const Group<T> &a, int64_t i) {
    int64_t width = a.width(), from = a.g * width;
    float *y = a.s.y + i * width;
    const float *z = a.projected(i) + from, *weight = a.block.gate_norm + from;
    vectors(width, [&](int64_t c, int64_t n) { put(y + c, mul(some(y + c, n), silu(some(z + c, n))), n); });
    float scale = 1.0f / ::sqrtf(sum_of_squares(y, width) / float(width) + float(a.m.eps));
    Input<T> *out = reinterpret_cast<Input<T> *>(a.buffer.mixed_in) + (a.row + i) * a.mixed + from;
    vectors(width, [&](int64_t c, int64_t n) {
        put(out + c, mul(mul(some(y + c, n), all(scale)), some(weight + c, n)), n);
    });
}

constexpr int64_t FETCHED_BYTES = 32 << 10;

inline void fetch(const void *from, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += LINE) _mm_prefetch(static_cast<const char *>(from) + i, _MM_HINT_T0);
}

// Small states lie scattered, a few KB for each sequence: they come nearer while the convolution is computed.
template <class T> inline void fetch(const Group<T> &a) {
    int64_t state = a.m.head_dim * a.m.state_size * 4, tokens = a.start - a.anchor, first = a.place(a.anchor);
    if (a.m.state_dtype != NK_FP32 || state * a.heads() > FETCHED_BYTES) return;
    int64_t until = first + tokens < a.m.ring ? tokens : a.m.ring - first, p = a.m.head_dim, n = a.m.state_size;
    fetch(a.Bs() + first * n, until * n * int64_t(sizeof(T)));
    for (int64_t i = 0; i < a.heads(); ++i) {
        fetch(static_cast<const char *>(a.block.states) + a.head(i) * state, state);
        fetch(a.x_of(i) + first * p, until * p * int64_t(sizeof(T)));
    }
}

template <class T> inline void mix_group(const Group<T> &a, bool is_due) {
    fetch(a);
    if (is_due) commit(a);
    convolve(a);
    remember_decays(a);
    score(a);
    int64_t p = a.m.head_dim, n = a.m.state_size;
    for (int64_t h = 0; h < a.heads(); ++h) {
        product(state_of(a, h), n, 0, p, a.s.C_rows, a.count, n, [&](int64_t i, int64_t c, __m128 four, int64_t some) {
            put_four(a.s.carried + i * p + c, four, some);
        });
        for (int64_t i = 0; i < a.count; ++i) attend_ring(a, h, i);
    }
    for (int64_t i = 0; i < a.count; ++i) gate(a, i);
}

}  // namespace NK_ISA
