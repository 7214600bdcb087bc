/* Numbers of float32 in the lanes of AVX2's registers, for processors that have no more than these: most desktops. */

#ifndef EMBEDCTL_FLOATS_H
#define EMBEDCTL_FLOATS_H

#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#define FAST __attribute__((target("avx2,fma")))
#define INLINE FAST static inline __attribute__((always_inline))
#define LANES 8
#define ROWS 6     /* whose sums with COLUMNS are in registers at once, which leaves four of sixteen */
#define COLUMNS 16

INLINE void zero(const int rows, __m256 sums[ROWS][2]) {
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
        sums[i][0] = sums[i][1] = _mm256_setzero_ps();
}

/* Sums of products, to what is there: of `rows` rows and COLUMNS columns.

   from, row, step: where the rows begin, and numbers from one to the next and from an input to the next
   panel, line:     the other side, (steps, COLUMNS), and numbers from one to the next */
INLINE void add_products(const int rows, const float *from, int64_t row, int64_t step, const float *panel, int64_t line,
                         int64_t steps, __m256 sums[ROWS][2]) {
    for (int64_t s = 0; s < steps; s++, from += step, panel += line) {
        const __m256 lanes[2] = {_mm256_loadu_ps(panel), _mm256_loadu_ps(panel + LANES)};
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            const __m256 number = _mm256_broadcast_ss(from + i * row);
            for (int half = 0; half < 2; half++)
                sums[i][half] = _mm256_fmadd_ps(number, lanes[half], sums[i][half]);
        }
    }
}

/* 2^x for x <= 0, to a relative error of 2e-7; what is below -100 counts as that, so that what it is multiplied with does
   not become so small that the processor takes long over it. A NaN stays one. */
INLINE __m256 power_of_two(__m256 x) {
    x = _mm256_max_ps(_mm256_set1_ps(-100.0f), x);
    const __m256 whole = _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256 rest = _mm256_sub_ps(x, whole);
    __m256 found = _mm256_set1_ps(1.5403530e-4f); /* Taylor: ln(2)^n / n! */
    found = _mm256_fmadd_ps(found, rest, _mm256_set1_ps(1.3333558e-3f));
    found = _mm256_fmadd_ps(found, rest, _mm256_set1_ps(9.6181291e-3f));
    found = _mm256_fmadd_ps(found, rest, _mm256_set1_ps(0.0555041087f));
    found = _mm256_fmadd_ps(found, rest, _mm256_set1_ps(0.2402265070f));
    found = _mm256_fmadd_ps(found, rest, _mm256_set1_ps(0.6931471806f));
    found = _mm256_fmadd_ps(found, rest, _mm256_set1_ps(1.0f));
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
    return _mm256_mul_ps(found, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}

/* GELU (Hendrycks & Gimpel 2016, arXiv:1606.08415), to 5e-7: the normal distribution's tail by Abramowitz & Stegun's
   7.1.26. A NaN stays one. */
INLINE __m256 gelu(__m256 x) {
    const __m256 one = _mm256_set1_ps(1.0f), far = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
    const __m256 power = power_of_two(_mm256_mul_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(-0.7213475204f))); /* log2(e) / 2 */
    const __m256 near = _mm256_div_ps(one, _mm256_fmadd_ps(far, _mm256_set1_ps(0.2316418870f), one)); /* 0.3275911 / sqrt(2) */
    __m256 tail = _mm256_set1_ps(0.5307027145f); /* halves of their coefficients */
    tail = _mm256_fmadd_ps(tail, near, _mm256_set1_ps(-0.7265760135f));
    tail = _mm256_fmadd_ps(tail, near, _mm256_set1_ps(0.7107068705f));
    tail = _mm256_fmadd_ps(tail, near, _mm256_set1_ps(-0.1422483680f));
    tail = _mm256_fmadd_ps(tail, near, _mm256_set1_ps(0.1274147960f));
    tail = _mm256_mul_ps(_mm256_mul_ps(tail, near), power);
    return _mm256_fnmadd_ps(far, tail, _mm256_max_ps(_mm256_setzero_ps(), x));
}

/* The sum of all lanes. */
INLINE float total(__m256 x) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

#endif
#endif
