/* What both passes of attention are made of. A block is sixteen queries, a lane of a vector register each, and one or
   two blocks are taken together, with eight keys at a time (attention_tiles.c: thirty-two); the last of these may lie
   beyond the text and are hidden. */

#ifndef EMBEDCTL_ATTENTION_H
#define EMBEDCTL_ATTENTION_H

#include "lanes.h"

/* The texts of a batch, and the heads of a model; `next` is shared by the threads.

   ends:   (texts + 1), where each text begins, and where the last one ends
   window: tokens to either side that a token sees; -1: the whole text
   tokens: 0: rows of a token's heads side by side; else, of all texts: head after head, each of so many rows */
typedef struct {
    const int32_t *ends;
    int64_t texts, longest;
    int heads, width, window, threads;
    int64_t tokens, next;
} Job;

#ifdef FAST

#define TOGETHER 8 /* keys, or dimensions, whose sums are in registers at the same time */

/* Rows of all texts, or of one head of one text.

   sums:  may be NULL in the forward pass; of a head, `length` numbers and again so many
   of_qkv, of_out: numbers from a token to the next one
   part:  numbers from a query to its key, and from there to its value */
typedef struct {
    const bf16 *qkv;
    bf16 *out;
    float *sums;
    const bf16 *gradient;
    bf16 *d_qkv;
    int64_t length, of_qkv, of_out, part, next;
} Rows;

/* A head of those that are left; the last texts, which are the longest, come first. A thread takes two neighbouring
   ones in turn, as their rows share pairs of lines of the cache, which are fetched together.

   number: of the thread's last head; -1 before the first */
INLINE int take(Job *job, const Rows *all, int64_t *number, Rows *head) {
    *number = *number >= 0 && *number % 2 == 0 ? *number + 1 : __atomic_fetch_add(&job->next, 2, __ATOMIC_RELAXED);
    if (*number >= job->texts * job->heads)
        return 0;
    const int64_t text = job->texts - 1 - *number / job->heads, in_text = *number % job->heads;
    const int64_t begin = job->ends[text], width = job->width, side = job->heads * width;
    head->length = job->ends[text + 1] - begin;
    head->sums = all->sums ? all->sums + 2 * (begin * job->heads + in_text * head->length) : NULL;
    head->of_qkv = job->tokens ? width : 3 * side;
    head->of_out = job->tokens ? width : side;
    head->part = job->tokens ? job->tokens * side : side;
    head->next = job->tokens ? job->tokens * width : width;
    const int64_t across = in_text * (job->tokens ? job->tokens * width : width);
    const int64_t in_qkv = begin * head->of_qkv + across, in_out = begin * head->of_out + across;
    head->qkv = all->qkv + in_qkv;
    head->out = all->out + in_out;
    head->gradient = all->gradient ? all->gradient + in_out : NULL;
    head->d_qkv = all->d_qkv ? all->d_qkv + in_qkv : NULL;
    return 1;
}

/* Of scores, in powers of two: log2(e) / sqrt(width). */
INLINE __m512 scale_of(int width) {
    return _mm512_div_ps(_mm512_set1_ps(1.4426950409f), _mm512_sqrt_ps(_mm512_set1_ps((float)width)));
}

/* How many rows there are with those beyond the text: whole ones of `step`, a power of two. */
INLINE int64_t padded(int64_t length, int64_t step) { return (length + step - 1) & ~(step - 1); }

/* The keys that the queries from `query` on see: whole ones of `step` from `first` to before `last`. */
typedef struct {
    int64_t first, last;
} Sight;

INLINE Sight sight_of(const int blocks, int64_t query, int64_t length, int window, int64_t step) {
    Sight sight = {0, padded(length, step)};
    if (window < 0)
        return sight;
    int64_t end = query + blocks * LANES + window;
    sight.first = query > window ? (query - window) & ~(step - 1) : 0;
    sight.last = padded(end < length ? end : length, step);
    return sight;
}

/* The queries of a block from `query` on that are too far from a key to see it. */
INLINE __mmask16 far_from(int64_t key, int64_t query, int window) {
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i apart = _mm512_add_epi32(lanes, _mm512_set1_epi32((int)(query - key)));
    return _mm512_cmpgt_epi32_mask(_mm512_abs_epi32(apart), _mm512_set1_epi32(window));
}

/* Which of a block's queries are there, of so many that are left from its first on. */
INLINE __mmask16 there(int64_t left) {
    return left >= LANES ? 0xffff : (__mmask16)((1u << (left > 0 ? left : 0)) - 1);
}

/* Scores of eight rows, from `row` on, with queries in lanes. */
INLINE void dots(const int blocks, const int32_t *rows, int64_t row, const int32_t *queries, int width,
                 __m512 sums[TOGETHER][2]) {
    for (int t = 0; t < TOGETHER; t++)
        for (int b = 0; b < blocks; b++)
            sums[t][b] = _mm512_setzero_ps();
    rows += row * (width / 2);
#pragma GCC unroll 4
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
    for (int t = 0; t < TOGETHER; t++)
        for (int b = 0; b < blocks; b++)
            sums[t][b] = _mm512_mask_mov_ps(sums[t][b], far_from(key + t, query + b * LANES, window), never);
}

/* Keeps, of the queries of a block, what their scores are relative to and one over the sum of their exponentials. */
INLINE void note(const Rows *head, int64_t query, __m512 shift, __m512 each) {
    if (head->sums == NULL)
        return;
    _mm512_mask_storeu_ps(head->sums + query, there(head->length - query), shift);
    _mm512_mask_storeu_ps(head->sums + head->length + query, there(head->length - query), each);
}

/* Of each query: what the forward pass kept, and the sum of gradient times output. */
typedef struct {
    __m512 shift[2], each[2], delta[2];
} Queries;

/* `ups` and `mixed`: gradients and outputs in lanes. */
INLINE void look_up(const int blocks, const Rows *head, int64_t query, const int32_t *ups, const int32_t *mixed, int width,
                    Queries *of) {
    for (int b = 0; b < blocks; b++) {
        const float *kept = head->sums + query + b * LANES;
        const __mmask16 those = there(head->length - query - b * LANES);
        of->shift[b] = _mm512_maskz_loadu_ps(those, kept);
        of->each[b] = _mm512_maskz_loadu_ps(those, kept + head->length);
        of->delta[b] = _mm512_setzero_ps();
        for (int pair = 0; pair < width / 2; pair++) {
            __m512i up = _mm512_loadu_si512(ups + (pair * 2 + b) * LANES);
            of->delta[b] = product(of->delta[b], up, _mm512_loadu_si512(mixed + (pair * 2 + b) * LANES));
        }
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
#pragma GCC unroll 4
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
