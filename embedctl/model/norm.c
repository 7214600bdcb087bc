/* The sum of two runs of tokens and its layer norm, in one pass and in float32 between bfloat16 and bfloat16; for
   inference, on the processors that attention.c is for. */

#include "lanes.h"

#ifdef FAST

INLINE __m512 widened(const bf16 *from) {
    __m512i whole = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(whole, 16));
}

/* Layer norm (Ba et al. 2016, arXiv:1607.06450) of one token; `sums` has room for its `width` numbers. */
FAST static void add_norm(const bf16 *one, const bf16 *other, const float *weight, const float *bias, float epsilon,
                          int64_t width, float *sums, bf16 *out) {
    __m512 total = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (int64_t c = 0; c < width; c += LANES) {
        __m512 sum = _mm512_add_ps(widened(one + c), widened(other + c));
        _mm512_storeu_ps(sums + c, sum);
        total = _mm512_add_ps(total, sum);
    }
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(total) / (float)width);
    for (int64_t c = 0; c < width; c += LANES) {
        __m512 apart = _mm512_sub_ps(_mm512_loadu_ps(sums + c), mean);
        squares = _mm512_fmadd_ps(apart, apart, squares);
    }
    const float variance = _mm512_reduce_add_ps(squares) / (float)width;
    const __m512 scale = _mm512_set1_ps(1.0f / __builtin_sqrtf(variance + epsilon));
    for (int64_t c = 0; c < width; c += LANES) {
        __m512 normed = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(sums + c), mean), scale);
        normed = _mm512_fmadd_ps(normed, _mm512_loadu_ps(weight + c), _mm512_loadu_ps(bias + c));
        _mm256_storeu_si256((__m256i *)(out + c), (__m256i)_mm512_cvtneps_pbh(normed));
    }
}

/* All tokens by OpenMP's threads. Returns 0, or -1 if there is no memory.

   one, other, out: (tokens, width); a width is a multiple of 16
   weight, bias:    (width) */
int embedctl_add_norm(const bf16 *one, const bf16 *other, const float *weight, const float *bias, float epsilon,
                      int64_t tokens, int64_t width, int threads, bf16 *out) {
    int failed = 0;
#pragma omp parallel num_threads(threads)
    {
        float *sums = malloc((size_t)width * sizeof(float));
        if (sums == NULL)
            __atomic_store_n(&failed, -1, __ATOMIC_RELAXED);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < tokens; t++)
            if (sums != NULL)
                add_norm(one + t * width, other + t * width, weight, bias, epsilon, width, sums, out + t * width);
        free(sums);
    }
    return failed;
}

#endif
