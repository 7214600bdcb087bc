/* Attention of texts to themselves in bfloat16, for processors with AVX-512 BF16 (Intel from Cooper Lake, AMD from
   Zen 4). One text and one head at a time; scores, their exponentials and sums stay in float32 and in the core's cache.
   Nothing is padded, and what a text becomes depends on no other text. Built if a C compiler is there; without it
   attention.py does the same with torch. */

#include <omp.h>

#include "attention.h"

#ifdef FAST

/* Of one thread; rows of `scores` and `shares` hold two blocks of queries, and so do `queries` and `mixed`. */
typedef struct {
    const int32_t *keys;
    int32_t *keys_copied, *values, *queries, *shares, *mixed;
    float *scores;
} Room;

/* Scores of eight keys; the greatest so far is kept in `top`. */
INLINE void score(const int blocks, const int width, Room room, int64_t key, int64_t first, int64_t query,
                  int64_t length, const Job *job, __m512 *top) {
    __m512 sums[TOGETHER][2];
    dots(blocks, room.keys, key, room.queries, width, sums);
    if (job->window >= 0 || key + TOGETHER > length)
        hide(blocks, key, query, length, job->window, sums);
    for (int t = 0; t < TOGETHER; t++)
        for (int b = 0; b < blocks; b++) {
            top[b] = _mm512_max_ps(sums[t][b], top[b]);
            _mm512_storeu_ps(room.scores + ((key + t - first) * 2 + b) * LANES, sums[t][b]);
        }
}

/* exp((score - top) / sqrt(width)) of `count` scores, in pairs of keys; their sum. */
INLINE __m512 share(const int b, Room room, int64_t count, __m512 scale, __m512 shift) {
    __m512 totals[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int64_t k = 0; k < count; k += 2) {
        const float *here = room.scores + (k * 2 + b) * LANES;
        __m512 even = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(here), scale, shift));
        __m512 odd = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(here + 2 * LANES), scale, shift));
        totals[0] = _mm512_add_ps(totals[0], even);
        totals[1] = _mm512_add_ps(totals[1], odd);
        _mm512_storeu_si512(room.shares + (k + b) * LANES, pairs(even, odd));
    }
    return _mm512_add_ps(totals[0], totals[1]);
}

/* As many rows of the next head, which lie too far apart for the processor to foresee. */
INLINE void fetch_next(const int blocks, const int width, const Rows *head, int64_t query) {
    const int64_t last = query + blocks * LANES < head->length ? query + blocks * LANES : head->length;
    for (int part = 0; part < 3; part++) {
        const bf16 *rows = head->qkv + head->next + part * head->part;
        for (int64_t t = query; t < last; t++)
            for (int c = 0; c < width; c += SIDE)
                _mm_prefetch((const char *)(rows + t * head->of_qkv + c), _MM_HINT_T0);
    }
}

/* The queries from `query` on, `blocks` times sixteen or as many as there are. */
INLINE void attend_block(const int blocks, const int width, const Rows *head, int64_t query, const Job *job, Room room) {
    const int64_t length = head->length, left = length - query;
    fetch_next(blocks, width, head, query);
    to_lanes(blocks, head->qkv + query * head->of_qkv, head->of_qkv, left, width, room.queries);

    Sight sight = sight_of(blocks, query, length, job->window, TOGETHER);
    __m512 top[2] = {_mm512_set1_ps(-__builtin_inff()), _mm512_set1_ps(-__builtin_inff())};
    for (int64_t key = sight.first; key < sight.last; key += TOGETHER)
        score(blocks, width, room, key, sight.first, query, length, job, top);

    const __m512 scale = scale_of(width);
    const int64_t count = sight.last - sight.first;
    __m512 each[2];
    for (int b = 0; b < blocks; b++) {
        __m512 shift = _mm512_mul_ps(top[b], scale);
        each[b] = _mm512_div_ps(_mm512_set1_ps(1.0f), share(b, room, count, scale, shift));
        note(head, query + b * LANES, shift, each[b]);
    }
    mix(blocks, room.shares, room.values + sight.first / 2 * width, count / 2, width, each, room.mixed);
    from_lanes(blocks, room.mixed, head->out + query * head->of_out, head->of_out, left, width);
}

INLINE void attend_head(const int width, const Rows *head, const Job *job, Room room) {
    const int64_t length = head->length, rows = padded(length, TOGETHER);
    if (head->of_qkv == width) /* as they are, and rows of others behind them */
        room.keys = (const int32_t *)(head->qkv + head->part);
    else
        copy_rows(head->qkv + head->part, head->of_qkv, length, rows, width, room.keys_copied);
    pair_rows(head->qkv + 2 * head->part, head->of_qkv, length, rows, width, room.values);
    int64_t query = 0;
    for (; query + LANES < length; query += 2 * LANES)
        attend_block(2, width, head, query, job, room);
    if (query < length)
        attend_block(1, width, head, query, job, room);
}

/* With the usual widths known when it is compiled, addresses of rows need no arithmetic. */
FAST static void attend_any(const Rows *head, const Job *job, Room room) {
    if (job->width == 32)
        attend_head(32, head, job, room);
    else if (job->width == 64)
        attend_head(64, head, job, room);
    else
        attend_head(job->width, head, job, room);
}

/* Heads of texts as long as there are some. */
FAST static int attend_some(Rows all, Job *job) {
    const size_t width = (size_t)job->width, length = (size_t)padded(job->longest, TOGETHER);
    void *whole;
    Room room;
    room.keys = room.keys_copied = aligned(length * (width + 3 * LANES) + 2 * width * LANES, &whole);
    if (room.keys == NULL)
        return -1;
    room.values = room.keys_copied + length * width / 2;
    room.scores = (float *)(room.values + length * width / 2);
    room.shares = (int32_t *)(room.scores + length * 2 * LANES);
    room.queries = room.shares + length * LANES;
    room.mixed = room.queries + width * LANES;
    Rows head;
    int64_t number = -1;
    while (take(job, &all, &number, &head))
        attend_any(&head, job, room);
    free(whole);
    return 0;
}

int embedctl_can_attend(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512bf16");
}

/* What the calling thread begins from now on, OpenMP gives to no other thread. */
void embedctl_compute_alone(void) { omp_set_num_threads(1); }

/* All texts by OpenMP's threads. Returns 0, or -1 if there is no memory.

   qkv:  (tokens, 3 * heads * width) queries, keys and values of each token side by side
   out:  (tokens, heads * width)
   sums: NULL, or room for tokens * heads * 2 numbers that the backward pass needs: for each text and head, of each
         token the power of two that its scores are relative to, then of each one over the sum of its exponentials */
int embedctl_attend(const bf16 *qkv, bf16 *out, float *sums, const Job *what) {
    const Rows all = {.qkv = qkv, .out = out, .sums = sums};
    int failed = 0;
    Job job = *what;
#pragma omp parallel num_threads(job.threads)
    if (attend_some(all, &job))
        __atomic_store_n(&failed, -1, __ATOMIC_RELAXED);
    return failed;
}

#else

int embedctl_can_attend(void) { return 0; }

#endif
