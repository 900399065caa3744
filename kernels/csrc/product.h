// Products of rows with matrices whose rows are contiguous: out[m][o] = Σ_k x[m][k] · w[o][k].
//
// Each result is summed up in one order, whatever other rows and outputs are computed with it.
#pragma once
#include "vec.h"

namespace NK_ISA {

// How many elements one instruction multiplies, and how: FP32, BF16 widened to it, or pairs of BF16.
template <class T, class X> struct Multiply {
    static constexpr int64_t STEP = WIDTH;
    using Part = V;
    static Part take(const T *p) { return load(p); }
    static Part take(const T *p, int64_t n) { return load(p, n); }
    static Part take_input(const float *p) { return load(p); }
    static Part take_input(const float *p, int64_t n) { return load(p, n); }
    static V add(V sum, Part x, Part w) { return fma(x, w, sum); }
};

#ifdef __AVX512BF16__
template <> struct Multiply<bf16, bf16> {
    static constexpr int64_t STEP = 2 * WIDTH;
    using Part = __m512i;
    static Part take(const bf16 *p) { return _mm512_loadu_si512(p); }
    static Part take(const bf16 *p, int64_t n) { return _mm512_maskz_loadu_epi16(__mmask32((1ull << n) - 1), p); }
    static Part take_input(const bf16 *p) { return take(p); }
    static Part take_input(const bf16 *p, int64_t n) { return take(p, n); }
    static V add(V sum, Part x, Part w) { return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w); }
};
template <class T> struct Inputs {
    using Type = T;
};
#else
template <class T> struct Inputs {
    using Type = float;
};
#endif

// What a product with weights of this type takes.
template <class T> using Input = typename Inputs<T>::Type;

constexpr int FOUR = 4;
#ifdef __AVX512F__
constexpr int MOST_ROWS = 6;  // 24 sums, 6 inputs and a weight fill 31 of 32 registers
#else
constexpr int MOST_ROWS = 3;
#endif

// Rows of weights that are needed soon, fetched early a line at a time, while others are multiplied.
template <class T> struct Ahead {
    const T *rows;
    int64_t stride, count;
};

// Inputs of a row that are multiplied before the next row's: those of a few rows stay in the first cache meanwhile.
constexpr int64_t BLOCK_BYTES = 2048;

// Some of a row's inputs. Sums begin with the first; until the last they are put aside.
struct Block {
    int64_t from, to, inputs;
};

// 4 outputs · GROUPS for M rows: place(row, output, four results, how many of them count).
template <int GROUPS, int M, class T, class X, class Place>
inline void tile(const T *w, int64_t stride, int64_t outputs, const X *const *x, Block block, Ahead<T> ahead, V *aside,
                 Place place) {
    using By = Multiply<T, X>;
    constexpr int R = FOUR * GROUPS;
    V total[R][M];
    const T *row[R];
    for (int r = 0; r < R; ++r) {
        row[r] = w + (r < outputs ? r : outputs - 1) * stride;
        for (int m = 0; m < M; ++m) total[r][m] = zero();
    }
    if (block.from)
        for (int r = 0; r < R; ++r)
            for (int m = 0; m < M; ++m) total[r][m] = aside[r * M + m];
    int64_t i = block.from;
    for (; i + By::STEP <= block.to; i += By::STEP) {
        typename By::Part in[M];
        for (int m = 0; m < M; ++m) in[m] = By::take_input(x[m] + i);
        for (int64_t r = 0; r < ahead.count; ++r)
            _mm_prefetch((const char *)(ahead.rows + r * ahead.stride + i), _MM_HINT_T0);
        for (int r = 0; r < R; ++r) {
            typename By::Part weights = By::take(row[r] + i);
            for (int m = 0; m < M; ++m) total[r][m] = By::add(total[r][m], in[m], weights);
        }
    }
    if (i < block.to) {
        typename By::Part in[M];
        for (int m = 0; m < M; ++m) in[m] = By::take_input(x[m] + i, block.to - i);
        for (int r = 0; r < R; ++r) {
            typename By::Part weights = By::take(row[r] + i, block.to - i);
            for (int m = 0; m < M; ++m) total[r][m] = By::add(total[r][m], in[m], weights);
        }
    }
    if (block.to < block.inputs) {
        for (int r = 0; r < R; ++r)
            for (int m = 0; m < M; ++m) aside[r * M + m] = total[r][m];
        return;
    }
    for (int q = 0; q < R && q < outputs; q += FOUR)
        for (int m = 0; m < M; ++m)
            place(m, q, sums(total[q][m], total[q + 1][m], total[q + 2][m], total[q + 3][m]),
                  outputs - q < FOUR ? outputs - q : FOUR);
}

// Few rows need many sums at once, or each waits for the one before it.
template <int M> constexpr int groups() {
#ifdef __AVX512F__
    return M <= 3 ? 2 : 1;
#else
    return M == 1 ? 2 : 1;
#endif
}

constexpr int64_t PANEL = 32;  // outputs whose weights stay in the second cache while all rows are multiplied with them

// All outputs of a panel for M rows; meanwhile the next panel comes nearer, an equal part with each of `tiles` calls.
template <int M, class T, class X, class Place>
inline void panel(const T *w, int64_t stride, int64_t outputs, const X *const *x, int64_t inputs, const T *next, int64_t left,
                  int64_t number, int64_t tiles, Place place) {
    constexpr int R = FOUR * groups<M>();
    V aside[PANEL * M];
    int64_t each = (R + tiles - 1) / tiles, most = tiles > 1 ? BLOCK_BYTES / int64_t(sizeof(X)) : inputs;
    for (int64_t k = 0; k < inputs; k += most) {
        Block block = {k, k + most < inputs ? k + most : inputs, inputs};
        int64_t from = number * ((outputs + R - 1) / R) * each;
        for (int64_t o = 0; o < outputs; o += R, from += each) {
            // One row or two wait for nothing else: the processor itself fetches fast enough.
            int64_t count = M <= 3 && tiles == 1 ? 0 : from + each <= left ? each : from < left ? left - from : 0;
            Ahead<T> ahead = {next + from * stride, stride, count};
            tile<groups<M>(), M>(w + o * stride, stride, outputs - o, x, block, ahead, aside + o * M,
                                 [&](int m, int64_t q, __m128 four, int64_t n) { place(m, o + q, four, n); });
        }
    }
}

// Outputs `from` to `to` of every row: put(row, output, four results, how many of them count).
template <class T, class X, class Put>
inline void product(const T *w, int64_t stride, int64_t from, int64_t to, const X *const *x, int64_t rows, int64_t inputs, Put put) {
    int64_t tiles = (rows + MOST_ROWS - 1) / MOST_ROWS, at_once = tiles > 1 ? PANEL : 2 * FOUR;
    for (int64_t o = from; rows && o < to; o += at_once) {
        int64_t count = to - o < at_once ? to - o : at_once, left = to - o - count < at_once ? to - o - count : at_once;
        const T *here = w + o * stride, *next = here + count * stride;
        for (int64_t i = 0, m = 0, size; i < tiles; ++i, m += size) {
            size = (rows - m + (tiles - i) - 1) / (tiles - i);
            auto place = [&, m](int row, int64_t q, __m128 four, int64_t n) { put(m + row, o + q, four, n); };
            switch (size) {
            case 1: panel<1>(here, stride, count, x + m, inputs, next, left, i, tiles, place); break;
            case 2: panel<2>(here, stride, count, x + m, inputs, next, left, i, tiles, place); break;
            case 3: panel<3>(here, stride, count, x + m, inputs, next, left, i, tiles, place); break;
#ifdef __AVX512F__
            case 4: panel<4>(here, stride, count, x + m, inputs, next, left, i, tiles, place); break;
            case 5: panel<5>(here, stride, count, x + m, inputs, next, left, i, tiles, place); break;
            case 6: panel<6>(here, stride, count, x + m, inputs, next, left, i, tiles, place); break;
#endif
            }
        }
    }
}

inline __m128i first_of_four(int64_t n) { return _mm_cmpgt_epi32(_mm_set1_epi32(int(n)), _mm_setr_epi32(0, 1, 2, 3)); }
inline void put_four(float *p, __m128 x, int64_t n) {
    if (n == FOUR) _mm_storeu_ps(p, x);
    else _mm_maskstore_ps(p, first_of_four(n), x);
}
inline void put_four(bf16 *p, __m128 x, int64_t n) {
    float wide[FOUR];
    _mm_storeu_ps(wide, x);
    for (int64_t i = 0; i < n; ++i) narrow(wide[i], p[i]);
}
inline __m128 take_four(const float *p, int64_t n) {
    return n == FOUR ? _mm_loadu_ps(p) : _mm_maskload_ps(p, first_of_four(n));
}
inline __m128 relu_squared(__m128 x) {
    // NaN in the second operand stays.
    x = _mm_max_ps(_mm_setzero_ps(), x);
    return _mm_mul_ps(x, x);
}

}  // namespace NK_ISA
