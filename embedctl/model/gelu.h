/* GELU (Hendrycks & Gimpel 2016, arXiv:1606.08415) without exponentials: what it lacks of max(x, 0) depends on the size
   of x alone, and is looked up in pieces of a sixth, a cubic each, two registers to a coefficient. Right to 5e-7. */

#ifndef EMBEDCTL_GELU_H
#define EMBEDCTL_GELU_H

#include "lanes.h"

#ifdef FAST

#define PIECES (2 * LANES)
#define PER_ONE 6.0f /* beyond 31.5 of them the rest is less than the error */

/* Coefficients of the cubics, in pieces from the middle of each on; made when the library is loaded. */
extern float embedctl_gelu_pieces[4][PIECES];

typedef struct {
    __m512 low[4], high[4];
} Pieces;

INLINE Pieces pieces(void) {
    Pieces found;
    for (int power = 0; power < 4; power++) {
        found.low[power] = _mm512_loadu_ps(embedctl_gelu_pieces[power]);
        found.high[power] = _mm512_loadu_ps(embedctl_gelu_pieces[power] + LANES);
    }
    return found;
}

/* A NaN stays one. */
INLINE __m512 gelu(const Pieces *of, __m512 x) {
    const __m512 whole = _mm512_set1_ps(12582912.0f); /* 1.5 * 2^23: what is added to it is rounded to a whole number */
    __m512 far = _mm512_min_ps(_mm512_set1_ps((PIECES - 0.51f) / PER_ONE), _mm512_abs_ps(x));
    __m512 place = _mm512_fmadd_ps(far, _mm512_set1_ps(PER_ONE), whole);
    __m512 rest = _mm512_fmsub_ps(far, _mm512_set1_ps(PER_ONE), _mm512_sub_ps(place, whole));
    __m512i which = _mm512_castps_si512(place);
    __m512 lacks = _mm512_permutex2var_ps(of->low[3], which, of->high[3]);
    for (int power = 2; power >= 0; power--)
        lacks = _mm512_fmadd_ps(lacks, rest, _mm512_permutex2var_ps(of->low[power], which, of->high[power]));
    return _mm512_sub_ps(_mm512_max_ps(_mm512_setzero_ps(), x), lacks);
}

#endif
#endif
