/* The backward pass of attention.c: probabilities are computed again from the scores, as in FlashAttention (Dao et al.
   2022, arXiv:2205.14135), so that nothing of the size of a text squared is kept. */

#include "attention.h"

#ifdef FAST

/* Of one thread.

   keys, values:       (length, width) rows of the text
   key_pairs:          the keys in pairs of neighbouring ones
   d_keys, d_values:   (length, width) what all queries so far have given
   queries, ups:       queries and the gradients of what they became, in lanes
   query_pairs, up_pairs: the same in pairs of rows
   d_scores:           (pairs of keys, 2, LANES)
   mixed:              in lanes */
typedef struct {
    int32_t *keys, *values, *key_pairs, *queries, *ups, *query_pairs, *up_pairs, *d_scores, *mixed;
    float *d_keys, *d_values;
} Room;

/* Adds to eight rows of `total` the rows of queries, times the weights of each query for each of these eight. */
INLINE void give(const int blocks, const int32_t weights[TOGETHER][LANES], const int32_t *rows,
                 int width, float *total) {
    for (int c = 0; c < width; c += 2 * LANES) {
        __m512 sums[TOGETHER][2];
        for (int t = 0; t < TOGETHER; t++)
            for (int half = 0; half < 2; half++)
                sums[t][half] = _mm512_loadu_ps(total + t * width + c + half * LANES);
        for (int pair = 0; pair < blocks * LANES / 2; pair++) {
            __m512i one = _mm512_loadu_si512(rows + pair * width + c);
            __m512i other = _mm512_loadu_si512(rows + pair * width + c + LANES);
#pragma GCC unroll 8
            for (int t = 0; t < TOGETHER; t++) {
                __m512i weight = _mm512_set1_epi32(weights[t][pair]);
                sums[t][0] = product(sums[t][0], one, weight);
                sums[t][1] = product(sums[t][1], other, weight);
            }
        }
        for (int t = 0; t < TOGETHER; t++)
            for (int half = 0; half < 2; half++)
                _mm512_storeu_ps(total + t * width + c + half * LANES, sums[t][half]);
    }
}

/* What eight keys get from the queries, and d_scores. */
INLINE void pull_keys(const int blocks, Room room, int64_t key, int64_t first, int64_t query, int64_t length,
                      const Job *job, const Queries *of) {
    const int width = job->width;
    const __m512 scale = scale_of(width);
    const __m512 root = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_sqrt_ps(_mm512_set1_ps((float)width)));
    __m512 shares[TOGETHER][2], sums[TOGETHER][2];
    int32_t weights[TOGETHER][LANES];

    dots(blocks, room.keys, key, room.queries, width, shares);
    if (job->window >= 0 || key + TOGETHER > length)
        hide(blocks, key, query, length, job->window, shares);
    for (int t = 0; t < TOGETHER; t++)
        for (int b = 0; b < blocks; b++) {
            __m512 power = power_of_two(_mm512_fmsub_ps(shares[t][b], scale, of->shift[b]));
            shares[t][b] = _mm512_mul_ps(power, of->each[b]);
            narrow(shares[t][b], (bf16 *)(weights[t] + b * LANES / 2));
        }
    give(blocks, weights, room.up_pairs, width, room.d_values + key * width);

    dots(blocks, room.values, key, room.ups, width, sums);
    for (int t = 0; t < TOGETHER; t++)
        for (int b = 0; b < blocks; b++) {
            __m512 change = _mm512_mul_ps(_mm512_sub_ps(sums[t][b], of->delta[b]), root);
            sums[t][b] = _mm512_mul_ps(shares[t][b], change);
            narrow(sums[t][b], (bf16 *)(weights[t] + b * LANES / 2));
        }
    give(blocks, weights, room.query_pairs, width, room.d_keys + key * width);
    for (int t = 0; t < TOGETHER; t += 2)
        for (int b = 0; b < blocks; b++)
            _mm512_storeu_si512(room.d_scores + (key + t - first + b) * LANES, pairs(sums[t][b], sums[t + 1][b]));
}

INLINE void pull_block(const int blocks, const Rows *head, int64_t query, const Job *job, Room room) {
    const int width = job->width;
    const int64_t length = head->length, left = length - query;
    const bf16 *queries = head->qkv + query * head->of_qkv, *ups = head->gradient + query * head->of_out;
    to_lanes(blocks, queries, head->of_qkv, left, width, room.queries);
    to_lanes(blocks, ups, head->of_out, left, width, room.ups);
    to_lanes(blocks, head->out + query * head->of_out, head->of_out, left, width, room.mixed);
    pair_rows(queries, head->of_qkv, left, blocks * LANES, width, room.query_pairs);
    pair_rows(ups, head->of_out, left, blocks * LANES, width, room.up_pairs);
    Queries of;
    look_up(blocks, head, query, room.ups, room.mixed, width, &of);

    Sight sight = sight_of(blocks, query, length, job->window, TOGETHER);
    for (int64_t key = sight.first; key < sight.last; key += TOGETHER)
        pull_keys(blocks, room, key, sight.first, query, length, job, &of);

    const __m512 whole[2] = {_mm512_set1_ps(1.0f), _mm512_set1_ps(1.0f)};
    const int64_t count = (sight.last - sight.first) / 2;
    mix(blocks, room.d_scores, room.key_pairs + sight.first / 2 * width, count, width, whole, room.mixed);
    from_lanes(blocks, room.mixed, head->d_qkv + query * head->of_qkv, head->of_qkv, left, width);
}

FAST static void pull_head(const Rows *head, const Job *job, Room room) {
    const int width = job->width;
    const int64_t length = head->length, rows = padded(length, TOGETHER);
    copy_rows(head->qkv + head->part, head->of_qkv, length, rows, width, room.keys);
    copy_rows(head->qkv + 2 * head->part, head->of_qkv, length, rows, width, room.values);
    pair_rows(head->qkv + head->part, head->of_qkv, length, rows, width, room.key_pairs);
    for (int64_t i = 0; i < rows * width; i++)
        room.d_keys[i] = room.d_values[i] = 0.0f;
    int64_t query = 0;
    for (; query + LANES < length; query += 2 * LANES)
        pull_block(2, head, query, job, room);
    if (query < length)
        pull_block(1, head, query, job, room);
    write_rows(room.d_keys, length, width, head->d_qkv + head->part, head->of_qkv);
    write_rows(room.d_values, length, width, head->d_qkv + 2 * head->part, head->of_qkv);
}

FAST static int pull_some(Rows all, Job *job) {
    const size_t width = (size_t)job->width, length = (size_t)padded(job->longest, TOGETHER), block = width * LANES;
    void *whole;
    Room room;
    room.keys = aligned(length * (width / 2 * 3 + 2 * width + LANES) + 5 * block, &whole);
    if (room.keys == NULL)
        return -1;
    room.values = room.keys + length * width / 2;
    room.key_pairs = room.values + length * width / 2;
    room.d_keys = (float *)(room.key_pairs + length * width / 2);
    room.d_values = room.d_keys + length * width;
    room.d_scores = (int32_t *)(room.d_values + length * width);
    room.queries = room.d_scores + length * LANES;
    room.ups = room.queries + block;
    room.query_pairs = room.ups + block;
    room.up_pairs = room.query_pairs + block;
    room.mixed = room.up_pairs + block;
    Rows head;
    int64_t number = -1;
    while (take(job, &all, &number, &head))
        pull_head(&head, job, room);
    free(whole);
    return 0;
}

/* The gradient of embedctl_attend's qkv, of the same shape, from its result's and what it left in `sums`, which are
   only read. Returns 0, or -1 if there is no memory. */
int embedctl_pull(const bf16 *qkv, bf16 *out, float *sums, const bf16 *gradient, bf16 *d_qkv, const Job *what) {
    const Rows all = {.qkv = qkv, .out = out, .sums = sums, .gradient = gradient, .d_qkv = d_qkv};
    int failed = 0;
    Job job = *what;
#pragma omp parallel num_threads(job.threads)
    if (pull_some(all, &job))
        __atomic_store_n(&failed, -1, __ATOMIC_RELAXED);
    return failed;
}

#endif
