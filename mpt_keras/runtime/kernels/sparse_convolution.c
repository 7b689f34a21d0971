/* A convolution of floats with few weights: for each filter a list of the
   places of its surviving weights, and a sum of the rows of pixels there.

   The output falls into tiles of `tile_rows` x `tile_columns` pixels, and the
   channels into blocks, so that what a tile sees of a block's channels, which
   `gather` brings together, stays in the nearest cache. A stride splits the
   input into phases (rows y % stride == a, columns x % stride == b), each a
   plane of its own here, so that neighbours lie side by side.

   In a tile a row is `pitch` floats long and rows follow one another, so that
   a tap in another row is another place to begin. A tap in another column
   would cut across cache lines: therefore taps fall into groups of the same
   column shift, each group is summed where it lies, and the sums are shifted.
   Group 0 is the one that needs no shift. Of a batch, `lanes` images lie side
   by side in a column: then every shift is a place to begin as well, and all
   taps are in group 0.

   `stream`: for each block, for each of its jobs: filter, flags (1: first of
   this filter, 2: last), then per group, the last first, ternary: number of +1
   weights, number of -1 weights, their places; otherwise number, places. */
#include "steps.h"
#include "sums.h"

struct sparse_convolution {
  int32_t input, output;
  int32_t tile;  /* what a tile sees of a block's channels */
  int32_t sides; /* sums of each group: `margin`, the tile, `margin` */
  int32_t sums;  /* sums of each filter over the blocks so far */
  int32_t images, lanes;
  int32_t rows, columns, out_rows, out_columns;
  int32_t tile_rows, tile_columns, pitch;
  int32_t chunks; /* of 16 floats in the sums of a tile: 1, 2, 4, 8 */
  int32_t left;   /* column of a phase where a tile begins */
  int32_t row_stride, column_stride;
  int32_t zeros; /* floats before the first plane of a tile */
  int32_t contiguous; /* whether a tile's rows are so in the map too */
  int32_t phases, seen, blocks, groups, margin;
  const int32_t *phase;  /* per phase: row, column */
  const int32_t *row;    /* rows of a phase that a tile sees, `seen` of them */
  const int32_t *block;  /* per block: first channel, channels, jobs */
  const int32_t *shifts; /* per group */
  const int32_t *masks;  /* per group: which sums are inside; or null */
  const uint16_t *stream;
  const float *weights; /* null: ternary */
  float gain;
  MPT_STEPS
};


/* Copies of what does not change: no store can reach them. */
#define INLINE static inline __attribute__((always_inline))

/* A row of `count` columns, the first at `first`, zeros outside. */
INLINE void gather_row(const struct sparse_convolution *k, const real *row,
                       int32_t first, int32_t count, real *to) {
  int32_t lanes = k->lanes, stride = k->column_stride, x = first, n = 0;
  if (!row) x = k->columns;
  for (; n < count && x < 0; n++, x += stride)
    for (int32_t i = 0; i < lanes; i++) *to++ = 0;
  if (lanes == 1 && stride == 1) {
    for (; n + LANES <= count && x + LANES <= k->columns;
         n += LANES, x += LANES, to += LANES)
      *(floats_at *)to = *(const floats_at *)(row + x);
    for (; n < count && x < k->columns; n++, x++) *to++ = row[x];
  } else if (lanes == 1) {
    for (; n < count && x < k->columns; n++, x += stride) *to++ = row[x];
  } else {
    for (; n < count && x < k->columns; n++, x += stride, to += lanes)
      for (int32_t i = 0; i < lanes; i += LANES)
        *(floats_at *)(to + i) = *(const floats_at *)(row + x * k->images + i);
  }
  for (; n < count; n++)
    for (int32_t i = 0; i < lanes; i++) *to++ = 0;
}

INLINE void copy(real *to, const real *from, int32_t count) {
  int32_t i = 0;
  for (; i + LANES <= count; i += LANES)
    *(floats_at *)(to + i) = *(const floats_at *)(from + i);
  for (; i < count; i++) to[i] = from[i];
}

INLINE void clear(real *to, int32_t count) {
  int32_t i = 0;
  for (; i + LANES <= count; i += LANES) *(floats_at *)(to + i) = (floats){0};
  for (; i < count; i++) to[i] = 0;
}

/* The same for a stride of 1 where a tile is as wide as the map and its rows
   follow one another, also in the map. */
INLINE void gather_whole(const struct sparse_convolution *k,
                         const int32_t *block, int32_t y, const real *input,
                         real *to) {
  int32_t first = k->row[0] + y, last = first + k->seen;
  int32_t above = first < 0 ? -first : 0;
  int32_t below = last > k->rows ? last - k->rows : 0;
  if (above > k->seen) above = k->seen;
  if (below > k->seen - above) below = k->seen - above;
  int32_t size = k->seen * k->pitch, plane = k->rows * k->columns;
  int32_t inside = size - (above + below) * k->pitch;
  above *= k->pitch, below *= k->pitch, first *= k->pitch;
  input += block[0] * plane + first + above;
  for (int32_t c = 0; c < block[1]; c++, input += plane, to += size) {
    clear(to, above);
    copy(to + above, input, inside);
    clear(to + above + inside, below);
  }
}

/* What the tile at (y, x) of images from `image` on sees of a block. */
INLINE void gather(const struct sparse_convolution *k, const int32_t *block,
                   int32_t image, int32_t y, int32_t x, char *arena) {
  const real *input = (const real *)(arena + k->input) + image;
  real *to = (real *)(arena + k->tile) + k->zeros;
  if (k->contiguous) {
    gather_whole(k, block, y, input, to);
    return;
  }
  int32_t row_floats = k->columns * k->images;
  int32_t columns = k->pitch / k->lanes;
  for (int32_t c = block[0]; c < block[0] + block[1]; c++) {
    const real *plane = input + c * k->rows * row_floats;
    for (int32_t p = 0; p < k->phases; p++) {
      const int32_t *phase = k->phase + 2 * p;
      int32_t first = (k->left + x) * k->column_stride + phase[1];
      for (int32_t r = 0; r < k->seen; r++) {
        int32_t from = (k->row[r] + y) * k->row_stride + phase[0];
        int32_t inside = from >= 0 && from < k->rows;
        gather_row(k, inside ? plane + from * row_floats : 0, first, columns,
                   to);
        to += k->pitch;
      }
    }
  }
}

/* The sums of one list over a tile. */
INLINE void sum(const real *tile, struct list list, int32_t size, real *out,
                const struct ending *ending) {
  int32_t at = 0;
#define MPT_RUN(N)                                       \
  for (; size - at >= N * LANES; at += N * LANES) \
    sums_##N(tile, list, out, at, ending);
  MPT_RUN(8)
#if MPT_WIDTH >= 16
  MPT_RUN(4)
#endif
#if MPT_WIDTH >= 32
  MPT_RUN(2)
#endif
#if MPT_WIDTH >= 64
  MPT_RUN(1)
#endif
#undef MPT_RUN
}

/* The finished sums of a tile, to where they belong. */
INLINE void put(const struct sparse_convolution *k, const real *sums,
                int32_t rows, int32_t columns, real *out) {
  int32_t row_floats = k->out_columns * k->images;
  for (int32_t r = 0; r < rows; r++, sums += k->pitch, out += row_floats)
    if (k->images == 1)
      copy(out, sums, columns);
    else
      for (int32_t i = 0; i < columns; i++)
        copy(out + i * k->images, sums + i * k->lanes, k->lanes);
}

INLINE void convolve_tile(const struct sparse_convolution *k, int32_t image,
                          int32_t y, int32_t x, char *arena) {
  const real *tile = (const real *)(arena + k->tile);
  const uint16_t *stream = k->stream;
  const float *weights = k->weights;
  int32_t chunks = k->chunks, size = 16 * chunks;
  int32_t side = size + 2 * k->margin, groups = k->groups;
  struct ending ending = {0};
  real *const sides = (real *)(arena + k->sides) + k->margin;
  ending.sides = sides, ending.shifts = k->shifts, ending.masks = k->masks;
  ending.others = groups, ending.apart = side, ending.masks_apart = size;
  ending.gain = k->gain;
  int32_t rows = k->out_rows - y, columns = k->out_columns - x;
  if (rows > k->tile_rows) rows = k->tile_rows;
  if (columns > k->tile_columns) columns = k->tile_columns;
  int32_t plane = k->out_rows * k->out_columns * k->images;
  real *output = (real *)(arena + k->output) + image +
                 (y * k->out_columns + x) * k->images;
  /* Whole vectors of the sums are rows of the output that follow one another. */
  int32_t direct = k->images == 1 && k->pitch == k->out_columns &&
                   rows * k->pitch == size;
  for (int32_t b = 0; b < k->blocks; b++) {
    const int32_t *block = k->block + 3 * b;
    gather(k, block, image, y, x, arena);
    for (int32_t job = 0; job < block[2]; job++) {
      int32_t filter = *stream++, flags = *stream++;
      struct list list = {0, weights, 0, 0};
      for (int32_t g = groups; g >= 0; g--) {
        list.plus = *stream++;
        if (!weights) list.minus = *stream++;
        list.entries = stream;
        if (g == 0) break;
        sum(tile, list, size, sides + (g - 1) * side, 0);
        stream += list.plus + list.minus;
        if (weights) list.weights += list.plus;
      }
      real *sums = (real *)(arena + k->sums) + filter * size;
      real *out = output + filter * plane;
      ending.more = flags & 1 ? 0 : sums;
      ending.last = flags & 2;
      ending.steps = STEPS_OF(k, filter);
      sum(tile, list, size, !ending.last ? sums : direct ? out : sides,
          &ending);
      stream += list.plus + list.minus;
      if (weights) weights = list.weights + list.plus;
      if (ending.last && !direct) put(k, sides, rows, columns, out);
    }
  }
}

MPT_KERNEL void sparse_convolution(const struct sparse_convolution *fields,
                                   char *arena) {
  const struct sparse_convolution k = *fields;
  real *tile = (real *)(arena + k.tile);
  for (int32_t i = 0; i < k.zeros; i++) tile[i] = 0;
  for (int32_t image = 0; image < k.images; image += k.lanes)
    for (int32_t y = 0; y < k.out_rows; y += k.tile_rows)
      for (int32_t x = 0; x < k.out_columns; x += k.tile_columns)
        convolve_tile(&k, image, y, x, arena);
}
