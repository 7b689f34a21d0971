/* The largest entry or the mean of what a window sees. */
#include "shuffles.h"
#include "steps.h"

struct pool {
  int32_t input, output;
  int32_t line; /* a row of the input; or with `tiles` half a plane */
  int32_t images, channels;
  int32_t rows, columns, out_rows, out_columns;
  int32_t tap_rows, tap_columns, row_stride, column_stride;
  int32_t row_dilation, column_dilation, top, left;
  int32_t mean;
  int32_t tiles; /* one image, and windows of 2x2 tile a plane of even width */
};

/* Taps of a window at `first` that are inside: from, to, taps. */
struct inside {
  int32_t begin, end;
};

static inline struct inside taps_inside(int32_t first, int32_t dilation,
                                        int32_t taps, int32_t size) {
  struct inside in = {0, taps};
  while (in.begin < taps && first + in.begin * dilation < 0) in.begin++;
  while (in.end > in.begin && first + (in.end - 1) * dilation >= size) in.end--;
  return in;
}

/* The larger of two; NaN stays NaN. */
static inline floats larger(floats a, floats b) {
  return choose((a >= b) | (a != a), a, b);
}

/* Without a branch, which processors would guess wrong at every other entry. */
static inline float larger_one(float a, float b) {
  union {
    float number;
    int32_t bits;
  } one = {a}, other = {b};
  int32_t mask = -((a >= b) | (a != a));
  one.bits = (one.bits & mask) | (other.bits & ~mask);
  return one.number;
}

/* `line` becomes the largest, or the sum, of rows. */
static inline void pool_rows(const struct pool *k, const real *rows,
                             int32_t apart, int32_t count, real *line) {
  int32_t size = k->columns * k->images, i = 0;
  for (; i + LANES <= size; i += LANES) {
    floats v = *(const floats_at *)(rows + i);
    for (int32_t r = 1; r < count; r++) {
      floats w = *(const floats_at *)(rows + r * apart + i);
      v = k->mean ? v + w : larger(v, w);
    }
    *(floats_at *)(line + i) = v;
  }
  for (; i < size; i++) {
    float v = rows[i];
    for (int32_t r = 1; r < count; r++) {
      float w = rows[r * apart + i];
      v = k->mean ? v + w : larger_one(v, w);
    }
    line[i] = v;
  }
}

static inline four larger_four(four a, four b) {
  four_ints first = (a >= b) | (a != a);
  return (four)((first & (four_ints)a) | (~first & (four_ints)b));
}

/* 2x2 windows that tile a plane of even width: pairs of columns of all rows
   first, then pairs of rows. */
static inline void pool_2x2(const struct pool *k, const real *plane,
                            real *line, real *to) {
  int32_t width = k->out_columns, size = 2 * k->out_rows * width, i = 0;
  for (; i + LANES <= size; i += LANES) {
    floats a = *(const floats_at *)(plane + 2 * i);
    floats b = *(const floats_at *)(plane + 2 * i + LANES);
    floats v = MPT_EVENS(a, b), w = MPT_ODDS(a, b);
    *(floats_at *)(line + i) = k->mean ? v + w : larger(v, w);
  }
  for (; i < size; i++) {
    float v = plane[2 * i], w = plane[2 * i + 1];
    line[i] = k->mean ? v + w : larger_one(v, w);
  }
  for (int32_t y = 0; y < k->out_rows; y++, line += 2 * width, to += width) {
    int32_t x = 0;
    for (; x + 4 <= width; x += 4) {
      four v = *(const four_at *)(line + x);
      four w = *(const four_at *)(line + width + x);
      *(four_at *)(to + x) = k->mean ? (v + w) / 4.0f : larger_four(v, w);
    }
    for (; x < width; x++) {
      float v = line[x], w = line[width + x];
      to[x] = k->mean ? (v + w) / 4.0f : larger_one(v, w);
    }
  }
}

/* Of each window; `rows` of it are inside. */
static inline void pool_columns(const struct pool *k, const real *line,
                                int32_t rows, real *to) {
  int32_t images = k->images, apart = k->column_dilation * images;
  for (int32_t x = 0; x < k->out_columns; x++, to += images) {
    int32_t at = x * k->column_stride - k->left;
    struct inside across =
        taps_inside(at, k->column_dilation, k->tap_columns, k->columns);
    int32_t taps = across.end - across.begin, i = 0;
    const real *seen = line + at * images + across.begin * apart;
    float count = (float)(rows * taps);
    for (; i + LANES <= images; i += LANES) {
      floats v = *(const floats_at *)(seen + i);
      for (int32_t t = 1; t < taps; t++) {
        floats w = *(const floats_at *)(seen + t * apart + i);
        v = k->mean ? v + w : larger(v, w);
      }
      *(floats_at *)(to + i) = k->mean ? v / count : v;
    }
    for (; i < images; i++) {
      float v = seen[i];
      for (int32_t t = 1; t < taps; t++) {
        float w = seen[t * apart + i];
        v = k->mean ? v + w : larger_one(v, w);
      }
      to[i] = k->mean ? v / count : v;
    }
  }
}

MPT_KERNEL void pool(const struct pool *fields, char *arena) {
  const struct pool pool = *fields, *k = &pool;
  const real *input = (const real *)(arena + k->input);
  real *output = (real *)(arena + k->output);
  real *line = (real *)(arena + k->line);
  int32_t images = k->images, row_floats = k->columns * images;
  for (int32_t c = 0; c < k->channels; c++, input += k->rows * row_floats) {
    if (k->tiles) {
      pool_2x2(k, input, line, output);
      output += k->out_rows * k->out_columns;
      continue;
    }
    for (int32_t y = 0; y < k->out_rows; y++) {
      int32_t from = y * k->row_stride - k->top;
      struct inside down =
          taps_inside(from, k->row_dilation, k->tap_rows, k->rows);
      int32_t rows = down.end - down.begin;
      from += down.begin * k->row_dilation;
      pool_rows(k, input + from * row_floats, k->row_dilation * row_floats,
                rows, line);
      pool_columns(k, line, rows, output);
      output += k->out_columns * images;
    }
  }
}
