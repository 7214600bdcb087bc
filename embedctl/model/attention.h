/* What both passes of attention are made of. A block is sixteen queries, a lane of a vector register each, and one or
   two blocks are taken together, with eight keys at a time; the last of these may lie beyond the text, are zero and hidden.
   A pair is two neighbouring bfloat16 in one 32-bit lane, as VDPBF16PS multiplies them. The width of a head is always a
   multiple of 32. */

#ifndef EMBEDCTL_ATTENTION_H
#define EMBEDCTL_ATTENTION_H

#include <stdint.h>
#include <stdlib.h>

typedef uint16_t bf16;

/* The texts of a batch, and the heads of a model; `next` is shared by the threads.

   ends:   (texts + 1), where each text begins, and where the last one ends
   window: tokens to either side that a token sees; -1: the whole text */
typedef struct {
    const int32_t *ends;
    int64_t texts, longest;
    int heads, width, window, threads;
    int64_t next;
} Job;

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#define FAST __attribute__((target("avx512f,avx512bw,avx512bf16")))
#define INLINE FAST static inline __attribute__((always_inline))
#define LANES 16
#define TOGETHER 8 /* keys, or dimensions, whose sums are in registers at the same time */

/* One head of one text, of those that are left; the last texts, which are the longest, come first. */
typedef struct {
    int64_t begin, length, head;
} Unit;

INLINE int take(Job *job, Unit *unit) {
    int64_t number = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED);
    if (number >= job->texts * job->heads)
        return 0;
    int64_t text = job->texts - 1 - number / job->heads;
    unit->head = number % job->heads;
    unit->begin = job->ends[text];
    unit->length = job->ends[text + 1] - unit->begin;
    return 1;
}

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

/* 2^x for x <= 0, to a relative error of 4e-6; what is below -126 counts as that. A NaN stays one. */
INLINE __m512 power_of_two(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-126.0f), x);
    __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 rest = _mm512_sub_ps(x, whole);
    __m512 found = _mm512_set1_ps(0.0096181291f); /* Taylor: ln(2)^n / n! */
    found = _mm512_fmadd_ps(found, rest, _mm512_set1_ps(0.0555041087f));
    found = _mm512_fmadd_ps(found, rest, _mm512_set1_ps(0.2402265070f));
    found = _mm512_fmadd_ps(found, rest, _mm512_set1_ps(0.6931471806f));
    found = _mm512_fmadd_ps(found, rest, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(found, whole);
}

/* Of scores, in powers of two: log2(e) / sqrt(width). */
INLINE __m512 scale_of(int width) {
    return _mm512_div_ps(_mm512_set1_ps(1.4426950409f), _mm512_sqrt_ps(_mm512_set1_ps((float)width)));
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

/* How many rows there are with those beyond the text: whole eights. */
INLINE int64_t padded(int64_t length) { return (length + TOGETHER - 1) & ~(int64_t)(TOGETHER - 1); }

/* Rows side by side, padded with zeros. */
INLINE void copy_rows(const bf16 *from, int64_t stride, int64_t length, int width, int32_t *to) {
    for (int64_t t = 0; t < padded(length); t++)
        for (int c = 0; c < width; c += 32) {
            __m512i row = t < length ? _mm512_loadu_si512(from + t * stride + c) : _mm512_setzero_si512();
            _mm512_storeu_si512(to + (t * width + c) / 2, row);
        }
}

/* `many` rows, an even number, in pairs of two neighbouring ones; what is beyond `length` is zero. */
INLINE void pair_rows(const bf16 *from, int64_t stride, int64_t length, int64_t many, int width, int32_t *to) {
    for (int64_t t = 0; t < many; t += 2)
        for (int c = 0; c < width; c += LANES) {
            __m512i rows[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
            for (int i = 0; i < 2; i++)
                if (t + i < length)
                    rows[i] = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(from + (t + i) * stride + c)));
            _mm512_storeu_si512(to + t / 2 * width + c, _mm512_or_si512(rows[0], _mm512_slli_epi32(rows[1], 16)));
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

/* The keys that the queries from `query` on see: whole eights from `first` to before `last`. */
typedef struct {
    int64_t first, last;
} Sight;

INLINE Sight sight_of(const int blocks, int64_t query, int64_t length, int window) {
    Sight sight = {0, padded(length)};
    if (window < 0)
        return sight;
    int64_t end = query + blocks * LANES + window;
    sight.first = query > window ? (query - window) & ~(int64_t)(TOGETHER - 1) : 0;
    sight.last = padded(end < length ? end : length);
    return sight;
}

/* Scores of eight rows, from `row` on, with queries in lanes. */
INLINE void dots(const int blocks, const int32_t *rows, int64_t row, const int32_t *queries, int width,
                 __m512 sums[TOGETHER][2]) {
    for (int t = 0; t < TOGETHER; t++)
        for (int b = 0; b < blocks; b++)
            sums[t][b] = _mm512_setzero_ps();
    rows += row * (width / 2);
    for (int pair = 0; pair < width / 2; pair++) {
        __m512i lanes[2];
        for (int b = 0; b < blocks; b++)
            lanes[b] = _mm512_loadu_si512(queries + (pair * 2 + b) * LANES);
#pragma GCC unroll 8
        for (int t = 0; t < TOGETHER; t++) {
            __m512i of_row = _mm512_set1_epi32(rows[t * (width / 2) + pair]);
            for (int b = 0; b < blocks; b++)
                sums[t][b] = product(sums[t][b], lanes[b], of_row);
        }
    }
}

/* Scores of keys from `key` on that are beyond the text or out of a query's sight become -inf. */
INLINE void hide(const int blocks, int64_t key, int64_t query, int64_t length, int window, __m512 sums[TOGETHER][2]) {
    const __m512 never = _mm512_set1_ps(-__builtin_inff());
#pragma GCC unroll 8
    for (int t = 0; t < TOGETHER; t++) /* an index that is not known beforehand would send all sums through memory */
        for (int b = 0; b < blocks; b++)
            sums[t][b] = key + t < length ? sums[t][b] : never;
    if (window < 0)
        return;
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (int t = 0; t < TOGETHER; t++)
        for (int b = 0; b < blocks; b++) {
            __m512i apart = _mm512_add_epi32(lanes, _mm512_set1_epi32((int)(query + b * LANES - key - t)));
            __mmask16 far = _mm512_cmpgt_epi32_mask(_mm512_abs_epi32(apart), _mm512_set1_epi32(window));
            sums[t][b] = _mm512_mask_mov_ps(sums[t][b], far, never);
        }
}

/* Rows mixed by weights, one row and dimension after the other; (width / 2, 2, LANES) pairs of dimensions.

   weights: (count, 2, LANES) pairs of two neighbouring rows
   rows:    (count, width) the same
   each:    by what a query's mixture is multiplied in the end */
INLINE void mix(const int blocks, const int32_t *weights, const int32_t *rows, int64_t count, int width,
                const __m512 *each, int32_t *mixed) {
    for (int c = 0; c < width; c += TOGETHER) {
        __m512 sums[TOGETHER][2];
        for (int t = 0; t < TOGETHER; t++)
            for (int b = 0; b < blocks; b++)
                sums[t][b] = _mm512_setzero_ps();
        for (int64_t pair = 0; pair < count; pair++) {
            __m512i lanes[2];
            for (int b = 0; b < blocks; b++)
                lanes[b] = _mm512_loadu_si512(weights + (pair * 2 + b) * LANES);
#pragma GCC unroll 8
            for (int t = 0; t < TOGETHER; t++) {
                __m512i value = _mm512_set1_epi32(rows[pair * width + c + t]);
                for (int b = 0; b < blocks; b++)
                    sums[t][b] = product(sums[t][b], lanes[b], value);
            }
        }
        for (int t = 0; t < TOGETHER; t += 2)
            for (int b = 0; b < blocks; b++) {
                __m512i both = pairs(_mm512_mul_ps(sums[t][b], each[b]), _mm512_mul_ps(sums[t + 1][b], each[b]));
                _mm512_storeu_si512(mixed + ((c + t) / 2 * 2 + b) * LANES, both);
            }
    }
}

#endif
#endif
