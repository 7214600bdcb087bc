/* Numbers in the lanes of AVX-512's registers. A pair is two neighbouring bfloat16 in one 32-bit lane, as VDPBF16PS
   multiplies them. */

#ifndef EMBEDCTL_LANES_H
#define EMBEDCTL_LANES_H

#include <stdint.h>
#include <stdlib.h>

typedef uint16_t bf16;

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#ifndef TARGET
#define TARGET "avx512f,avx512bw,avx512bf16"
#endif
#define FAST __attribute__((target(TARGET)))
#define INLINE FAST static inline __attribute__((always_inline))
#define LANES 16
#define SIDE 32 /* of a square of sums: four tiles, or two registers a row */
#define LINE 64 /* bytes of a register, and of a row of a tile */

/* Room for so many 32-bit numbers, at an address that suits the registers; the whole is to be freed. */
INLINE int32_t *aligned(size_t count, void **whole) {
    *whole = malloc(count * sizeof(int32_t) + 64);
    return *whole ? (int32_t *)(((uintptr_t)*whole + 63) & ~(uintptr_t)63) : NULL;
}

INLINE __m512 product(__m512 sum, __m512i one, __m512i other) {
    return _mm512_dpbf16_ps(sum, (__m512bh)one, (__m512bh)other);
}

/* Lane i: the pair (even[i], odd[i]), rounded to nearest. */
INLINE __m512i pairs(__m512 even, __m512 odd) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(odd, even));
}

/* 2^x for x <= 0, to a relative error of 4e-6; what is below -100 counts as that, so that what it is multiplied with does
   not become so small that the processor takes long over it. A NaN stays one. */
INLINE __m512 power_of_two(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-100.0f), x);
    __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 rest = _mm512_sub_ps(x, whole);
    __m512 found = _mm512_set1_ps(0.0096181291f); /* Taylor: ln(2)^n / n! */
    found = _mm512_fmadd_ps(found, rest, _mm512_set1_ps(0.0555041087f));
    found = _mm512_fmadd_ps(found, rest, _mm512_set1_ps(0.2402265070f));
    found = _mm512_fmadd_ps(found, rest, _mm512_set1_ps(0.6931471806f));
    found = _mm512_fmadd_ps(found, rest, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(found, whole);
}

/* Rows become columns. */
INLINE void transpose(__m512i rows[LANES]) {
    __m512i half[LANES];
    for (int i = 0; i < LANES; i += 2) {
        half[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        half[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < LANES; i += 4) {
        rows[i] = _mm512_unpacklo_epi64(half[i], half[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(half[i], half[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(half[i + 1], half[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(half[i + 1], half[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        half[i] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0x88);
        half[i + 4] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0xdd);
        half[i + 8] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0x88);
        half[i + 12] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm512_shuffle_i32x4(half[i], half[i + 8], 0x88);
        rows[i + 4] = _mm512_shuffle_i32x4(half[i + 4], half[i + 12], 0x88);
        rows[i + 8] = _mm512_shuffle_i32x4(half[i], half[i + 8], 0xdd);
        rows[i + 12] = _mm512_shuffle_i32x4(half[i + 4], half[i + 12], 0xdd);
    }
}

/* `many` rows side by side, those beyond the text zero. */
INLINE void copy_rows(const bf16 *from, int64_t stride, int64_t length, int64_t many, int width, int32_t *to) {
    for (int64_t t = 0; t < many; t++)
        for (int c = 0; c < width; c += 32) {
            __m512i row = t < length ? _mm512_loadu_si512(from + t * stride + c) : _mm512_setzero_si512();
            _mm512_storeu_si512(to + (t * width + c) / 2, row);
        }
}

/* Sixteen numbers of two neighbouring rows in pairs; what is beyond `length` is zero. */
INLINE __m512i pair_of_rows(const bf16 *from, int64_t stride, int64_t row, int64_t length) {
    __m512i rows[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (int i = 0; i < 2; i++)
        if (row + i < length)
            rows[i] = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(from + (row + i) * stride)));
    return _mm512_or_si512(rows[0], _mm512_slli_epi32(rows[1], 16));
}

/* `many` rows, an even number, of whole registers, in pairs of two neighbouring ones. */
INLINE void pair_rows(const bf16 *from, int64_t stride, int64_t length, int64_t many, int width, int32_t *to) {
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5,
                                         36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(LANES));
    for (int64_t t = 0; t < many; t += 2)
        for (int c = 0; c < width; c += 2 * LANES) {
            const bf16 *row = from + t * stride + c;
            __m512i even = t < length ? _mm512_loadu_si512(row) : _mm512_setzero_si512();
            __m512i odd = t + 1 < length ? _mm512_loadu_si512(row + stride) : _mm512_setzero_si512();
            int32_t *here = to + t / 2 * width + c;
            _mm512_storeu_si512(here, _mm512_permutex2var_epi16(even, low, odd));
            _mm512_storeu_si512(here + LANES, _mm512_permutex2var_epi16(even, high, odd));
        }
}

/* Rows become the lanes of `blocks`, (width / 2, 2, LANES) pairs of dimensions; what is beyond `length` is zero. */
INLINE void to_lanes(const int blocks, const bf16 *from, int64_t stride, int64_t length, int width, int32_t *to) {
    __m512i rows[LANES];
    for (int b = 0; b < blocks; b++)
        for (int c = 0; c < width; c += 32) {
            for (int i = 0; i < LANES; i++) {
                int64_t row = b * LANES + i;
                rows[i] = row < length ? _mm512_loadu_si512(from + row * stride + c) : _mm512_setzero_si512();
            }
            transpose(rows);
            for (int i = 0; i < LANES; i++)
                _mm512_storeu_si512(to + ((c / 2 + i) * 2 + b) * LANES, rows[i]);
        }
}

/* The inverse of to_lanes. */
INLINE void from_lanes(const int blocks, const int32_t *from, bf16 *to, int64_t stride, int64_t length, int width) {
    __m512i rows[LANES];
    for (int b = 0; b < blocks; b++)
        for (int c = 0; c < width; c += 32) {
            for (int i = 0; i < LANES; i++)
                rows[i] = _mm512_loadu_si512(from + ((c / 2 + i) * 2 + b) * LANES);
            transpose(rows);
            for (int i = 0; i < LANES; i++)
                if (b * LANES + i < length)
                    _mm512_storeu_si512(to + (b * LANES + i) * stride + c, rows[i]);
        }
}

INLINE void write_rows(const float *from, int64_t length, int width, bf16 *to, int64_t stride) {
    for (int64_t t = 0; t < length; t++)
        for (int c = 0; c < width; c += 32) {
            __m512 low = _mm512_loadu_ps(from + t * width + c), high = _mm512_loadu_ps(from + t * width + c + LANES);
            _mm512_storeu_si512(to + t * stride + c, (__m512i)_mm512_cvtne2ps_pbh(high, low));
        }
}

INLINE __m512 widened(const bf16 *from) {
    __m512i whole = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(whole, 16));
}

INLINE void narrow(__m512 numbers, bf16 *to) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(numbers));
}

#define CHUNK 64 /* tokens whose gradients of weights are summed by themselves, whichever thread takes them */

/* The sum of `many` runs of `width` numbers, always in the same order. */
FAST static inline void add_chunks(const float *runs, int64_t many, int64_t width, float *sum) {
    for (int64_t c = 0; c < width; c++)
        sum[c] = 0.0f;
    for (int64_t i = 0; i < many; i++)
        for (int64_t c = 0; c < width; c++)
            sum[c] += runs[i * width + c];
}

#endif
#endif
