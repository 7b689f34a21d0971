/* A convolution of planes of bits with ternary weights, whatever its sizes:
   one bit at a time. */
#include "bits.h"
#include "steps.h"

struct any_signs {
  int32_t input, output;
  int32_t channels, filters, groups, images;
  int32_t in_rows, in_columns, in_row_bits, in_plane_bytes;
  int32_t rows, columns, row_bits, plane_bytes;
  int32_t tap_rows, tap_columns;
  int32_t vertical_stride, horizontal_stride;
  int32_t vertical_dilation, horizontal_dilation;
  int32_t before_rows, before_columns;
  const int8_t *weights; /* of each filter, tap and channel of its group */
  const int32_t *thresholds; /* or null: then the output are floats */
  float gain;
  MPT_STEPS
};

static int32_t one_sum(const struct any_signs *k, const byte *input,
                       const int8_t *weights, int32_t row, int32_t column,
                       int32_t image) {
  int32_t sum = 0, channels = k->channels / k->groups;
  for (int32_t i = 0; i < k->tap_rows; i++)
    for (int32_t j = 0; j < k->tap_columns; j++, weights += channels) {
      int32_t y = row * k->vertical_stride - k->before_rows +
                  i * k->vertical_dilation;
      int32_t x = column * k->horizontal_stride - k->before_columns +
                  j * k->horizontal_dilation;
      if (y < 0 || y >= k->in_rows || x < 0 || x >= k->in_columns) continue;
      int32_t bit = y * k->in_row_bits + x * k->images + image;
      const byte *from = input + (bit >> 3);
      for (int32_t c = 0; c < channels; c++, from += k->in_plane_bytes)
        sum += *from >> (bit & 7) & 1 ? weights[c] : -weights[c];
    }
  return sum;
}

MPT_KERNEL void any_signs(const struct any_signs *k, char *arena) {
  int32_t channels = k->channels / k->groups;
  int32_t of_filter = k->tap_rows * k->tap_columns * channels;
  real *to = (real *)(arena + k->output);
  for (int32_t f = 0; f < k->filters; f++) {
    struct channel_steps s = STEPS_OF(k, f);
    int32_t group = f / (k->filters / k->groups);
    const byte *input = (const byte *)arena + k->input +
                        group * channels * k->in_plane_bytes;
    byte *plane = (byte *)arena + k->output + f * k->plane_bytes;
    for (int32_t row = 0; row < k->rows; row++)
      for (int32_t column = 0; column < k->columns; column++)
        for (int32_t image = 0; image < k->images; image++) {
          int32_t sum = one_sum(k, input, k->weights + f * of_filter, row,
                                column, image);
          if (!k->thresholds) {
            float v = (float)sum;
            v *= k->gain;
            *to++ = step(v, s);
            continue;
          }
          int32_t bit = row * k->row_bits + column * k->images + image;
          byte one = (byte)(1 << (bit & 7));
          if (sum >= k->thresholds[f])
            plane[bit >> 3] |= one;
          else
            plane[bit >> 3] &= (byte)~one;
        }
  }
}
