/* A BERT block for inference in float32, beside attention, as block.h does it in bfloat16: some tokens at a time go through
   all of it and stay in the core's second cache, and so do the weights of sixteen outputs in its first. Sums are always in
   the same order, and a token's bits depend on no other token. */

#include "floats.h"

#ifdef FAST

#include <omp.h>

#define NUMBERS 36864 /* of tokens times width that are taken at once */
#define STEPS 192     /* inputs that a product takes at once */
#define MIDDLE 384    /* numbers of the feed-forward that are there at once */

/* Weights of a layer lie as (out / COLUMNS, in, COLUMNS); `mixed` is (count, width), and behind it, `hidden` and `out` are as
   many rows as make up ROWS. */
typedef float Number;
#include "layers.h"

/* Where a product goes: it is added to what is there, or to the bias (BIAS), and GELU of that is taken (RAISE).

   line:   numbers from a row to the next
   length: rows that may be written to */
enum { ADD, BIAS, RAISE };
typedef struct {
    float *at;
    int64_t line, length;
} Place;

INLINE void corner(const int kind, const float *from, int64_t row, const float *panel, int64_t steps, const float *bias,
                   const int begins, const int ends, Place to) {
    __m256 sums[ROWS][2];
    zero(ROWS, sums);
    add_products(ROWS, from, row, 1, panel, COLUMNS, steps, sums);
#pragma GCC unroll 6
    for (int i = 0; i < ROWS; i++)
        for (int half = 0; half < 2; half++)
            if (i < to.length) {
                float *here = to.at + i * to.line + half * LANES;
                /* Last, since what is added to a large number loses digits each time. */
                const __m256 sum = _mm256_add_ps(sums[i][half], _mm256_loadu_ps(begins ? bias + half * LANES : here));
                _mm256_storeu_ps(here, kind == RAISE && ends ? gelu(sum) : sum);
            }
}

/* Products of `many` rows, `row` numbers apart, with COLUMNS outputs from `column` on, by inputs from `start` to `end`. */
INLINE void multiply(const int kind, const float *from, int64_t row, int64_t many, const Layer *layer, int64_t column,
                     int64_t start, int64_t end, Place to) {
    const float *weights = layer->weights + column * layer->in;
    for (int64_t at = start; at < end; at += STEPS) {
        const int64_t stop = end - at < STEPS ? end : at + STEPS;
        const float *panel = weights + at * COLUMNS;
        const float *later = stop < end ? weights + stop * COLUMNS : weights + layer->in * COLUMNS + start * COLUMNS;
        const int64_t each = STEPS * ROWS / many + 1; /* lines of what comes next */
        for (int64_t t = 0; t < many; t += ROWS) {
            for (int64_t n = 0; n < each; n++, later += COLUMNS)
                _mm_prefetch((const char *)later, _MM_HINT_T1);
            const Place here = {to.at + t * to.line, to.line, to.length - t};
            corner(kind, from + t * row + (at - start), row, panel, stop - at, layer->bias + column,
                   kind != ADD && at == start, stop == end, here);
        }
    }
}

/* What products are added to: tokens and a layer's bias. */
INLINE void begin(const float *x, int64_t many, int64_t width, const float *bias, float *sums) {
    for (int64_t t = 0; t < many; t++)
        for (int64_t c = 0; c < width; c++)
            sums[t * width + c] = x[t * width + c] + bias[c];
}

/* The same before the first block: what stands for a token and for its place. */
INLINE void look_up(const int64_t *ids, const int64_t *places, int64_t length, const Block *of, float *sums) {
    for (int64_t t = 0; t < length; t++) {
        const float *word = of->words + ids[t] * of->width, *place = of->places + places[t] * of->width;
        for (int64_t c = 0; c < of->width; c++)
            sums[t * of->width + c] = word[c] + place[c];
    }
}

/* Layer norm (Ba et al. 2016, arXiv:1607.06450) of sums. */
INLINE void norm(const float *sums, int64_t many, int64_t width, const float *const of[2], float epsilon, float *out) {
    for (int64_t t = 0; t < many; t++, sums += width, out += width) {
        __m256 totals[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()}, squares[2] = {totals[0], totals[1]};
        for (int64_t c = 0; c < width; c += COLUMNS)
            for (int half = 0; half < 2; half++)
                totals[half] = _mm256_add_ps(totals[half], _mm256_loadu_ps(sums + c + half * LANES));
        const __m256 mean = _mm256_set1_ps(total(_mm256_add_ps(totals[0], totals[1])) / (float)width);
        for (int64_t c = 0; c < width; c += COLUMNS)
            for (int half = 0; half < 2; half++) {
                const __m256 apart = _mm256_sub_ps(_mm256_loadu_ps(sums + c + half * LANES), mean);
                squares[half] = _mm256_fmadd_ps(apart, apart, squares[half]);
            }
        const float variance = total(_mm256_add_ps(squares[0], squares[1])) / (float)width;
        const __m256 scale = _mm256_set1_ps(1.0f / __builtin_sqrtf(variance + epsilon));
        for (int64_t c = 0; c < width; c += LANES) {
            const __m256 normed = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(sums + c), mean), scale);
            _mm256_storeu_ps(out + c, _mm256_fmadd_ps(normed, _mm256_loadu_ps(of[0] + c), _mm256_loadu_ps(of[1] + c)));
        }
    }
}

/* Rows of `whole` and `middle`, (many, width) and (many, MIDDLE). */
INLINE void feed_forward(float *x, float *whole, float *middle, int64_t many, const Block *of) {
    const int64_t width = of->width;
    begin(x, many, width, of->down.bias, whole);
    for (int64_t first = 0; first < of->up.out; first += MIDDLE) {
        const int64_t last = first + MIDDLE < of->up.out ? first + MIDDLE : of->up.out;
        for (int64_t column = first; column < last; column += COLUMNS)
            multiply(RAISE, x, width, many, &of->up, column, 0, width, (Place){middle + column - first, MIDDLE, many});
        for (int64_t column = 0; column < width; column += COLUMNS)
            multiply(ADD, middle, MIDDLE, many, &of->down, column, first, last, (Place){whole + column, width, many});
    }
    norm(whole, many, width, of->last, of->epsilon, x);
}

/* `length` tokens from `first` on. */
FAST static void take_rows(const Tokens *all, const Block *of, int64_t first, int64_t length, float *whole) {
    const int64_t width = of->width, many = (length + ROWS - 1) / ROWS * ROWS, apart = all->count * of->side;
    float *x = (of->qkv.out ? all->hidden : all->out) + first * width;
    if (of->project.out) {
        const float *before = all->hidden + first * width;
        begin(before, many, width, of->project.bias, whole);
        for (int64_t column = 0; column < width; column += COLUMNS)
            multiply(ADD, all->mixed + first * width, width, many, &of->project, column, 0, width,
                     (Place){whole + column, width, many});
        norm(whole, many, width, of->norm, of->epsilon, x);
        feed_forward(x, whole, whole + many * width, many, of);
    } else {
        look_up(all->ids + first, all->places + first, length, of, whole);
        norm(whole, length, width, of->last, of->epsilon, x);
    }
    for (int64_t column = 0; column < of->qkv.out; column += COLUMNS) {
        float *head = all->qkv + column / of->side * apart + column % of->side + first * of->side;
        multiply(BIAS, x, width, many, &of->qkv, column, 0, width, (Place){head, of->side, length});
    }
}

INLINE int64_t most_rows(int64_t width) { return NUMBERS / width < ROWS ? ROWS : NUMBERS / width / ROWS * ROWS; }

/* How many numbers of room a thread needs. */
FAST int64_t embedctl_float_room(int64_t width) { return most_rows(width) * (width + MIDDLE); }

/* All tokens through a block, by OpenMP's threads. Sizes of layers are multiples of 32. */
FAST void embedctl_bert_by_floats(const Tokens *all, const Block *of) {
    const int64_t most = most_rows(of->width), each = (int64_t)all->threads * ROWS;
    const int64_t share = (all->count + each - 1) / each * ROWS, rows = share < most ? share : most;
#pragma omp parallel for schedule(dynamic, 1) num_threads(all->threads)
    for (int64_t first = 0; first < all->count; first += rows)
        take_rows(all, of, first, all->count - first < rows ? all->count - first : rows,
                  all->room + omp_get_thread_num() * embedctl_float_room(of->width));
}

int embedctl_can_floats(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

#endif
