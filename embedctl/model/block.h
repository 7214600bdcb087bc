/* What a BERT block does beside attention, for inference: some tokens at a time go through all of it, from what attention
   mixed to the next block's queries, keys and values, and what lies between stays in the core's cache. Sums are of float32,
   and a token's bits depend on no other token.

   The products are those of who includes this: block_tiles.c by tiles (AMX), block_lanes.c by vector registers. "Tiles" is
   also how numbers lie in memory for both: 32 rows by 32 columns after each other. LEAST is how many rows are taken at once
   even where they do not stay in the second cache, ROWS how many are computed together. */

#ifndef EMBEDCTL_BLOCK_H
#define EMBEDCTL_BLOCK_H

#include "lanes.h"

#include "gelu.h"

#ifdef FAST

#define STEPS 12      /* of 32 dimensions that a product takes at once: both sides stay in the first cache */
#define NUMBERS 98304 /* of tokens times width that are taken at once: of the usual 384 they stay in the second cache */
#define MIDDLE 384    /* dimensions of the feed-forward that are there at once */

/* Weights of a layer lie as (out / 32, in / 32, 2, 16, 16, 2), outputs and inputs by 32; of these, halves of the outputs, pairs
   of inputs, outputs, and both of a pair. `mixed` is (heads, count, side), `hidden` in whole tiles, `out` in rows. */
typedef bf16 Number;
#include "layers.h"

/* Of one thread, for `rows` tokens.

   other: (rows, the larger of width and MIDDLE) in tiles, what attention mixed, then some of the feed-forward
   whole: (rows, width) sums of what goes into a norm
   some:  (rows + 64, 32) sums */
typedef struct {
    bf16 *other;
    float *whole, *some;
    int64_t rows;
} Room;

/* Where, in tiles of 32 rows by 32, a row's numbers from column `c` on begin. */
INLINE int64_t place(int64_t row, int64_t c, int64_t width) {
    return row / SIDE * SIDE * width + c / SIDE * SIDE * SIDE + row % SIDE * SIDE + c % SIDE;
}

/* `many` rows, those beyond `length` zero; of a row, heads of `side` numbers lie `apart` from each other. */
INLINE void to_tiles(const bf16 *from, int64_t side, int64_t apart, int64_t length, int64_t many, int64_t width, bf16 *to) {
    for (int64_t c = 0; c < width; c += SIDE) {
        const bf16 *part = from + c / side * apart + c % side;
        for (int64_t t = 0; t < many; t++) {
            __m512i row = t < length ? _mm512_loadu_si512(part + t * side) : _mm512_setzero_si512();
            _mm512_storeu_si512(to + place(t, c, width), row);
        }
    }
}

INLINE void from_tiles(const bf16 *tiles, int64_t length, int64_t width, bf16 *to) {
    for (int64_t t = 0; t < length; t++)
        for (int64_t c = 0; c < width; c += SIDE)
            _mm512_storeu_si512(to + t * width + c, _mm512_loadu_si512(tiles + place(t, c, width)));
}

/* Before the first block: what stands for a token and for its place. */
INLINE void look_up(const int64_t *ids, const int64_t *places, int64_t length, int64_t many, const Block *of, float *sums) {
    const int64_t width = of->width;
    for (int64_t t = 0; t < many; t++) {
        const int64_t here = t < length ? t : 0; /* what is beyond is not read by anyone */
        const float *word = of->words + ids[here] * width, *of_place = of->places + places[here] * width;
        for (int64_t c = 0; c < width; c += LANES)
            _mm512_storeu_ps(sums + t * width + c, _mm512_add_ps(_mm512_loadu_ps(word + c), _mm512_loadu_ps(of_place + c)));
    }
}

/* Adds a layer's bias to its products and to the token that they belong to; a token some rows further is fetched. The sum
   of the row. */
INLINE __m512 added(const bf16 *tiles, int64_t t, int64_t width, const float *bias, float *row) {
    __m512 totals[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()}; /* two, as one would wait for itself */
    for (int64_t c = 0; c < width; c += SIDE) {
        const bf16 *token = tiles + place(t, c, width);
        _mm_prefetch((const char *)(token + SIDE * width), _MM_HINT_T0);
        for (int half = 0; half < 2; half++) {
            const __m512 with_bias = _mm512_add_ps(widened(token + half * LANES), _mm512_loadu_ps(bias + c + half * LANES));
            const __m512 sum = _mm512_add_ps(_mm512_loadu_ps(row + c + half * LANES), with_bias);
            _mm512_storeu_ps(row + c + half * LANES, sum);
            totals[half] = _mm512_add_ps(totals[half], sum);
        }
    }
    return _mm512_add_ps(totals[0], totals[1]);
}

/* The sum of a row. */
INLINE __m512 total(int64_t width, const float *row) {
    __m512 totals[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int64_t c = 0; c < width; c += SIDE)
        for (int half = 0; half < 2; half++)
            totals[half] = _mm512_add_ps(totals[half], _mm512_loadu_ps(row + c + half * LANES));
    return _mm512_add_ps(totals[0], totals[1]);
}

/* Layer norm (Ba et al. 2016, arXiv:1607.06450), into tiles, of the products of a layer with that `bias` and of what is in
   the tiles; without a bias, of `sums` alone. */
INLINE void norm(float *sums, int64_t many, int64_t width, const float *bias, const float *const of[2], float epsilon,
                 bf16 *tiles) {
    for (int64_t t = 0; t < many; t++) {
        float *row = sums + t * width;
        const __m512 sum = bias ? added(tiles, t, width, bias, row) : total(width, row);
        const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / (float)width);
        __m512 squares[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        for (int64_t c = 0; c < width; c += SIDE)
            for (int half = 0; half < 2; half++) {
                __m512 apart = _mm512_sub_ps(_mm512_loadu_ps(row + c + half * LANES), mean);
                squares[half] = _mm512_fmadd_ps(apart, apart, squares[half]);
            }
        const float variance = _mm512_reduce_add_ps(_mm512_add_ps(squares[0], squares[1])) / (float)width;
        const __m512 scale = _mm512_set1_ps(1.0f / __builtin_sqrtf(variance + epsilon));
        for (int64_t c = 0; c < width; c += LANES) {
            __m512 normed = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(row + c), mean), scale);
            normed = _mm512_fmadd_ps(normed, _mm512_loadu_ps(of[0] + c), _mm512_loadu_ps(of[1] + c));
            narrow(normed, tiles + place(t, c, width));
        }
    }
}

/* What becomes of sums: with the bias they are rows of heads, or GELU of that is, in tiles; or they were there before, and
   what is added is all. */
enum { TO_HEADS, TO_GELU, ADD };

/* Columns from `first` to `last` of a layer, and where they go; of heads, only `length` rows of `side` numbers, and as many
   from a head to the next as are `apart`. */
typedef struct {
    const Layer *layer;
    int64_t first, last;
    bf16 *out;
    int64_t length, side, apart;
} Target;

/* Sums of 32 columns from `column` on and of 32 rows from `row` on, of which none are left if `sums` is NULL. */
typedef struct {
    const float *sums;
    int64_t column, row;
} Left;

INLINE void finish(const int kind, Left left, int64_t from, int64_t to, Target target) {
    const float *bias = target.layer->bias + left.column;
    const __m512 biases[2] = {_mm512_loadu_ps(bias), _mm512_loadu_ps(bias + LANES)};
    const Pieces of = pieces();
    const int64_t column = left.column;
    bf16 *out = target.out;
    if (kind == TO_GELU)
        out += place(left.row, column - target.first, target.last - target.first);
    else
        out += column / target.side * target.apart + column % target.side + left.row * target.side;
    for (int64_t i = from; i < to && i < SIDE; i++) {
        __m512 both[2];
        for (int half = 0; half < 2; half++) {
            both[half] = _mm512_add_ps(_mm512_loadu_ps(left.sums + i * SIDE + half * LANES), biases[half]);
            if (kind == TO_GELU)
                both[half] = gelu(&of, both[half]);
        }
        const __m512i found = (__m512i)_mm512_cvtne2ps_pbh(both[1], both[0]);
        if (kind == TO_GELU)
            _mm512_storeu_si512(out + i * SIDE, found);
        else if (left.row + i < target.length)
            _mm512_storeu_si512(out + i * target.side, found);
    }
}

/* What is soon needed of the weights: so many lines with each step. */
typedef struct {
    const char *at;
    int64_t lines;
} Ahead;

/* A square of sums over `steps` of 32 inputs, or of its first rows, and meanwhile what the one before is to become.

   rows, weights: in tiles; from a step to the next SIDE * LINE bytes
   many:          rows that are there, at least
   line:          bytes from a row of sums to the next
   add:           to what is there */
INLINE void square(const int kind, const bf16 *rows, int64_t many, const bf16 *weights, int64_t steps, float *sums,
                   int64_t line, const int add, Ahead ahead, Left before, Target target);

/* Products of `many` rows in tiles with the columns of `target`, by inputs from `start` to `end`, which the tiles hold. */
INLINE void multiply_all(const int kind, const bf16 *tiles, int64_t many, int64_t start, int64_t end, float *sums,
                         Target target) {
    const Layer *layer = target.layer;
    const int whole = end - start <= STEPS * SIDE;
    const int64_t squares = (many + SIDE - 1) / SIDE;
    const int64_t line = kind == ADD ? layer->out : SIDE;
    Left left = {NULL, 0, 0};
    int turn = 0;
    for (int64_t column = target.first; column < target.last; column += SIDE)
        for (int64_t at = start; at < end; at += STEPS * SIDE) {
            const int64_t stop = end - at < STEPS * SIDE ? end : at + STEPS * SIDE;
            const bf16 *weights = layer->weights + column * layer->in;
            const bf16 *later = stop < end ? weights + stop * SIDE : weights + SIDE * layer->in + start * SIDE;
            Ahead ahead = {(const char *)later, (SIDE + squares - 1) / squares};
            for (int64_t row = 0; row < many; row += SIDE) {
                const bf16 *rows = tiles + row * (end - start) + (at - start) * SIDE;
                float *here = kind == ADD ? sums + row * line + column
                              : whole     ? sums + (turn ^= 1) * SIDE * SIDE
                                          : sums + row * line;
                square(kind, rows, many - row, weights + at * SIDE, (stop - at) / SIDE, here, line * (int64_t)sizeof(float),
                       at > 0, ahead, left, target);
                ahead.at += (stop - at) / SIDE * ahead.lines * LINE;
                left = (Left){kind == ADD || stop < end ? NULL : here, column, row};
            }
        }
    if (left.sums)
        finish(kind, left, 0, SIDE, target);
}

INLINE void feed_forward(bf16 *x, Room room, int64_t many, const Block *of) {
    const int64_t width = of->width, middle = of->up.out;
    for (int64_t first = 0; first < middle; first += MIDDLE) {
        const int64_t last = first + MIDDLE < middle ? first + MIDDLE : middle;
        multiply_all(TO_GELU, x, many, 0, width, room.some, (Target){&of->up, first, last, room.other, 0, 0, 0});
        multiply_all(ADD, room.other, many, first, last, room.whole, (Target){&of->down, 0, width, NULL, 0, 0, 0});
    }
    norm(room.whole, many, width, of->down.bias, of->last, of->epsilon, x);
}

/* Tokens from `first` on, as many as there is room for. */
FAST static void take_rows(const Tokens *all, const Block *of, int64_t first, Room room) {
    const int64_t width = of->width, side = of->side, apart = all->count * side;
    const int64_t length = all->count - first < room.rows ? all->count - first : room.rows;
    const int64_t many = (length + ROWS - 1) / ROWS * ROWS;
    bf16 *x = all->hidden + first * width;
    if (of->project.out) {
        to_tiles(all->mixed + first * side, side, apart, length, many, width, room.other);
        multiply_all(ADD, room.other, many, 0, width, room.whole, (Target){&of->project, 0, width, NULL, 0, 0, 0});
        norm(room.whole, many, width, of->project.bias, of->norm, of->epsilon, x);
        feed_forward(x, room, many, of);
    } else {
        look_up(all->ids + first, all->places + first, length, many, of, room.whole);
        norm(room.whole, many, width, NULL, of->last, of->epsilon, x);
    }
    if (of->qkv.out)
        multiply_all(TO_HEADS, x, many, 0, width, room.some,
                     (Target){&of->qkv, 0, of->qkv.out, all->qkv + first * side, length, side, apart});
    else
        from_tiles(x, length, width, all->out + first * width);
}

INLINE int64_t most_rows(int64_t width) { return NUMBERS / width < LEAST ? LEAST : NUMBERS / width / SIDE * SIDE; }

/* How many 32-bit numbers of room a thread needs. */
INLINE int64_t room_of(int64_t width) {
    return most_rows(width) * (width + SIDE + (width > MIDDLE ? width : MIDDLE) / 2) + 2 * SIDE * SIDE;
}

/* Tokens as long as there are some; `next` is shared by the threads. */
INLINE void take_some(const Tokens *all, const Block *of, int64_t rows, float *memory, int64_t *next) {
    Room room = {.rows = rows, .some = memory, .whole = memory + rows * SIDE + 2 * SIDE * SIDE};
    room.other = (bf16 *)(room.whole + rows * of->width);
    int64_t first;
    while ((first = __atomic_fetch_add(next, rows, __ATOMIC_RELAXED)) < all->count)
        take_rows(all, of, first, room);
}

/* How many tokens a thread takes at once: all take about as many, as often as there is room for. */
INLINE int64_t share_of(const Tokens *all, const Block *of) {
    const int64_t most = most_rows(of->width) * all->threads;
    const int64_t parts = (all->count + most - 1) / most * all->threads;
    return (all->count + parts * SIDE - 1) / (parts * SIDE) * SIDE;
}

#endif
#endif
