/* What a BERT block is made of, for all ways to compute it. `Number` is that of weights and of what goes through the blocks. */

#ifndef EMBEDCTL_LAYERS_H
#define EMBEDCTL_LAYERS_H

#include <stdint.h>

/* A linear layer. `weights` lie as suits who multiplies; `bias` is (out). As the others here, as in tiled.py. */
typedef struct {
    const Number *weights;
    const float *bias;
    int64_t in, out;
} Layer;

/* The first are the embeddings, `words` and `places` for tokens and where they stand; they have no layer but
   `qkv`, and no norm but the last.

   project: what comes after attention
   qkv:     of the next block, if there is one
   norm:    weight and bias of the norm after attention
   last:    the same of the one at the end
   side:    the width of a head */
typedef struct {
    Layer project, up, down, qkv;
    const float *words, *places;
    const float *norm[2], *last[2];
    float epsilon;
    int64_t width, side;
} Block;

/* What goes through the blocks.

   ids, places: (count)
   mixed:       (count * width) by attention
   hidden:      (count * width), and some rows behind it
   out:         (count, width), after the last block, and some rows behind it
   qkv:         (3, heads, count, side)
   room:        for each thread as much as embedctl_bert_room says, in float32 embedctl_float_room */
typedef struct {
    const int64_t *ids, *places;
    const Number *mixed;
    Number *hidden, *out, *qkv;
    float *room;
    int64_t count;
    int threads;
} Tokens;

#endif
