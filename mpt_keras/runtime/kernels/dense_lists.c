/* A dense layer of few weights: for each input the filters that see it. */
#include "dense.h"

struct dense_lists {
  int32_t input, output;
  int32_t live; /* room for `units` + 4 inputs that are not zero */
  int32_t sums;
  int32_t units, filters;
  const int32_t *starts;   /* per unit, and the end: where its list begins */
  const uint16_t *plus;    /* per unit: how many of its weights are +1; the
                              others are -1. Null: see `weights`. */
  const uint16_t *entries; /* filters */
  const float *weights;    /* of each entry, or null */
  float gain;
  MPT_STEPS
};

MPT_KERNEL void dense_lists(const struct dense_lists *k, char *arena) {
  struct live *live = (struct live *)(arena + k->live);
  real *sums = (real *)(arena + k->sums);
  real *output = (real *)(arena + k->output);
  const uint16_t *entries = k->entries;
  const float *weights = k->weights;
  int32_t count = find_live((const real *)(arena + k->input), k->units, live);
  for (int32_t f = 0; f < k->filters; f++) sums[f] = 0;
  for (int32_t n = 0; n < count; n++) {
    int32_t unit = live[n].unit;
    float value = live[n].value;
    int32_t i = k->starts[unit], end = k->starts[unit + 1];
    if (weights) {
      for (; i < end; i++) sums[entries[i]] += value * weights[i];
      continue;
    }
    for (int32_t last = i + k->plus[unit]; i < last; i++)
      sums[entries[i]] += value;
    for (; i < end; i++) sums[entries[i]] -= value;
  }
  MPT_FINISH_DENSE(k, sums, output)
}
