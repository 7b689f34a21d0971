/* Entries in another order, and zeros. */
#include "vectors.h"

struct gather {
  int32_t input, output;
  int32_t runs, images;
  const int32_t *run; /* per run: first entry or -1 for zeros, step, count */
};

MPT_KERNEL void gather(const struct gather *k, char *arena) {
  const real *input = (const real *)(arena + k->input);
  real *output = (real *)(arena + k->output);
  int32_t images = k->images;
  for (int32_t r = 0; r < k->runs; r++) {
    const int32_t *run = k->run + 3 * r;
    int32_t step = run[1] * images, zero = run[0] < 0;
    const real *from = zero ? input : input + run[0] * images;
    for (int32_t n = 0; n < run[2]; n++)
      for (int32_t i = 0; i < images; i++)
        *output++ = zero ? 0 : from[n * step + i];
  }
}
