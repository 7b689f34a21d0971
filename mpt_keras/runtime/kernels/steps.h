/* What happens to each entry of a channel: scale, offset, rectifier. */
#ifndef MPT_STEPS_H
#define MPT_STEPS_H

#include "vectors.h"

/* Fields of every kernel that ends with such steps. */
#define MPT_STEPS              \
  const float *scale, *offset; \
  const float *slopes;         \
  float slope, threshold, high; \
  int32_t rectifies;

struct channel_steps {
  float scale, offset, slope, threshold, high;
  int32_t scales, offsets, rectifies;
};

/* Of channel `c`, from the fields of a kernel's structure `k`. */
#define STEPS_OF(k, c)                                                    \
  ((struct channel_steps){                                                \
      (k)->scale ? (k)->scale[c] : 1, (k)->offset ? (k)->offset[c] : 0,   \
      (k)->slopes ? (k)->slopes[c] : (k)->slope, (k)->threshold, (k)->high, \
      (k)->scale != 0, (k)->offset != 0, (k)->rectifies})

static inline float step(float v, struct channel_steps s) {
  /* One rounding a statement, so that no compiler fuses the two. */
  if (s.scales) v *= s.scale;
  if (s.offsets) v += s.offset;
  if (s.rectifies) {
    if (v <= s.threshold) {
      v -= s.threshold;
      v = s.slope != 0 ? v * s.slope : 0; /* infinities, too */
    }
    v = v > s.high ? s.high : v;
  }
  return v;
}

static inline floats choose(ints mask, floats yes, floats no) {
  return (floats)((mask & (ints)yes) | (~mask & (ints)no));
}

static inline floats rectified(floats v, struct channel_steps s) {
  floats below = {0};
  if (s.slope != 0) {
    below = v - s.threshold;
    below = below * s.slope;
  }
  floats high = s.high - (floats){0};
  v = choose(v <= s.threshold, below, v);
  return choose(v > high, high, v);
}

static inline floats steps(floats v, struct channel_steps s) {
  if (s.scales) v = v * s.scale;
  if (s.offsets) v = v + s.offset;
  if (s.rectifies) v = rectified(v, s);
  return v;
}

#endif
