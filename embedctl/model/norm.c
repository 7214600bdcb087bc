/* The sum of two runs of tokens and its layer norm (Ba et al. 2016, arXiv:1607.06450), forward and back, each in one
   pass and in float32 between bfloat16 and bfloat16; and means of tokens. For the processors that attention.c is for. */

#include "lanes.h"

#ifdef FAST

/* Of a token: `sums` has room for its `width` numbers. Returns one over the deviation. */
INLINE float normalise(const bf16 *one, const bf16 *other, const float *added, float epsilon, int64_t width,
                       float *sums) {
    __m512 total = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (int64_t c = 0; c < width; c += LANES) {
        __m512 sum = _mm512_add_ps(widened(one + c), widened(other + c));
        if (added)
            sum = _mm512_add_ps(sum, _mm512_loadu_ps(added + c));
        _mm512_storeu_ps(sums + c, sum);
        total = _mm512_add_ps(total, sum);
    }
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(total) / (float)width);
    for (int64_t c = 0; c < width; c += LANES) {
        __m512 apart = _mm512_sub_ps(_mm512_loadu_ps(sums + c), mean);
        _mm512_storeu_ps(sums + c, apart);
        squares = _mm512_fmadd_ps(apart, apart, squares);
    }
    return 1.0f / __builtin_sqrtf(_mm512_reduce_add_ps(squares) / (float)width + epsilon);
}

FAST static void add_norm(const bf16 *one, const bf16 *other, const float *added, const float *weight,
                          const float *bias, float epsilon, int64_t width, float *sums, bf16 *out, bf16 *bare,
                          float *scale) {
    const float found = normalise(one, other, added, epsilon, width, sums);
    for (int64_t c = 0; c < width; c += LANES) {
        __m512 normed = _mm512_mul_ps(_mm512_loadu_ps(sums + c), _mm512_set1_ps(found));
        if (bare)
            narrow(normed, bare + c);
        narrow(_mm512_fmadd_ps(normed, _mm512_loadu_ps(weight + c), _mm512_loadu_ps(bias + c)), out + c);
    }
    if (scale)
        *scale = found;
}

/* All tokens by OpenMP's threads. Returns 0, or -1 if there is no memory.

   one, other, out:     (tokens, width); a width is a multiple of 16
   added, weight, bias: (width); `added` to every sum, may be NULL
   bare, scales:        NULL, or what the backward pass needs: (tokens, width) what is normed before the weight, and
                        (tokens) one over the deviation */
int embedctl_add_norm(const bf16 *one, const bf16 *other, const float *added, const float *weight, const float *bias,
                      float epsilon, int64_t tokens, int64_t width, int threads, bf16 *out, bf16 *bare, float *scales) {
    int failed = 0;
#pragma omp parallel num_threads(threads)
    {
        float *sums = malloc((size_t)width * sizeof(float));
        if (sums == NULL)
            __atomic_store_n(&failed, -1, __ATOMIC_RELAXED);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < tokens; t++)
            if (sums != NULL)
                add_norm(one + t * width, other + t * width, added, weight, bias, epsilon, width, sums,
                         out + t * width, bare ? bare + t * width : NULL, scales ? scales + t : NULL);
        free(sums);
    }
    return failed;
}

/* Gradients of a token's sum; `sums`: (3, width), to which those of the weight, the bias and what is added are added. */
FAST static void pull_norm(const bf16 *gradient, const bf16 *bare, float scale, const float *weight, int64_t width,
                           float *sums, bf16 *d_sum) {
    float *of_weight = sums, *of_bias = sums + width, *of_added = sums + 2 * width;
    __m512 totals = _mm512_setzero_ps(), products = _mm512_setzero_ps();
    for (int64_t c = 0; c < width; c += LANES) {
        __m512 up = widened(gradient + c), normed = widened(bare + c);
        __m512 weighed = _mm512_mul_ps(up, _mm512_loadu_ps(weight + c));
        totals = _mm512_add_ps(totals, weighed);
        products = _mm512_fmadd_ps(weighed, normed, products);
        _mm512_storeu_ps(of_weight + c, _mm512_fmadd_ps(up, normed, _mm512_loadu_ps(of_weight + c)));
        _mm512_storeu_ps(of_bias + c, _mm512_add_ps(up, _mm512_loadu_ps(of_bias + c)));
    }
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(totals) / (float)width);
    const __m512 slope = _mm512_set1_ps(_mm512_reduce_add_ps(products) / (float)width);
    for (int64_t c = 0; c < width; c += LANES) {
        __m512 weighed = _mm512_mul_ps(widened(gradient + c), _mm512_loadu_ps(weight + c));
        __m512 found = _mm512_sub_ps(_mm512_sub_ps(weighed, mean), _mm512_mul_ps(widened(bare + c), slope));
        found = _mm512_mul_ps(found, _mm512_set1_ps(scale));
        _mm512_storeu_ps(of_added + c, _mm512_add_ps(found, _mm512_loadu_ps(of_added + c)));
        narrow(found, d_sum + c);
    }
}

/* The gradients of embedctl_add_norm's sums, (tokens, width), and of weight, bias and what is added, (3, width), from
   its result's and what it left in `bare` and `scales`. Returns 0, or -1 if there is no memory. */
int embedctl_pull_norm(const bf16 *gradient, const bf16 *bare, const float *scales, const float *weight, int64_t tokens,
                       int64_t width, int threads, bf16 *d_sum, float *d_weights) {
    const int64_t chunks = (tokens + CHUNK - 1) / CHUNK;
    float *sums = calloc((size_t)(chunks * 3 * width), sizeof(float));
    if (sums == NULL)
        return -1;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t chunk = 0; chunk < chunks; chunk++)
        for (int64_t t = chunk * CHUNK; t < tokens && t < (chunk + 1) * CHUNK; t++)
            pull_norm(gradient + t * width, bare + t * width, scales[t], weight, width, sums + chunk * 3 * width,
                      d_sum + t * width);
    add_chunks(sums, chunks, 3 * width, d_weights);
    free(sums);
    return 0;
}

FAST static void mean(const bf16 *rows, int64_t count, int64_t width, float *out) {
    const __m512 each = _mm512_set1_ps(1.0f / (float)count);
    for (int64_t c = 0; c < width; c += LANES) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t t = 0; t < count; t++)
            sum = _mm512_add_ps(sum, widened(rows + t * width + c));
        _mm512_storeu_ps(out + c, _mm512_mul_ps(sum, each));
    }
}

/* The mean of each text's tokens, by OpenMP's threads.

   rows: (tokens, width)
   ends: (texts + 1), where each text begins, and where the last one ends
   out:  (texts, width) */
int embedctl_means(const bf16 *rows, const int32_t *ends, int64_t texts, int64_t width, int threads, float *out) {
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads)
    for (int64_t text = 0; text < texts; text++)
        mean(rows + ends[text] * width, ends[text + 1] - ends[text], width, out + text * width);
    return 0;
}

#endif
