// Attention of one sequence's new tokens to one key head's pages, page by page, with a running maximum and sum.
//
// Source: online softmax (arXiv 1805.02867). A page that a query sees nothing of leaves its result as it is, to the bit.
#pragma once
#include "functions.h"
#include "product.h"
#include "scratch.h"

namespace NK_ISA {

// E4M3 as torch has it: no infinities, at most ±448, one NaN for each sign.
inline float from_e4m3(uint8_t code) {
    int exponent = code >> 3 & 15, mantissa = code & 7;
    float size = exponent == 15 && mantissa == 7 ? NAN
                 : exponent                      ? ::ldexpf(1.0f + float(mantissa) / 8, exponent - 7)
                                                 : ::ldexpf(float(mantissa), -9);
    return code & 0x80 ? -size : size;
}
inline uint8_t to_e4m3(float x) {
    uint8_t sign = __builtin_signbit(x) ? 0x80 : 0;
    if (!__builtin_isfinite(x)) return sign | 0x7F;
    float size = __builtin_fabsf(x) < 448.0f ? __builtin_fabsf(x) : 448.0f;
    if (size < 0x1p-6f) return sign | uint8_t(::nearbyintf(size * 0x1p9f));
    int exponent;
    float mantissa = ::frexpf(size, &exponent);  // in [1/2, 1)
    int steps = int(::nearbyintf(mantissa * 16.0f)) + (exponent + 5) * 8;
    return sign | uint8_t(steps);
}

// One key head of one sequence's new tokens.
template <class T> struct Head {
    const NkModel &m;
    const NkBlock &block;
    const NkBuffers &buffer;
    const int64_t *table;
    int64_t wide, mixed;
    int64_t row, count, start, head;
    const float *codes;  // what each byte of FP8 stands for
    AttentionScratch s;

    int64_t dim() const { return m.attention_dim; }
    int64_t each() const { return m.query_heads / m.kv_heads; }
    int64_t queries() const { return each() * count; }
    int64_t stride() const { return m.kv_heads * dim(); }
    int64_t cell(int64_t position) const {
        int64_t page = table[position / m.page_tokens];
        return (page * m.page_tokens + position % m.page_tokens) * stride() + head * dim();
    }
};

template <class T> inline void keep(const Head<T> &a, void *pages, int64_t position, const float *from) {
    int64_t cell = a.cell(position);
    if (a.m.kv_dtype == NK_FP8) {
        uint8_t *to = static_cast<uint8_t *>(pages) + cell;
        for (int64_t i = 0; i < a.dim(); ++i) to[i] = to_e4m3(from[i]);
        return;
    }
    T *to = static_cast<T *>(pages) + cell;
    vectors(a.dim(), [&](int64_t i, int64_t n) { put(to + i, some(from + i, n), n); });
}

// Keys and values to their pages; queries aside, scaled.
template <class T> inline void remember(const Head<T> &a) {
    int64_t d = a.dim(), keys = a.m.query_heads * d, values = keys + a.stride();
    V scale = all(1.0f / ::sqrtf(float(d)));
    for (int64_t i = 0; i < a.count; ++i) {
        const float *from = a.buffer.wide + (a.row + i) * a.wide;
        keep(a, a.block.key_pages, a.start + i, from + keys + a.head * d);
        keep(a, a.block.value_pages, a.start + i, from + values + a.head * d);
        for (int64_t q = 0; q < a.each(); ++q) {
            int64_t at = i * a.each() + q;
            const float *query = from + (a.head * a.each() + q) * d;
            float *to = a.s.queries + at * d;
            vectors(d, [&](int64_t e, int64_t n) { put(to + e, mul(some(query + e, n), scale), n); });
            a.s.rows[at] = to;
            a.s.most[at] = -INFINITY;
            a.s.total[at] = 0.0f;
            memset(a.s.out + at * d, 0, size_t(d) * sizeof(float));
        }
    }
}

// One query and one page of which it sees `seen` tokens.
template <class K> inline void attend(float *scores, int64_t seen, float &most, float &total, float *out, const K *values,
                                      int64_t stride, int64_t dim) {
    // To the end of a vector with what weighs nothing: none of them is a special case then.
    int64_t whole = (seen + WIDTH - 1) / WIDTH * WIDTH;
    for (int64_t t = seen; t < whole; ++t) scores[t] = -INFINITY;
    V high = all(most);
    for (int64_t t = 0; t < whole; t += WIDTH) high = greater(high, load(scores + t));
    float highest = largest(high), faded = highest == most ? 1.0f : ::expf(most - highest);
    V shares = zero();
    for (int64_t t = 0; t < whole; t += WIDTH) {
        V share = exp(sub(load(scores + t), all(highest)));
        store(scores + t, share);
        shares = add(shares, share);
    }
    most = highest;
    total = total * faded + sum(shares);
    add_rows(out, faded, scores, values, stride, seen, dim);
}

template <class K, class T>
inline void attend_page(const Head<T> &a, const K *keys, const K *values, int64_t stride, int64_t first, int64_t tokens) {
    int64_t size = a.s.scores_stride;
    product(keys, stride, 0, tokens, a.s.rows, a.queries(), a.dim(), [&](int64_t q, int64_t t, __m128 four, int64_t n) {
        put_four(a.s.scores + q * size + t, four, n);
    });
    for (int64_t q = 0; q < a.queries(); ++q) {
        int64_t seen = a.start + q / a.each() + 1 - first;
        if (seen <= 0) continue;
        attend(a.s.scores + q * size, seen < tokens ? seen : tokens, a.s.most[q], a.s.total[q], a.s.out + q * a.dim(),
               values, stride, a.dim());
    }
}

template <class T> inline void decode_page(const Head<T> &a, const void *pages, int64_t cell, int64_t tokens, float *to) {
    const uint8_t *from = static_cast<const uint8_t *>(pages) + cell;
    for (int64_t t = 0; t < tokens; ++t)
        for (int64_t i = 0; i < a.dim(); ++i) to[t * a.dim() + i] = a.codes[from[t * a.stride() + i]];
}

// Pages lie anywhere: the next one comes nearer while this one is attended to.
template <class T> inline void fetch_page(const Head<T> &a, int64_t first, int64_t stop) {
    if (first >= stop) return;
    int64_t size = a.m.kv_dtype == NK_FP8 ? 1 : int64_t(sizeof(T)), cell = a.cell(first);
    const void *const both[] = {a.block.key_pages, a.block.value_pages};
    for (const void *pages : both)
        for (int64_t t = 0; t < a.m.page_tokens && first + t < stop; ++t) {
            const char *row = static_cast<const char *>(pages) + (cell + t * a.stride()) * size;
            for (int64_t i = 0; i < a.dim() * size; i += LINE) _mm_prefetch(row + i, _MM_HINT_T0);
        }
}

template <class T> inline void attend(const Head<T> &a) {
    fetch_page(a, 0, a.start);
    remember(a);
    int64_t stop = a.start + a.count;
    for (int64_t first = 0; first < stop; first += a.m.page_tokens) {
        int64_t tokens = stop - first < a.m.page_tokens ? stop - first : a.m.page_tokens, cell = a.cell(first);
        fetch_page(a, first + a.m.page_tokens, stop);
        if (a.m.kv_dtype == NK_FP8) {
            decode_page(a, a.block.key_pages, cell, tokens, a.s.keys);
            decode_page(a, a.block.value_pages, cell, tokens, a.s.values);
            attend_page(a, (const float *)a.s.keys, (const float *)a.s.values, a.dim(), first, tokens);
        } else {
            const T *keys = static_cast<const T *>(a.block.key_pages) + cell;
            attend_page(a, keys, static_cast<const T *>(a.block.value_pages) + cell, a.stride(), first, tokens);
        }
    }
    for (int64_t q = 0; q < a.queries(); ++q) {
        int64_t row = a.row + q / a.each(), of_row = a.head * a.each() + q % a.each();
        Input<T> *out = reinterpret_cast<Input<T> *>(a.buffer.mixed_in) + row * a.mixed + of_row * a.dim();
        V total = all(a.s.total[q]);
        const float *from = a.s.out + q * a.dim();
        vectors(a.dim(), [&](int64_t i, int64_t n) { put(out + i, div(some(from + i, n), total), n); });
    }
}

}  // namespace NK_ISA
