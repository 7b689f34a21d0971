/* A part of an output that is an input as it is. */
#include "vectors.h"

struct copy {
  int32_t input, output;
  int32_t at;   /* float of the output where it begins */
  int32_t size; /* floats */
};

MPT_KERNEL void copy(const struct copy *k, char *arena) {
  const real *input = (const real *)(arena + k->input);
  real *output = (real *)(arena + k->output) + k->at;
  int32_t i = 0;
  for (; i + LANES <= k->size; i += LANES)
    *(floats_at *)(output + i) = *(const floats_at *)(input + i);
  for (; i < k->size; i++) output[i] = input[i];
}
