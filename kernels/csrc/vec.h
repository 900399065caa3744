// Vectors of FP32 with their loads from every type that is stored; one of two sets of instructions, by what is compiled for.
#pragma once
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace NK_ISA {

struct bf16 {
    uint16_t bits;
};

inline float widen(float x) { return x; }
inline float widen(bf16 x) {
    uint32_t bits = uint32_t(x.bits) << 16;
    float out;
    memcpy(&out, &bits, 4);
    return out;
}

// Round to nearest, ties to even, as torch does; the instruction for it flushes what is subnormal.
inline void narrow(float x, float &out) { out = x; }
inline void narrow(float x, bf16 &out) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    out.bits = x != x ? 0x7FC0 : uint16_t((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

#ifdef __AVX512F__

using V = __m512;
constexpr int64_t WIDTH = 16;

inline __mmask16 first(int64_t n) { return __mmask16((1u << n) - 1); }

inline V zero() { return _mm512_setzero_ps(); }
inline V all(float x) { return _mm512_set1_ps(x); }
inline V load(const float *p) { return _mm512_loadu_ps(p); }
inline V load(const float *p, int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
inline V from_bits(__m256i bits) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16)); }
inline V load(const bf16 *p) { return from_bits(_mm256_loadu_si256((const __m256i *)p)); }
inline V load(const bf16 *p, int64_t n) { return from_bits(_mm256_maskz_loadu_epi16(first(n), p)); }
inline void store(float *p, V x) { _mm512_storeu_ps(p, x); }
inline void store(float *p, V x, int64_t n) { _mm512_mask_storeu_ps(p, first(n), x); }
inline __m256i to_bits(V x) {
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
    up = _mm512_mask_mov_epi32(up, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), _mm512_set1_epi32(0x7FC00000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16));
}
inline void store(bf16 *p, V x) { _mm256_storeu_si256((__m256i *)p, to_bits(x)); }
inline void store(bf16 *p, V x, int64_t n) { _mm256_mask_storeu_epi16(p, first(n), to_bits(x)); }

inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
inline V add(V a, V b) { return _mm512_add_ps(a, b); }
inline V sub(V a, V b) { return _mm512_sub_ps(a, b); }
inline V mul(V a, V b) { return _mm512_mul_ps(a, b); }
inline V div(V a, V b) { return _mm512_div_ps(a, b); }
// NaN in the second operand stays.
inline V lesser(V a, V b) { return _mm512_min_ps(a, b); }
inline V greater(V a, V b) { return _mm512_max_ps(a, b); }
inline V whole(V a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// a · 2^n for whole n
inline V scaled(V a, V n) { return _mm512_scalef_ps(a, n); }

inline __m256 halves(V a) {
    return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
}
inline V load_half(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
inline V load_bytes(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

#else

using V = __m256;
constexpr int64_t WIDTH = 8;

inline __m256i first(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline V zero() { return _mm256_setzero_ps(); }
inline V all(float x) { return _mm256_set1_ps(x); }
inline V load(const float *p) { return _mm256_loadu_ps(p); }
inline V load(const float *p, int64_t n) { return _mm256_maskload_ps(p, first(n)); }
inline V from_bits(__m128i bits) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16)); }
inline V load(const bf16 *p) { return from_bits(_mm_loadu_si128((const __m128i *)p)); }
inline V load(const bf16 *p, int64_t n) {
    bf16 copy[8] = {};
    memcpy(copy, p, size_t(n) * sizeof(bf16));
    return load(copy);
}
inline void store(float *p, V x) { _mm256_storeu_ps(p, x); }
inline void store(float *p, V x, int64_t n) { _mm256_maskstore_ps(p, first(n), x); }
inline __m128i to_bits(V x) {
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    up = _mm256_srli_epi32(_mm256_blendv_epi8(up, _mm256_set1_epi32(0x7FC00000), nan), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(up), _mm256_extracti128_si256(up, 1));
}
inline void store(bf16 *p, V x) { _mm_storeu_si128((__m128i *)p, to_bits(x)); }
inline void store(bf16 *p, V x, int64_t n) {
    bf16 copy[8];
    store(copy, x);
    memcpy(p, copy, size_t(n) * sizeof(bf16));
}

inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
inline V add(V a, V b) { return _mm256_add_ps(a, b); }
inline V sub(V a, V b) { return _mm256_sub_ps(a, b); }
inline V mul(V a, V b) { return _mm256_mul_ps(a, b); }
inline V div(V a, V b) { return _mm256_div_ps(a, b); }
inline V lesser(V a, V b) { return _mm256_min_ps(a, b); }
inline V greater(V a, V b) { return _mm256_max_ps(a, b); }
inline V whole(V a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline V power_of_two(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
// In two steps: 2^n alone may be beyond FP32 where the product is not.
inline V scaled(V a, V n) {
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
    return mul(mul(a, power_of_two(half)), power_of_two(_mm256_sub_epi32(whole, half)));
}

inline __m256 halves(V a) { return a; }
inline V load_half(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
inline V load_bytes(const int8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

#endif

// The sums of four vectors, each in the same order whichever of the four it is.
inline __m128 sums(V a, V b, V c, V d) {
    __m256 ab = _mm256_hadd_ps(halves(a), halves(b)), cd = _mm256_hadd_ps(halves(c), halves(d));
    __m256 abcd = _mm256_hadd_ps(ab, cd);
    return _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
}
inline float sum(V a) { return _mm_cvtss_f32(sums(a, a, a, a)); }

inline float largest(V a) {
    float each[WIDTH];
    store(each, a);
    for (int64_t half = WIDTH / 2; half; half /= 2)
        for (int64_t i = 0; i < half; ++i) each[i] = each[i] > each[i + half] ? each[i] : each[i + half];
    return each[0];
}

// Call f(i, n) for each vector of `count` elements: the first one, and how many are in it.
template <class F> inline void vectors(int64_t count, F f) {
    int64_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH) f(i, WIDTH);
    if (i < count) f(i, count - i);
}
template <class T> inline V some(const T *p, int64_t n) { return n == WIDTH ? load(p) : load(p, n); }
template <class T> inline void put(T *p, V x, int64_t n) { n == WIDTH ? store(p, x) : store(p, x, n); }

}  // namespace NK_ISA
