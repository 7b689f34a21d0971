/* A convolution of floats with few weights: for each filter a list of the
   places of its surviving weights, and a sum of the rows of pixels there.
   Strides are 1: those of others are planes of phases (see `split_phases`).

   The output falls into tiles of `tile_rows` x `tile_columns` pixels, and the
   channels into blocks, so that what a tile sees of a block's channels, which
   `fill_tile` brings together, stays in the nearest cache.

   In a tile a row is `pitch` floats long and rows follow one another, so that
   a tap in another row is another place to begin. A tap in another column
   would cut across cache lines: therefore taps fall into groups of the same
   column shift, each group is summed where it lies, and the sums are shifted.
   Last comes the group that needs no shift. Of a batch, `lanes` images lie
   side by side in a column: then every shift is a place to begin as well, and
   all taps are in that last group.

   `stream`: for each block, for each of its jobs: filter, flags (1: first of
   this filter, 2: last), then per group ternary: number of +1 weights, number
   of -1 weights, their places; otherwise number, places. Four more behind. */
#include "bits.h"
#include "steps.h"
#include "sums.h"

struct sparse_convolution {
  int32_t input, output;
  int32_t tile;  /* what a tile sees of a block's channels */
  int32_t sides; /* sums of each group and of all: `margin`, tile, `margin` */
  int32_t sums;  /* sums of each filter over the blocks so far */
  int32_t images, lanes;
  int32_t rows, columns, out_rows, out_columns;
  int32_t tile_rows, tile_columns, pitch;
  int32_t singly; /* whether lists are not filled up, see sums.h */
  int32_t near;   /* whether there are shifts, all of less than 16 floats */
  int32_t chunks; /* of 16 floats in the sums of a tile: 1, 2, 4, 8 */
  int32_t left;   /* column where a tile begins */
  int32_t zeros; /* floats before the first plane of a tile */
  int32_t contiguous; /* whether a tile's rows are so in the map too */
  int32_t seen, blocks, groups, margin;
  /* Of an output of signs, a bit each, where a tile begins at a whole byte; of
     one of floats `row_bytes` is 0. */
  int32_t row_bytes, plane_bytes;
  const int32_t *row;    /* rows that a tile sees, `seen` of them */
  const int32_t *block;  /* per block: first channel, channels, jobs */
  const int32_t *shifts; /* per group */
  const int32_t *masks;  /* per group: which sums are inside */
  const uint16_t *stream;
  const float *weights; /* null: ternary */
  float gain;
  MPT_STEPS
};

/* Copied into each form of the loops below, where numbers are constants. */
#define MPT_INLINE static inline __attribute__((always_inline))

MPT_INLINE void copy_floats(real *to, const real *from, int32_t count) {
  int32_t i = 0;
  for (; i + LANES <= count; i += LANES)
    *(floats_at *)(to + i) = *(const floats_at *)(from + i);
  for (; i < count; i++) to[i] = from[i];
}

MPT_INLINE void clear_floats(real *to, int32_t count) {
  int32_t i = 0;
  for (; i + LANES <= count; i += LANES) *(floats_at *)(to + i) = (floats){0};
  for (; i < count; i++) to[i] = 0;
}

/* What a tile at row y sees of a block, where rows of a tile follow one another
   as they do in the map. */
MPT_INLINE void tile_rows_of(const struct sparse_convolution *k,
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
    clear_floats(to, above);
    copy_floats(to + above, input, inside);
    clear_floats(to + above + inside, below);
  }
}

/* `count` columns of a row, the first at `first`, zeros outside. */
MPT_INLINE void tile_row(const real *row, int32_t columns, int32_t first,
                         int32_t count, int32_t images, int32_t lanes,
                         real *to) {
  int32_t before = first < 0 ? -first : 0;
  if (before > count) before = count;
  int32_t end = first + count > columns ? columns - first : count;
  if (end < before) end = before;
  clear_floats(to, before * lanes);
  row += (first + before) * images, to += before * lanes;
  if (images == 1)
    copy_floats(to, row, end - before);
  else
    for (int32_t i = 0; i < end - before; i++)
      copy_floats(to + i * lanes, row + i * images, lanes);
  clear_floats(to + (end - before) * lanes, (count - end) * lanes);
}

/* What the tile at (y, x) of images from `image` on sees of a block. */
MPT_INLINE void fill_tile(const struct sparse_convolution *k,
                          const int32_t *block, int32_t image, int32_t y,
                          int32_t x, char *arena) {
  const real *input = (const real *)(arena + k->input) + image;
  real *to = (real *)(arena + k->tile) + k->zeros;
  if (k->contiguous) {
    tile_rows_of(k, block, y, input, to);
    return;
  }
  int32_t row_floats = k->columns * k->images;
  int32_t count = k->pitch / k->lanes;
  for (int32_t c = block[0]; c < block[0] + block[1]; c++) {
    const real *plane = input + c * k->rows * row_floats;
    for (int32_t r = 0; r < k->seen; r++, to += k->pitch) {
      int32_t from = k->row[r] + y;
      if (from >= 0 && from < k->rows)
        tile_row(plane + from * row_floats, k->columns, k->left + x, count,
                 k->images, k->lanes, to);
      else
        clear_floats(to, k->pitch);
    }
  }
}

/* The sums of one list over a tile. */
MPT_INLINE void sum_tile(const real *tile, struct list list, int32_t size, real *out,
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

/* The lists of a job; `near`: shifts are all of less than 16 floats. */
MPT_INLINE void sum_groups(const real *tile, struct list *list, int32_t size,
                           real *sides, real *out, int32_t near,
                           const struct ending *ending) {
#if MPT_WIDTH == 64
  if (near) {
    switch (size) {
      case 16: shuffled_1(tile, list, out, ending); break;
      case 32: shuffled_2(tile, list, out, ending); break;
      case 64: shuffled_4(tile, list, out, ending); break;
      default: shuffled_8(tile, list, out, ending);
    }
    return;
  }
#else
  (void)near;
#endif
  for (int32_t g = ending->others - 1; g >= 0; g--) {
    MPT_NEXT_LIST((*list))
    sum_tile(tile, *list, size, sides + g * ending->apart, 0);
    MPT_BEHIND_LIST((*list))
  }
  MPT_NEXT_LIST((*list))
  sum_tile(tile, *list, size, out, ending);
  MPT_BEHIND_LIST((*list))
}

/* The finished sums of a tile, to where they belong. */
MPT_INLINE void put_tile(const struct sparse_convolution *k, const real *sums,
                int32_t rows, int32_t columns, real *out) {
  int32_t row_floats = k->out_columns * k->images;
  for (int32_t r = 0; r < rows; r++, sums += k->pitch, out += row_floats)
    if (k->images == 1)
      copy_floats(out, sums, columns);
    else
      for (int32_t i = 0; i < columns; i++)
        copy_floats(out + i * k->images, sums + i * k->lanes, k->lanes);
}

/* Signs of `count` floats; of up to LANES - 1 more in bits that nobody uses. */
MPT_INLINE void pack_row(const real *from, int32_t count, char *to) {
  for (; count >= 64; count -= 64, from += 64, to += 8)
    *(word_at *)to = packed_word(from);
  if (count <= 0) return;
  uint64_t bits = 0;
  for (int32_t i = 0; i < count; i += LANES)
    bits |= (uint64_t)signs_of(*(const floats_at *)(from + i)) << i;
  put_bits(to, bits, count);
}

/* The same as signs. */
MPT_INLINE void pack_tile(const struct sparse_convolution *k, const real *sums,
                          int32_t rows, int32_t columns, char *out) {
  for (int32_t r = 0; r < rows; r++, sums += k->pitch, out += k->row_bytes)
    if (k->images == 1)
      pack_row(sums, columns, out);
    else
      for (int32_t i = 0; i < columns; i++)
        pack_row(sums + i * k->lanes, k->lanes, out + i * (k->images / 8));
}

MPT_INLINE void convolve_tile(const struct sparse_convolution *k, int32_t image,
                          int32_t y, int32_t x, char *arena) {
  const real *tile = (const real *)(arena + k->tile);
  struct list list = {k->stream, k->weights, 0, 0, k->singly};
  int32_t chunks = k->chunks, size = 16 * chunks;
  int32_t side = size + 2 * k->margin, groups = k->groups;
  struct ending ending = {0};
  real *const sides = (real *)(arena + k->sides) + k->margin;
  real *const done = sides + groups * side;
  ending.sides = sides, ending.shifts = k->shifts, ending.masks = k->masks;
  ending.others = groups, ending.apart = side, ending.masks_apart = size;
  ending.gain = k->gain;
  int32_t rows = k->out_rows - y, columns = k->out_columns - x;
  if (rows > k->tile_rows) rows = k->tile_rows;
  if (columns > k->tile_columns) columns = k->tile_columns;
  int32_t plane = k->out_rows * k->out_columns * k->images;
  real *output = (real *)(arena + k->output) + image +
                 (y * k->out_columns + x) * k->images;
  int32_t packs = k->row_bytes;
  char *packed = arena + k->output + y * k->row_bytes +
                 (x * k->images + image) / 8;
  /* Whole vectors of the sums are rows of the output that follow one another. */
  int32_t direct = k->images == 1 && k->pitch == k->out_columns &&
                   rows * k->pitch == size && !packs;
  for (int32_t b = 0; b < k->blocks; b++) {
    const int32_t *block = k->block + 3 * b;
    fill_tile(k, block, image, y, x, arena);
    for (int32_t job = 0; job < block[2]; job++) {
      int32_t filter = *list.entries++, flags = *list.entries++;
      real *sums = (real *)(arena + k->sums) + filter * size;
      real *out = output + filter * plane;
      ending.more = flags & 1 ? 0 : sums;
      ending.last = flags & 2;
      ending.steps = STEPS_OF(k, filter);
      real *to = !ending.last ? sums : direct ? out : done;
      sum_groups(tile, &list, size, sides, to, k->near, &ending);
      if (!ending.last || direct) continue;
      if (packs)
        pack_tile(k, done, rows, columns, packed + filter * k->plane_bytes);
      else
        put_tile(k, done, rows, columns, out);
    }
  }
}

MPT_KERNEL void sparse_convolution(const struct sparse_convolution *fields,
                                   char *arena) {
  const struct sparse_convolution k = *fields;
  real *tile = (real *)(arena + k.tile);
  for (int32_t i = 0; i < k.zeros; i++) tile[i] = 0;
  for (int32_t y = 0; y < k.out_rows; y += k.tile_rows)
    for (int32_t x = 0; x < k.out_columns; x += k.tile_columns)
      for (int32_t image = 0; image < k.images; image += k.lanes)
        convolve_tile(&k, image, y, x, arena);
}
