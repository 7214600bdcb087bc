/* Attention as in attention.c and attention_backward.c, whose four kinds of products are here of tiles (AMX, Intel from
   Sapphire Rapids): thirty-two queries with thirty-two keys at a time, two tiles by two. Layouts are the same, so that
   scores come with a query in each lane; only what is mixed needs its rows turned into columns. */

#include "tiles.h" /* first: it says what the compiler may use */

#include "attention.h"

#ifdef HAS_TILES

#include <cpuid.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define APART 32 /* numbers between columns beyond their length, so that they do not share lines of the cache */

/* Rows, `many` with those beyond `length`, which are zero, become columns of `many` + APART numbers. */
INLINE void turn(const bf16 *from, int64_t stride, int64_t length, int64_t many, int width, bf16 *to) {
    __m512i rows[LANES];
    for (int64_t t = 0; t < many; t += SIDE)
        for (int c = 0; c < width; c += LANES) {
            for (int i = 0; i < LANES; i++)
                rows[i] = pair_of_rows(from + c, stride, t + 2 * i, length);
            transpose(rows);
            for (int i = 0; i < LANES; i++)
                _mm512_storeu_si512(to + (c + i) * (many + APART) + t, rows[i]);
        }
}

/* As mix() in attention.h: columns of `many` + APART numbers, from `first` on, mixed by weights; dimensions in lanes. */
INLINE void mix_columns(const int blocks, const int32_t *weights, const bf16 *columns, int64_t many, Sight sight, int width,
                        const __m512 *each, float *sums, int32_t *mixed) {
    const int64_t row = 2 * (many + APART);
    for (int c = 0; c < width; c += SIDE) {
        Operand those = {columns + c * (many + APART) + sight.first, row, LANES * row, LINE};
        multiply(those, lanes_of(weights), (sight.last - sight.first) / SIDE, sums, 2 * LINE, 0);
        for (int t = 0; t < SIDE; t += 2)
            for (int b = 0; b < blocks; b++) {
                const float *here = sums + (t * 2 + b) * LANES;
                __m512 even = _mm512_mul_ps(_mm512_loadu_ps(here), each[b]);
                __m512 odd = _mm512_mul_ps(_mm512_loadu_ps(here + 2 * LANES), each[b]);
                _mm512_storeu_si512(mixed + ((c + t) / 2 * 2 + b) * LANES, pairs(even, odd));
            }
    }
}

/* Of one thread. Forward: `scores` and `weights` are of all keys; back: of thirty-two.

   rows, others:   keys, and back also values, in rows
   columns:        values, back keys
   pulls:          (keys, 2, LANES) in pairs of keys; forward the shares, back the gradients of scores */
typedef struct {
    int32_t *rows, *others, *lanes, *ups, *query_pairs, *up_pairs, *pulls, *mixed, *weights;
    bf16 *columns;
    float *scores, *changes, *sums, *d_keys, *d_values;
} Room;

/* exp((score - top) / sqrt(width)) of the keys of `sight`, in pairs; their sum. Beyond the text: 0, out of sight next to it. */
INLINE __m512 share(const int b, Room room, Sight sight, const Rows *head, int64_t query, const Job *job, __m512 scale,
                    __m512 *shift) {
    const int64_t end = sight.last < head->length ? sight.last : head->length, count = end - sight.first;
    const __m512 never = _mm512_set1_ps(-__builtin_inff());
    float *scores = room.scores + b * LANES;
    __m512 tops[4] = {never, never, never, never}; /* several, as one would wait for itself */
    for (int64_t k = 0; k < count; k += 4)
        for (int i = 0; i < 4; i++) {
            float *here = scores + (k + i) * 2 * LANES;
            __m512 score = _mm512_loadu_ps(here);
            if (k + i >= count)
                score = never;
            else if (job->window >= 0) {
                score = _mm512_mask_mov_ps(score, far_from(sight.first + k + i, query, job->window), never);
                _mm512_storeu_ps(here, score);
            }
            tops[i] = _mm512_max_ps(score, tops[i]);
        }
    const __m512 top = _mm512_max_ps(_mm512_max_ps(tops[0], tops[1]), _mm512_max_ps(tops[2], tops[3]));
    __m512 totals[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    *shift = _mm512_mul_ps(top, scale);
    int64_t k = 0;
    for (; k < count; k += 2) {
        const float *here = scores + k * 2 * LANES;
        __m512 even = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(here), scale, *shift)), odd = _mm512_setzero_ps();
        if (k + 1 < count)
            odd = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(here + 2 * LANES), scale, *shift));
        totals[0] = _mm512_add_ps(totals[0], even);
        totals[1] = _mm512_add_ps(totals[1], odd);
        _mm512_storeu_si512(room.pulls + (k + b) * LANES, pairs(even, odd));
    }
    for (; k < sight.last - sight.first; k += 2)
        _mm512_storeu_si512(room.pulls + (k + b) * LANES, _mm512_setzero_si512());
    return _mm512_add_ps(totals[0], totals[1]);
}

INLINE void attend_block(const int blocks, const Rows *head, int64_t query, const Job *job, Room room) {
    const int width = job->width;
    const int64_t left = head->length - query, many = padded(head->length, SIDE);
    to_lanes(2, head->qkv + query * head->of_qkv, head->of_qkv, left, width, room.lanes);
    Sight sight = sight_of(blocks, query, head->length, job->window, SIDE);
    for (int64_t key = sight.first; key < sight.last; key += SIDE)
        multiply(rows_of(room.rows + key * (width / 2), width), lanes_of(room.lanes), width / SIDE,
                 room.scores + (key - sight.first) * 2 * LANES, 2 * LINE, 0);
    __m512 each[2], shift;
    for (int b = 0; b < blocks; b++) {
        __m512 total = share(b, room, sight, head, query + b * LANES, job, scale_of(width), &shift);
        each[b] = _mm512_div_ps(_mm512_set1_ps(1.0f), total);
        note(head, query + b * LANES, shift, each[b]);
    }
    mix_columns(blocks, room.pulls, room.columns, many, sight, width, each, room.sums, room.mixed);
    from_lanes(blocks, room.mixed, head->out + query * head->of_out, head->of_out, left, width);
}

FAST static void attend_head(const Rows *head, const Job *job, Room room) {
    const int width = job->width;
    const int64_t length = head->length, many = padded(length, SIDE);
    if (head->of_qkv == width) /* they lie as they are needed; what comes after them is hidden */
        room.rows = (int32_t *)(head->qkv + head->part);
    else
        copy_rows(head->qkv + head->part, head->of_qkv, length, many, width, room.rows);
    turn(head->qkv + 2 * head->part, head->of_qkv, length, many, width, room.columns);
    int64_t query = 0;
    for (; query + LANES < length; query += SIDE)
        attend_block(2, head, query, job, room);
    if (query < length)
        attend_block(1, head, query, job, room);
}

/* Probabilities of thirty-two keys and the gradients of their scores: of each key in pairs of queries, and the latter
   in pairs of keys too. What is out of sight, or beyond the text, is zero. */
INLINE void weigh(const int blocks, Room room, int64_t key, int64_t first, int64_t query, int64_t length, const Job *job,
                  const Queries *of) {
    const __m512 scale = scale_of(job->width);
    const __m512 root = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_sqrt_ps(_mm512_set1_ps((float)job->width)));
    int32_t *of_shares = room.weights, *of_changes = room.weights + SIDE * LANES;
    for (int t = 0; t < SIDE; t += 2)
        for (int b = 0; b < blocks; b++) {
            __m512 changes[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
            for (int i = t; i < t + 2; i++) {
                __m512 share = _mm512_setzero_ps();
                if (key + i < length) {
                    const int64_t here = (i * 2 + b) * LANES;
                    share = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(room.scores + here), scale, of->shift[b]));
                    share = _mm512_mul_ps(share, of->each[b]);
                    if (job->window >= 0)
                        share = _mm512_mask_mov_ps(share, far_from(key + i, query + b * LANES, job->window),
                                                   _mm512_setzero_ps());
                    __m512 change = _mm512_sub_ps(_mm512_loadu_ps(room.changes + here), of->delta[b]);
                    changes[i - t] = _mm512_mul_ps(share, _mm512_mul_ps(change, root));
                }
                narrow(share, (bf16 *)(of_shares + i * LANES + b * LANES / 2));
                narrow(changes[i - t], (bf16 *)(of_changes + i * LANES + b * LANES / 2));
            }
            _mm512_storeu_si512(room.pulls + (key + t - first + b) * LANES, pairs(changes[0], changes[1]));
        }
}

INLINE void pull_block(const int blocks, const Rows *head, int64_t query, const Job *job, Room room) {
    const int width = job->width;
    const int64_t left = head->length - query, many = padded(head->length, SIDE);
    const bf16 *queries = head->qkv + query * head->of_qkv, *ups = head->gradient + query * head->of_out;
    to_lanes(2, queries, head->of_qkv, left, width, room.lanes);
    to_lanes(2, ups, head->of_out, left, width, room.ups);
    to_lanes(blocks, head->out + query * head->of_out, head->of_out, left, width, room.mixed);
    pair_rows(queries, head->of_qkv, left, SIDE, width, room.query_pairs);
    pair_rows(ups, head->of_out, left, SIDE, width, room.up_pairs);
    Queries of;
    look_up(blocks, head, query, room.ups, room.mixed, width, &of);
    if (blocks == 1) /* the queries that are not there give nothing */
        memset(room.weights, 0, 2 * SIDE * LINE);

    const Operand of_shares = {room.weights, LINE, LANES * LINE, 0};
    const Operand of_changes = {room.weights + SIDE * LANES, LINE, LANES * LINE, 0};
    Sight sight = sight_of(blocks, query, head->length, job->window, SIDE);
    for (int64_t key = sight.first; key < sight.last; key += SIDE) {
        const int64_t row = key * (width / 2);
        multiply(rows_of(room.rows + row, width), lanes_of(room.lanes), width / SIDE, room.scores, 2 * LINE, 0);
        multiply(rows_of(room.others + row, width), lanes_of(room.ups), width / SIDE, room.changes, 2 * LINE, 0);
        weigh(blocks, room, key, sight.first, query, head->length, job, &of);
        for (int c = 0; c < width; c += SIDE) {
            multiply(of_shares, pairs_of(room.up_pairs + c, width), 1, room.d_values + key * width + c, 4 * width, 1);
            multiply(of_changes, pairs_of(room.query_pairs + c, width), 1, room.d_keys + key * width + c, 4 * width, 1);
        }
    }
    const __m512 whole[2] = {_mm512_set1_ps(1.0f), _mm512_set1_ps(1.0f)};
    mix_columns(blocks, room.pulls, room.columns, many, sight, width, whole, room.sums, room.mixed);
    from_lanes(blocks, room.mixed, head->d_qkv + query * head->of_qkv, head->of_qkv, left, width);
}

FAST static void pull_head(const Rows *head, const Job *job, Room room) {
    const int width = job->width;
    const int64_t length = head->length, many = padded(length, SIDE);
    copy_rows(head->qkv + head->part, head->of_qkv, length, many, width, room.rows);
    copy_rows(head->qkv + 2 * head->part, head->of_qkv, length, many, width, room.others);
    turn(head->qkv + head->part, head->of_qkv, length, many, width, room.columns);
    memset(room.d_keys, 0, (size_t)(many * width) * sizeof(float));
    memset(room.d_values, 0, (size_t)(many * width) * sizeof(float));
    int64_t query = 0;
    for (; query + LANES < length; query += SIDE)
        pull_block(2, head, query, job, room);
    if (query < length)
        pull_block(1, head, query, job, room);
    write_rows(room.d_keys, length, width, head->d_qkv + head->part, head->of_qkv);
    write_rows(room.d_values, length, width, head->d_qkv + 2 * head->part, head->of_qkv);
}

/* Heads as long as there are some; `back`: of the backward pass. */
FAST static int take_some(Rows all, Job *job, int back) {
    const size_t width = (size_t)job->width, length = (size_t)padded(job->longest, SIDE), block = width * LANES;
    const size_t keys = back ? SIDE : length, squares = 2 * SIDE * LANES;
    void *whole;
    Room room;
    room.rows = aligned(length * (7 * width / 2 + LANES) + width * APART / 2 + keys * 2 * LANES + 6 * block + 3 * squares, &whole);
    if (room.rows == NULL)
        return -1;
    room.others = room.rows + length * width / 2;
    room.d_keys = (float *)(room.others + length * width / 2);
    room.d_values = room.d_keys + length * width;
    room.pulls = (int32_t *)(room.d_values + length * width);
    room.lanes = room.pulls + length * LANES;
    room.ups = room.lanes + block;
    room.query_pairs = room.ups + block;
    room.up_pairs = room.query_pairs + block;
    room.mixed = room.up_pairs + block;
    room.weights = room.mixed + block;
    room.scores = (float *)(room.weights + squares);
    room.changes = room.scores + keys * 2 * LANES;
    room.sums = room.changes + squares;
    room.columns = (bf16 *)(room.sums + squares);
    open_tiles();
    Rows head;
    int64_t number = -1;
    while (take(job, &all, &number, &head))
        if (back)
            pull_head(&head, job, room);
        else
            attend_head(&head, job, room);
    _tile_release();
    free(whole);
    return 0;
}

static int take_all(const Rows *all, const Job *what, int back) {
    int failed = 0;
    Job job = *what;
#pragma omp parallel num_threads(job.threads)
    if (take_some(*all, &job, back))
        __atomic_store_n(&failed, -1, __ATOMIC_RELAXED);
    return failed;
}

/* As embedctl_attend. */
int embedctl_attend_by_tiles(const bf16 *qkv, bf16 *out, float *sums, const Job *what) {
    const Rows all = {.qkv = qkv, .out = out, .sums = sums};
    return take_all(&all, what, 0);
}

/* As embedctl_pull. */
int embedctl_pull_by_tiles(const bf16 *qkv, bf16 *out, float *sums, const bf16 *gradient, bf16 *d_qkv, const Job *what) {
    const Rows all = {.qkv = qkv, .out = out, .sums = sums, .gradient = gradient, .d_qkv = d_qkv};
    return take_all(&all, what, 1);
}

/* Whether the processor has tiles, and the kernel lets this process use them. */
int embedctl_has_tiles(void) {
    unsigned a, b, c, d;
    const unsigned wanted = 1u << 22 | 1u << 24; /* AMX-BF16, AMX-TILE */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & wanted) != wanted)
        return 0;
    return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
}

#else

int embedctl_has_tiles(void) { return 0; }

#endif
