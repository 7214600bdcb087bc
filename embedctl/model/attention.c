/* Attention of texts to themselves in bfloat16, for processors with AVX-512 BF16 (Intel from Cooper Lake, AMD from Zen 4).

   One text and one head at a time, sixteen or thirty-two queries at a time: a lane of a vector register is a query.
   Scores, their exponentials and sums stay in float32 and in the core's cache; nothing is padded or rearranged in
   memory beforehand, and what a text becomes depends on no other text. Built if a C compiler is there; without it
   attention.py does the same with torch.

   Terms: width d of a head, always a multiple of 32; a pair is two neighbouring bfloat16 in one 32-bit lane, as
   VDPBF16PS multiplies them. */

#include <stdint.h>
#include <stdlib.h>

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#define FAST __attribute__((target("avx512f,avx512bw,avx512bf16")))
#define INLINE FAST static inline __attribute__((always_inline))
#define LANES 16
#define TOGETHER 8 /* keys, or dimensions, whose sums are in registers at the same time */

typedef uint16_t bf16;

typedef struct {
    int heads, width, window; /* window: tokens to either side that a token sees; -1: the whole text */
} Shape;

/* Of one thread. Rows of `scores` and `shares` hold 32 queries, of `queries` and `mixed` too. */
typedef struct {
    int32_t *keys, *values, *queries, *shares, *mixed;
    float *scores;
} Room;

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

/* Keys side by side, and pairs of values of two neighbouring tokens (the last one beside zeros). */
INLINE void gather(const bf16 *keys, const bf16 *values, int64_t stride, int64_t length, int width, Room room) {
    for (int64_t t = 0; t < length; t++)
        for (int c = 0; c < width; c += 32)
            _mm512_storeu_si512(room.keys + (t * width + c) / 2, _mm512_loadu_si512(keys + t * stride + c));
    for (int64_t t = 0; t < length; t += 2)
        for (int c = 0; c < width; c += LANES) {
            const bf16 *here = values + t * stride + c;
            __m512i even = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)here));
            __m512i odd = _mm512_setzero_si512();
            if (t + 1 < length)
                odd = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(here + stride)));
            _mm512_storeu_si512(room.values + t / 2 * width + c, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
        }
}

/* Scores of `many` keys with `blocks` times sixteen queries; the greatest so far is kept in `top`. */
INLINE void score(const int blocks, const int many, Room room, int64_t key, int64_t first, int64_t query,
                  const Shape *shape, __m512 *top) {
    __m512 sums[TOGETHER][2];
    for (int t = 0; t < many; t++)
        for (int b = 0; b < blocks; b++)
            sums[t][b] = _mm512_setzero_ps();
    for (int pair = 0; pair < shape->width / 2; pair++) {
        __m512i queries[2];
        for (int b = 0; b < blocks; b++)
            queries[b] = _mm512_loadu_si512(room.queries + (pair * 2 + b) * LANES);
#pragma GCC unroll 8
        for (int t = 0; t < many; t++) {
            __m512i of_key = _mm512_set1_epi32(room.keys[(key + t) * (shape->width / 2) + pair]);
            for (int b = 0; b < blocks; b++)
                sums[t][b] = product(sums[t][b], queries[b], of_key);
        }
    }
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (int t = 0; t < many; t++)
        for (int b = 0; b < blocks; b++) {
            if (shape->window >= 0) {
                __m512i apart = _mm512_add_epi32(lanes, _mm512_set1_epi32((int)(query + b * LANES - key - t)));
                __mmask16 far = _mm512_cmpgt_epi32_mask(_mm512_abs_epi32(apart), _mm512_set1_epi32(shape->window));
                sums[t][b] = _mm512_mask_mov_ps(sums[t][b], far, _mm512_set1_ps(-__builtin_inff()));
            }
            top[b] = _mm512_max_ps(sums[t][b], top[b]);
            _mm512_storeu_ps(room.scores + ((key + t - first) * 2 + b) * LANES, sums[t][b]);
        }
}

/* What `many` dimensions of the values are, mixed by the shares; pairs of dimensions go to room.mixed. */
INLINE void mix(const int blocks, Room room, int64_t from, int64_t pairs_of_keys, int dimension, int width,
                const __m512 *each) {
    __m512 sums[TOGETHER][2];
    for (int t = 0; t < TOGETHER; t++)
        for (int b = 0; b < blocks; b++)
            sums[t][b] = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < pairs_of_keys; pair++) {
        __m512i shares[2];
        for (int b = 0; b < blocks; b++)
            shares[b] = _mm512_loadu_si512(room.shares + (pair * 2 + b) * LANES);
#pragma GCC unroll 8
        for (int t = 0; t < TOGETHER; t++) {
            __m512i value = _mm512_set1_epi32(room.values[(from + pair) * width + dimension + t]);
            for (int b = 0; b < blocks; b++)
                sums[t][b] = product(sums[t][b], shares[b], value);
        }
    }
    for (int t = 0; t < TOGETHER; t += 2)
        for (int b = 0; b < blocks; b++) {
            __m512i both = pairs(_mm512_mul_ps(sums[t][b], each[b]), _mm512_mul_ps(sums[t + 1][b], each[b]));
            _mm512_storeu_si512(room.mixed + ((dimension + t) / 2 * 2 + b) * LANES, both);
        }
}

/* The queries from `query` on, `blocks` times sixteen or as many as there are. */
INLINE void attend_block(const int blocks, const bf16 *queries, bf16 *out, int64_t query, int64_t length,
                         const Shape *shape, Room room) {
    const int width = shape->width, stride = 3 * shape->heads * width, out_stride = shape->heads * width;
    __m512i rows[LANES];
    for (int b = 0; b < blocks; b++)
        for (int c = 0; c < width; c += 32) {
            for (int i = 0; i < LANES; i++) {
                int64_t row = query + b * LANES + i;
                rows[i] = row < length ? _mm512_loadu_si512(queries + row * stride + c) : _mm512_setzero_si512();
            }
            transpose(rows);
            for (int i = 0; i < LANES; i++)
                _mm512_storeu_si512(room.queries + ((c / 2 + i) * 2 + b) * LANES, rows[i]);
        }

    /* Keys in sight; the first one is even, so that pairs of values are whole. */
    int64_t first = 0, last = length;
    if (shape->window >= 0) {
        first = query > shape->window ? (query - shape->window) & ~(int64_t)1 : 0;
        int64_t end = query + blocks * LANES + shape->window;
        last = end < length ? end : length;
    }
    __m512 top[2] = {_mm512_set1_ps(-__builtin_inff()), _mm512_set1_ps(-__builtin_inff())};
    int64_t key = first;
    for (; key + TOGETHER <= last; key += TOGETHER)
        score(blocks, TOGETHER, room, key, first, query, shape, top);
    for (; key < last; key++)
        score(blocks, 1, room, key, first, query, shape, top);

    /* exp((score - top) / sqrt(d)) as a power of two. */
    const __m512 scale = _mm512_div_ps(_mm512_set1_ps(1.4426950409f), _mm512_sqrt_ps(_mm512_set1_ps((float)width)));
    __m512 total[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    int64_t count = last - first;
    for (int b = 0; b < blocks; b++) {
        __m512 shift = _mm512_mul_ps(top[b], scale);
        for (int64_t k = 0; k < count; k += 2) {
            const float *here = room.scores + (k * 2 + b) * LANES;
            __m512 even = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(here), scale, shift));
            __m512 odd = _mm512_setzero_ps();
            if (k + 1 < count)
                odd = power_of_two(_mm512_fmsub_ps(_mm512_loadu_ps(here + 2 * LANES), scale, shift));
            total[b] = _mm512_add_ps(total[b], _mm512_add_ps(even, odd));
            _mm512_storeu_si512(room.shares + (k + b) * LANES, pairs(even, odd));
        }
    }

    __m512 each[2];
    for (int b = 0; b < blocks; b++)
        each[b] = _mm512_div_ps(_mm512_set1_ps(1.0f), total[b]);
    for (int c = 0; c < width; c += TOGETHER)
        mix(blocks, room, first / 2, (count + 1) / 2, c, width, each);
    for (int b = 0; b < blocks; b++)
        for (int c = 0; c < width; c += 32) {
            for (int i = 0; i < LANES; i++)
                rows[i] = _mm512_loadu_si512(room.mixed + ((c / 2 + i) * 2 + b) * LANES);
            transpose(rows);
            for (int i = 0; i < LANES; i++)
                if (query + b * LANES + i < length)
                    _mm512_storeu_si512(out + (query + b * LANES + i) * out_stride + c, rows[i]);
        }
}

FAST static void attend_head(const bf16 *qkv, bf16 *out, int64_t length, const Shape *shape, Room room) {
    const int width = shape->width, side = shape->heads * width;
    gather(qkv + side, qkv + 2 * side, 3 * side, length, width, room);
    int64_t query = 0;
    for (; query + LANES < length; query += 2 * LANES)
        attend_block(2, qkv, out, query, length, shape, room);
    if (query < length)
        attend_block(1, qkv, out, query, length, shape, room);
}

/* Heads of texts, the last text first, as long as `next`, which threads share, says that there are some. */
FAST static int attend_some(const bf16 *qkv, bf16 *out, const int32_t *ends, int64_t texts, int64_t longest,
                            const Shape *shape, int64_t *next) {
    const int heads = shape->heads, width = shape->width;
    const size_t length = (size_t)((longest + 1) / 2 * 2);
    const size_t per_token = (size_t)width / 2 + (size_t)width / 2 + 2 * LANES + LANES; /* in 32 bits */
    int32_t *all = malloc((length * per_token + 2 * (size_t)width * LANES) * sizeof(int32_t) + 64);
    if (all == NULL)
        return -1;
    Room room;
    room.keys = (int32_t *)(((uintptr_t)all + 63) & ~(uintptr_t)63);
    room.values = room.keys + length * (size_t)width / 2;
    room.scores = (float *)(room.values + length * (size_t)width / 2);
    room.shares = (int32_t *)(room.scores + length * 2 * LANES);
    room.queries = room.shares + length * LANES;
    room.mixed = room.queries + (size_t)width * LANES;
    for (;;) {
        int64_t unit = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED);
        if (unit >= texts * heads)
            break;
        int64_t text = texts - 1 - unit / heads, head = unit % heads, begin = ends[text];
        attend_head(qkv + begin * 3 * heads * width + head * width, out + begin * heads * width + head * width,
                    ends[text + 1] - begin, shape, room);
    }
    free(all);
    return 0;
}

int embedctl_can_attend(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512bf16");
}

/* All texts, the last one first, by so many of OpenMP's threads.

   qkv:  (tokens, 3 * heads * width) bfloat16, queries, keys and values of each token side by side
   out:  (tokens, heads * width)
   ends: (texts + 1), where each text begins, and where the last one ends
   Returns 0, or -1 if there is no memory. */
int embedctl_attend(const bf16 *qkv, bf16 *out, const int32_t *ends, int64_t texts, int64_t longest, int heads,
                    int width, int window, int threads) {
    const Shape shape = {heads, width, window};
    int failed = 0;
    int64_t next = 0;
#pragma omp parallel num_threads(threads)
    if (attend_some(qkv, out, ends, texts, longest, &shape, &next))
        __atomic_store_n(&failed, -1, __ATOMIC_RELAXED);
    return failed;
}

#else

int embedctl_can_attend(void) { return 0; }

int embedctl_attend(const uint16_t *qkv, uint16_t *out, const int32_t *ends, int64_t texts, int64_t longest, int heads,
                    int width, int window, int threads) {
    (void)qkv, (void)out, (void)ends, (void)texts, (void)longest, (void)heads, (void)width, (void)window, (void)threads;
    return -1;
}

#endif
