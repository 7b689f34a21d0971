/* exp(v - m) / sum of exp(v - m) over channels, m the largest v. */
#include "exponential.h"

struct softmax {
  int32_t input, output;
  int32_t channels, pixels; /* pixels of all images */
};

/* `count` pixels side by side of a channel, at most LANES. */
static inline floats pixels_at(const real *at, int32_t count) {
  if (count == LANES) return *(const floats_at *)at;
  floats v = {0};
  for (int32_t i = 0; i < count; i++) v[i] = at[i];
  return v;
}

static inline void put_pixels(real *at, floats v, int32_t count) {
  if (count == LANES)
    *(floats_at *)at = v;
  else
    for (int32_t i = 0; i < count; i++) at[i] = v[i];
}

MPT_KERNEL void softmax(const struct softmax *k, char *arena) {
  const real *input = (const real *)(arena + k->input);
  real *output = (real *)(arena + k->output);
  int32_t pixels = k->pixels;
  for (int32_t p = 0; p < pixels; p += LANES) {
    int32_t count = pixels - p < LANES ? pixels - p : LANES;
    floats largest = pixels_at(input + p, count), sum = splat(0);
    for (int32_t c = 1; c < k->channels; c++) {
      floats v = pixels_at(input + c * pixels + p, count);
      largest = choose(v > largest, v, largest);
    }
    for (int32_t c = 0; c < k->channels; c++) {
      floats v = exponential(pixels_at(input + c * pixels + p, count) - largest);
      sum = sum + v;
      put_pixels(output + c * pixels + p, v, count);
    }
    for (int32_t c = 0; c < k->channels; c++) {
      floats v = pixels_at(output + c * pixels + p, count) / sum;
      put_pixels(output + c * pixels + p, v, count);
    }
  }
}
