/* GELU of bfloat16 and a bias, forward and back, each in one pass and in float32 in between, on the processors that
   attention.c is for. */

#include "gelu.h"

#ifdef FAST

#include <math.h>

float embedctl_gelu_pieces[4][PIECES];

/* A cubic through four points of each piece (Newton's differences), where they are best (Chebyshev's). */
__attribute__((constructor)) static void fit(void) {
    for (int piece = 0; piece < PIECES; piece++) {
        double x[4], y[4], found[4] = {0};
        for (int i = 0; i < 4; i++) {
            x[i] = 0.5 * cos((2 * i + 1) * acos(-1.0) / 8);
            double at = (piece + x[i]) / PER_ONE;
            y[i] = at * erfc(at * sqrt(0.5)) / 2;
        }
        for (int order = 1; order < 4; order++)
            for (int i = 3; i >= order; i--)
                y[i] = (y[i] - y[i - 1]) / (x[i] - x[i - order]);
        for (int i = 3; i >= 0; i--) {
            for (int power = 3; power > 0; power--)
                found[power] = found[power - 1] - x[i] * found[power];
            found[0] = y[i] - x[i] * found[0];
        }
        for (int power = 0; power < 4; power++)
            embedctl_gelu_pieces[power][piece] = (float)found[power];
    }
}

/* The share of the normal distribution below x, and its density there; the share to 2e-7, by Abramowitz & Stegun's
   7.1.26, of a tail beyond 3 to 2e-4 of itself. */
INLINE __m512 normal(__m512 x, __m512 *density) {
    const __m512 one = _mm512_set1_ps(1.0f), far = _mm512_abs_ps(x);
    __m512 power = power_of_two(_mm512_mul_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(-0.7213475204f))); /* log2(e) / 2 */
    __m512 slow = _mm512_fmadd_ps(far, _mm512_set1_ps(0.2316418870f), one); /* 0.3275911 / sqrt(2) */
    __m512 near = _mm512_rcp14_ps(slow);
    near = _mm512_mul_ps(near, _mm512_fnmadd_ps(slow, near, _mm512_set1_ps(2.0f)));
    __m512 tail = _mm512_set1_ps(0.5307027145f); /* halves of their coefficients */
    tail = _mm512_fmadd_ps(tail, near, _mm512_set1_ps(-0.7265760135f));
    tail = _mm512_fmadd_ps(tail, near, _mm512_set1_ps(0.7107068705f));
    tail = _mm512_fmadd_ps(tail, near, _mm512_set1_ps(-0.1422483680f));
    tail = _mm512_fmadd_ps(tail, near, _mm512_set1_ps(0.1274147960f));
    tail = _mm512_mul_ps(_mm512_mul_ps(tail, near), power);
    *density = _mm512_mul_ps(power, _mm512_set1_ps(0.3989422804f)); /* 1 / sqrt(2 pi) */
    __mmask16 below = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_LT_OQ);
    return _mm512_mask_mov_ps(_mm512_sub_ps(one, tail), below, tail);
}

FAST static void raise(const bf16 *x, const float *bias, int64_t width, bf16 *out) {
    const Pieces of = pieces();
    for (int64_t c = 0; c < width; c += LANES)
        narrow(gelu(&of, _mm512_add_ps(widened(x + c), _mm512_loadu_ps(bias + c))), out + c);
}

/* gelu(x + bias) of each token, by OpenMP's threads.

   x, out: (tokens, width); a width is a multiple of 16
   bias:   (width) */
int embedctl_gelu(const bf16 *x, const float *bias, int64_t tokens, int64_t width, int threads, bf16 *out) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t t = 0; t < tokens; t++)
        raise(x + t * width, bias, width, out + t * width);
    return 0;
}

FAST static void pull(const bf16 *gradient, const bf16 *x, const float *bias, int64_t width, bf16 *d_x, float *sums) {
    __m512 density;
    for (int64_t c = 0; c < width; c += LANES) {
        __m512 sum = _mm512_add_ps(widened(x + c), _mm512_loadu_ps(bias + c));
        __m512 share = normal(sum, &density);
        __m512 found = _mm512_mul_ps(widened(gradient + c), _mm512_fmadd_ps(sum, density, share));
        _mm512_storeu_ps(sums + c, _mm512_add_ps(found, _mm512_loadu_ps(sums + c)));
        narrow(found, d_x + c);
    }
}

/* The gradients of embedctl_gelu's x and bias from its result's. Returns 0, or -1 if there is no memory. */
int embedctl_pull_gelu(const bf16 *gradient, const bf16 *x, const float *bias, int64_t tokens, int64_t width,
                       int threads, bf16 *d_x, float *d_bias) {
    const int64_t chunks = (tokens + CHUNK - 1) / CHUNK;
    float *sums = calloc((size_t)(chunks * width), sizeof(float));
    if (sums == NULL)
        return -1;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t chunk = 0; chunk < chunks; chunk++)
        for (int64_t t = chunk * CHUNK; t < tokens && t < (chunk + 1) * CHUNK; t++)
            pull(gradient + t * width, x + t * width, bias, width, d_x + t * width, sums + chunk * width);
    add_chunks(sums, chunks, width, d_bias);
    free(sums);
    return 0;
}

#endif
