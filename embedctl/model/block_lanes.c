/* A BERT block for inference by the vector registers of processors with AVX-512 BF16, at 97 % of what they can. */

#define LEAST 256 /* weights come from far, and the products of so many tokens take as long */
#define ROWS 8    /* their sums fill half of the registers, and a weight is loaded for eight products */
#include "block.h"

#ifdef FAST

/* Sums of some rows, in two registers each. */
INLINE void some_rows(const char *rows, const char *weights, int64_t steps, char *sums, int64_t line, const int add) {
    __m512 found[ROWS][2];
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
        for (int half = 0; half < 2; half++)
            found[i][half] = add ? _mm512_loadu_ps(sums + i * line + half * LINE) : _mm512_setzero_ps();
    for (int64_t s = 0; s < steps; s++, rows += SIDE * LINE, weights += SIDE * LINE)
#pragma GCC unroll 4
        for (int pair = 0; pair < LANES; pair++) {
            const char *both = weights + pair * LINE;
            const __m512i lanes[2] = {_mm512_loadu_si512(both), _mm512_loadu_si512(both + LANES * LINE)};
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; i++) {
                int32_t number;
                __builtin_memcpy(&number, rows + i * LINE + pair * (int64_t)sizeof number, sizeof number);
                const __m512i of_row = _mm512_set1_epi32(number);
                for (int half = 0; half < 2; half++)
                    found[i][half] = product(found[i][half], of_row, lanes[half]);
            }
        }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++)
        for (int half = 0; half < 2; half++)
            _mm512_storeu_ps(sums + i * line + half * LINE, found[i][half]);
}

INLINE void square(const int kind, const bf16 *rows, int64_t many, const bf16 *weights, int64_t steps, float *sums,
                   int64_t line, const int add, Ahead ahead, Left before, Target target) {
    const int64_t lines = steps * ahead.lines * ROWS / SIDE + 1;
    for (int64_t i = 0; i < SIDE; i += ROWS) {
        for (int64_t n = 0; n < lines; n++, ahead.at += LINE)
            _mm_prefetch(ahead.at, _MM_HINT_T1);
        if (kind != ADD && before.sums)
            finish(kind, before, i, i + ROWS, target);
        if (i < many)
            some_rows((const char *)rows + i * LINE, (const char *)weights, steps, (char *)sums + i * line, line, add);
    }
}

FAST static void take_by_lanes(const Tokens *all, const Block *of, float *memory, int64_t *next) {
    take_some(all, of, share_of(all, of), memory, next);
}

/* All tokens through a block, by OpenMP's threads. Sizes of layers are multiples of 32. */
FAST void embedctl_bert_by_lanes(const Tokens *all, const Block *of) {
    int64_t next = 0, part = 0;
#pragma omp parallel num_threads(all->threads)
    take_by_lanes(all, of, all->room + room_of(of->width) * __atomic_fetch_add(&part, 1, __ATOMIC_RELAXED), &next);
}

/* How many 32-bit numbers of room a thread needs for a model of that width: by tiles no more. */
FAST int64_t embedctl_bert_room(int64_t width) { return room_of(width); }

#endif
