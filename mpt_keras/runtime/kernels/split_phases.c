/* Phases of a stride as planes of their own: of phase (a, b) the rows
   y % row_stride == a and the columns x % column_stride == b, zeros where a
   phase has fewer of them than others. */
#include "shuffles.h"

struct split_phases {
  int32_t input, output; /* [channel][phase][row][column][image] */
  int32_t images, channels;
  int32_t rows, columns, out_rows, out_columns;
  int32_t row_stride, column_stride, phases;
  const int32_t *phase; /* per phase: row, column */
};

/* Every `stride`th of `columns` columns, from `first` on. */
static inline void split_row(const real *row, int32_t columns, int32_t first,
                             int32_t stride, int32_t images, int32_t count,
                             real *to) {
  int32_t n = 0, x = first;
  if (images == 1 && stride == 2) {
    for (; n + LANES <= count && 2 * (n + LANES) <= columns; n += LANES) {
      floats a = *(const floats_at *)(row + 2 * n);
      floats b = *(const floats_at *)(row + 2 * n + LANES);
      *(floats_at *)(to + n) = first ? MPT_ODDS(a, b) : MPT_EVENS(a, b);
    }
    for (; n + 4 <= count && 2 * (n + 4) <= columns; n += 4) {
      four a = *(const four_at *)(row + 2 * n);
      four b = *(const four_at *)(row + 2 * n + 4);
      *(four_at *)(to + n) = first ? MPT_FOUR_ODDS(a, b) : MPT_FOUR_EVENS(a, b);
    }
  }
  for (x += n * stride; n < count && x < columns; n++, x += stride)
    for (int32_t i = 0; i < images; i++)
      to[n * images + i] = row[x * images + i];
  for (n *= images; n < count * images; n++) to[n] = 0;
}

MPT_KERNEL void split_phases(const struct split_phases *fields, char *arena) {
  const struct split_phases k = *fields;
  const real *input = (const real *)(arena + k.input);
  real *to = (real *)(arena + k.output);
  int32_t size = k.columns * k.images;
  for (int32_t c = 0; c < k.channels; c++, input += k.rows * size)
    for (int32_t p = 0; p < k.phases; p++)
      for (int32_t r = 0; r < k.out_rows; r++) {
        int32_t from = k.phase[2 * p] + r * k.row_stride;
        int32_t columns = from < k.rows ? k.columns : 0;
        split_row(input + (columns ? from : 0) * size, columns,
                  k.phase[2 * p + 1], k.column_stride, k.images,
                  k.out_columns, to);
        to += k.out_columns * k.images;
      }
}
