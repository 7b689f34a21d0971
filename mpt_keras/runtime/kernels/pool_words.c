/* Max pooling of signs whose pixels are whole words. */
#include "bits.h"

struct pool_words {
  int32_t input, output;
  int32_t planes, pixel_words;
  int32_t in_rows, in_columns, rows, columns;
  int32_t tap_rows, tap_columns;
  int32_t vertical_stride, horizontal_stride;
  int32_t vertical_dilation, horizontal_dilation;
  int32_t before_rows, before_columns;
  const uint64_t *flips; /* `period` words of each plane */
  int32_t period;
};

MPT_KERNEL void pool_words(const struct pool_words *k, char *arena) {
  const word *input = (const word *)(arena + k->input);
  word *to = (word *)(arena + k->output);
  for (int32_t p = 0; p < k->planes; p++) {
    for (int32_t row = 0; row < k->rows; row++)
      for (int32_t column = 0; column < k->columns; column++) {
        for (int32_t w = 0; w < k->pixel_words; w++) to[w] = 0;
        for (int32_t i = 0; i < k->tap_rows; i++) {
          int32_t y = row * k->vertical_stride - k->before_rows +
                      i * k->vertical_dilation;
          if (y < 0 || y >= k->in_rows) continue;
          for (int32_t j = 0; j < k->tap_columns; j++) {
            int32_t x = column * k->horizontal_stride - k->before_columns +
                        j * k->horizontal_dilation;
            if (x < 0 || x >= k->in_columns) continue;
            const word *from =
                input + (y * k->in_columns + x) * k->pixel_words;
            for (int32_t w = 0; w < k->pixel_words; w++) to[w] |= from[w];
          }
        }
        for (int32_t w = 0, i = 0; w < k->pixel_words; w++) {
          to[w] ^= k->flips[p * k->period + i];
          if (++i == k->period) i = 0;
        }
        to += k->pixel_words;
      }
    input += k->in_rows * k->in_columns * k->pixel_words;
  }
}
