/* Attention of texts to themselves in float32, without gradients, for the processors of floats.h. A block is sixteen
   queries, two registers' lanes; all their scores stay in the core's cache. What a text becomes depends on no other text. */

#include "floats.h"

#ifdef FAST

#include <omp.h>
#include <stdlib.h>

/* A head of a text: queries, keys and values, (length, side) each, and where its mixture goes, `line` numbers a token.
   As many as 15 rows behind these are read, though never used. */
typedef struct {
    const float *queries, *keys, *values;
    float *out;
    int64_t length, side, line;
} Head;

/* Sixteen rows of eight numbers become eight of sixteen, times `scale`. */
INLINE void to_lanes(const float *from, int64_t side, __m256 scale, float *to) {
    for (int half = 0; half < 2; half++) {
        __m256 rows[LANES], pairs[LANES];
        for (int i = 0; i < LANES; i++)
            rows[i] = _mm256_mul_ps(_mm256_loadu_ps(from + (half * LANES + i) * side), scale);
        for (int i = 0; i < LANES; i += 2) {
            pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
            pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
        }
        for (int i = 0; i < LANES; i += 4)
            for (int odd = 0; odd < 2; odd++) {
                rows[i + 2 * odd] = _mm256_shuffle_ps(pairs[i + odd], pairs[i + odd + 2], 0x44);
                rows[i + 2 * odd + 1] = _mm256_shuffle_ps(pairs[i + odd], pairs[i + odd + 2], 0xee);
            }
        for (int i = 0; i < LANES / 2; i++) {
            _mm256_storeu_ps(to + i * COLUMNS + half * LANES, _mm256_permute2f128_ps(rows[i], rows[i + 4], 0x20));
            _mm256_storeu_ps(to + (i + 4) * COLUMNS + half * LANES, _mm256_permute2f128_ps(rows[i], rows[i + 4], 0x31));
        }
    }
}

/* Scores of each key with the sixteen queries, in powers of two; the greatest is kept in `top`. */
INLINE void score(const Head *head, const float *queries, float *scores, __m256 top[2]) {
    for (int64_t key = 0; key < head->length; key += ROWS) {
        __m256 sums[ROWS][2];
        zero(ROWS, sums);
        add_products(ROWS, head->keys + key * head->side, head->side, 1, queries, COLUMNS, head->side, sums);
#pragma GCC unroll 6
        for (int i = 0; i < ROWS; i++)
            for (int half = 0; half < 2; half++) {
                _mm256_storeu_ps(scores + (key + i) * COLUMNS + half * LANES, sums[i][half]);
                if (key + i < head->length)
                    top[half] = _mm256_max_ps(sums[i][half], top[half]);
            }
    }
}

/* Of each query the exponentials of its scores, and one over their sum. */
INLINE void share(int64_t length, float *scores, const __m256 top[2], float *each) {
    __m256 totals[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int64_t key = 0; key < length; key++)
        for (int half = 0; half < 2; half++) {
            float *here = scores + key * COLUMNS + half * LANES;
            const __m256 power = power_of_two(_mm256_sub_ps(_mm256_loadu_ps(here), top[half]));
            totals[half] = _mm256_add_ps(totals[half], power);
            _mm256_storeu_ps(here, power);
        }
    for (int half = 0; half < 2; half++)
        _mm256_storeu_ps(each + half * LANES, _mm256_div_ps(_mm256_set1_ps(1.0f), totals[half]));
}

/* Values by their shares, of `rows` queries from `query` on; `first` is of the block. */
INLINE void mix(const int rows, const Head *head, int64_t first, int64_t query, const float *scores, const float *each) {
    for (int64_t c = 0; c < head->side; c += COLUMNS) {
        __m256 sums[ROWS][2];
        zero(rows, sums);
        add_products(rows, scores + query, 1, COLUMNS, head->values + c, head->side, head->length, sums);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++)
            if (first + query + i < head->length)
                for (int half = 0; half < 2; half++)
                    _mm256_storeu_ps(head->out + (first + query + i) * head->line + c + half * LANES,
                                     _mm256_mul_ps(sums[i][half], _mm256_set1_ps(each[query + i])));
    }
}

/* `room`: (side + length + ROWS, COLUMNS). */
FAST static void attend(const Head *head, float *room) {
    const __m256 scale = _mm256_set1_ps(1.4426950409f / __builtin_sqrtf((float)head->side)); /* log2(e) / sqrt(side) */
    float *scores = room + head->side * COLUMNS, each[COLUMNS];
    for (int64_t first = 0; first < head->length; first += COLUMNS) {
        for (int64_t c = 0; c < head->side; c += LANES)
            to_lanes(head->queries + first * head->side + c, head->side, scale, room + c * COLUMNS);
        __m256 top[2] = {_mm256_set1_ps(-__builtin_inff()), _mm256_set1_ps(-__builtin_inff())};
        score(head, room, scores, top);
        share(head->length, scores, top, each);
        mix(ROWS, head, first, 0, scores, each);
        mix(ROWS, head, first, ROWS, scores, each);
        mix(COLUMNS - 2 * ROWS, head, first, 2 * ROWS, scores, each);
    }
}

/* All texts by OpenMP's threads. Returns 0, or -1 if there is no memory.

   qkv:  (3, heads, tokens, side), and 15 rows behind it
   out:  (tokens, heads * side)
   ends: (texts + 1), where each text begins, and where the last one ends; the longest come last */
int embedctl_attend_by_floats(const float *qkv, float *out, const int32_t *ends, int64_t texts, int64_t longest, int64_t heads,
                              int64_t side, int threads) {
    const int64_t tokens = ends[texts], part = tokens * side;
    int failed = 0;
#pragma omp parallel num_threads(threads)
    {
        float *room = malloc((size_t)((side + longest + ROWS) * COLUMNS) * sizeof(float));
        if (room == NULL)
            __atomic_store_n(&failed, -1, __ATOMIC_RELAXED);
#pragma omp for schedule(dynamic, 1)
        for (int64_t number = texts * heads - 1; number >= 0; number--) {
            const int64_t first = ends[number / heads], in_text = number % heads;
            const float *queries = qkv + in_text * part + first * side;
            const Head head = {queries, queries + heads * part, queries + 2 * heads * part,
                               out + first * heads * side + in_text * side, ends[number / heads + 1] - first, side, heads * side};
            if (room != NULL)
                attend(&head, room);
        }
        free(room);
    }
    return failed;
}

#endif
