/* Products of tiles (AMX): what tiles are, and a square of two by two of them. */

#ifndef EMBEDCTL_TILES_H
#define EMBEDCTL_TILES_H

#if defined(__linux__) && defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define HAS_TILES
#define TARGET "avx512f,avx512bw,avx512bf16,amx-tile,amx-bf16"
#endif

#include "lanes.h"

#ifdef HAS_TILES

/* One side of a product: where it begins, and bytes from a row to the next, to the other tile, and to the next step. */
typedef struct {
    const void *at;
    int64_t row, other, step;
} Operand;

/* Sixteen rows of sixteen pairs in each of eight tiles. */
INLINE void open_tiles(void) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t line[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        shape.line[tile] = LINE;
        shape.rows[tile] = LANES;
    }
    __asm__ volatile("" ::"r"(&shape) : "memory");
    _tile_loadconfig(&shape);
}

/* Sums of a square, of `row` bytes a row, into tiles 0 to 3; not `add`: zeros. */
INLINE void load_square(const float *sums, int64_t row, const int add) {
    const char *upper = (const char *)sums, *lower = upper + LANES * row;
    __asm__ volatile("" ::: "memory"); /* loads of tiles do not say that they read memory */
    if (add) {
        _tile_loadd(0, upper, row);
        _tile_loadd(1, upper + LINE, row);
        _tile_loadd(2, lower, row);
        _tile_loadd(3, lower + LINE, row);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
}

INLINE void store_square(float *sums, int64_t row) {
    char *upper = (char *)sums, *lower = upper + LANES * row;
    _tile_stored(0, upper, row);
    _tile_stored(1, upper + LINE, row);
    _tile_stored(2, lower, row);
    _tile_stored(3, lower + LINE, row);
    __asm__ volatile("" ::: "memory");
}

/* Tiles 0 to 3 += two tiles of the left, beside two of the right, whose rows are pairs. */
INLINE void step(const char *l, Operand left, const char *r, Operand right) {
    _tile_loadd(4, l, left.row);
    _tile_loadd(6, r, right.row);
    _tile_loadd(7, r + right.other, right.row);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, l + left.other, left.row);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

/* sums, of `row` bytes a row, = (or, `add`: +=) left (32, 32 * steps) @ right (32 * steps, 32). */
INLINE void multiply(Operand left, Operand right, int64_t steps, float *sums, int64_t row, const int add) {
    const char *l = left.at, *r = right.at;
    load_square(sums, row, add);
    for (int64_t s = 0; s < steps; s++, l += left.step, r += right.step)
        step(l, left, r, right);
    store_square(sums, row);
}

/* Rows of `width` numbers; of a step, 32 of each. */
INLINE Operand rows_of(const int32_t *rows, int64_t width) {
    return (Operand){rows, 2 * width, LANES * 2 * width, LINE};
}

/* Pairs with both blocks of queries in lanes; of a step, sixteen. */
INLINE Operand lanes_of(const int32_t *lanes) { return (Operand){lanes, 2 * LINE, LINE, LANES * 2 * LINE}; }

/* Pairs of rows of `width` numbers, 32 columns of them. */
INLINE Operand pairs_of(const int32_t *rows, int64_t width) { return (Operand){rows, 4 * width, LINE, 0}; }

#endif
#endif
