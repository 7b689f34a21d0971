/* The largest entry or the mean of what a window sees. */
#include "shuffles.h"
#include "steps.h"

struct pool {
  int32_t input, output;
  int32_t line; /* a row of the input, `columns` * `images` floats */
  int32_t images, channels;
  int32_t rows, columns, out_rows, out_columns;
  int32_t tap_rows, tap_columns, row_stride, column_stride;
  int32_t row_dilation, column_dilation, top, left;
  int32_t mean;
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

/* Of pairs of columns side by side. */
static inline void pairs_of_lines(const struct pool *k, const real *line,
                              float count, real *to) {
  int32_t x = 0;
  for (; x + LANES <= k->out_columns; x += LANES) {
    floats a = *(const floats_at *)(line + 2 * x);
    floats b = *(const floats_at *)(line + 2 * x + LANES);
    floats v = MPT_EVENS(a, b), w = MPT_ODDS(a, b);
    *(floats_at *)(to + x) = k->mean ? (v + w) / count : larger(v, w);
  }
  for (; x < k->out_columns; x++) {
    float v = line[2 * x], w = line[2 * x + 1];
    to[x] = k->mean ? (v + w) / count : larger_one(v, w);
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
  int32_t pairs = images == 1 && k->tap_columns == 2 &&
                  k->column_stride == 2 && k->column_dilation == 1 &&
                  k->left == 0 && 2 * k->out_columns <= k->columns;
  for (int32_t c = 0; c < k->channels; c++, input += k->rows * row_floats) {
    for (int32_t y = 0; y < k->out_rows; y++) {
      int32_t from = y * k->row_stride - k->top;
      struct inside down =
          taps_inside(from, k->row_dilation, k->tap_rows, k->rows);
      int32_t rows = down.end - down.begin;
      from += down.begin * k->row_dilation;
      pool_rows(k, input + from * row_floats, k->row_dilation * row_floats,
                rows, line);
      if (pairs)
        pairs_of_lines(k, line, (float)(2 * rows), output);
      else
        pool_columns(k, line, rows, output);
      output += k->out_columns * images;
    }
  }
}
