/* What the kernels of dense layers share: inputs that are not zero, and the
   end. */
#ifndef MPT_DENSE_H
#define MPT_DENSE_H

#include "steps.h"

/* An input that counts. */
struct live {
  int32_t unit;
  float value;
} __attribute__((may_alias));

/* Inputs that are not zero, filled up with zeros to a multiple of 4; how
   many. */
__attribute__((unused)) static inline int32_t find_live(const real *input,
                                                        int32_t units,
                                                        struct live *live) {
  int32_t count = 0;
  for (int32_t unit = 0; unit < units; unit++) {
    float value = input[unit];
    live[count] = (struct live){unit, value};
    count += value != 0;
  }
  for (; count % 4; count++) live[count] = (struct live){0, 0};
  return count;
}

/* Gain and steps of the sums. */
#define MPT_FINISH_DENSE(k, sums, output)                    \
  for (int32_t f = 0; f < (k)->filters; f++) {               \
    float v = (sums)[f];                                     \
    v *= (k)->gain;                                          \
    (output)[f] = step(v, STEPS_OF(k, f));                   \
  }

#endif
