/* A BERT block for inference by tiles (AMX). */

#include "tiles.h" /* first: it says what the compiler may use */

#ifdef HAS_TILES

#define LEAST 32
#define ROWS 32
#include "block.h"

/* 32 rows or columns of numbers in tiles; of a step, two tiles. */
INLINE Operand tiles_at(const bf16 *tiles) { return (Operand){tiles, LINE, LANES * LINE, SIDE * LINE}; }

INLINE void square(const int kind, const bf16 *rows, int64_t many, const bf16 *weights, int64_t steps, float *sums,
                   int64_t line, const int add, Ahead ahead, Left before, Target target) {
    (void)many; /* they are whole tiles */
    const Operand left = tiles_at(rows), right = tiles_at(weights);
    const char *l = left.at, *r = right.at;
    const int64_t each = (SIDE + steps - 1) / steps;
    load_square(sums, line, add);
    for (int64_t s = 0; s < steps; s++, l += left.step, r += right.step) {
        step(l, left, r, right);
        for (int64_t i = 0; i < ahead.lines; i++, ahead.at += LINE)
            _mm_prefetch(ahead.at, _MM_HINT_T1);
        if (kind != ADD && before.sums)
            finish(kind, before, s * each, s * each + each, target);
    }
    store_square(sums, line);
}

FAST static void take_by_tiles(const Tokens *all, const Block *of, float *memory, int64_t *next) {
    open_tiles();
    take_some(all, of, share_of(all, of), memory, next);
    _tile_release();
}

/* All tokens through a block, by OpenMP's threads. Sizes of layers are multiples of 32. */
FAST void embedctl_bert_by_tiles(const Tokens *all, const Block *of) {
    int64_t next = 0, part = 0;
#pragma omp parallel num_threads(all->threads)
    take_by_tiles(all, of, all->room + room_of(of->width) * __atomic_fetch_add(&part, 1, __ATOMIC_RELAXED), &next);
}

#endif
