/* A dense layer of few weights: for each filter the inputs that it sees. */
#include "dense.h"

struct dense_lists {
  int32_t input, output;
  int32_t units, filters;
  const int32_t *starts;   /* where each list begins, and where the last ends:
                              per filter one list, with `weights`; or two, of
                              its weights +1 and -1 */
  const uint16_t *entries; /* inputs */
  const float *weights;    /* of each entry, or null */
  float gain;
  MPT_STEPS
};

/* Eight sums at once, so that none waits for the last. */
#define MPT_EIGHT_SUMS(TERM)                                    \
  float s[8] = {0};                                             \
  int32_t i = begin;                                            \
  for (; i + 8 <= end; i += 8) {                                \
    s[0] += TERM(i), s[1] += TERM(i + 1), s[2] += TERM(i + 2);  \
    s[3] += TERM(i + 3), s[4] += TERM(i + 4);                   \
    s[5] += TERM(i + 5), s[6] += TERM(i + 6);                   \
    s[7] += TERM(i + 7);                                        \
  }                                                             \
  for (; i < end; i++) s[i & 7] += TERM(i);                     \
  return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
#define MPT_LISTED(i) input[entries[i]]
#define MPT_LISTED_TIMES(i) input[entries[i]] * weights[i]

static inline float listed_sum(const real *input, const uint16_t *entries,
                               int32_t begin, int32_t end) {
  MPT_EIGHT_SUMS(MPT_LISTED)
}

static inline float weighed_sum(const real *input, const uint16_t *entries,
                                const float *weights, int32_t begin,
                                int32_t end) {
  MPT_EIGHT_SUMS(MPT_LISTED_TIMES)
}

MPT_KERNEL void dense_lists(const struct dense_lists *fields, char *arena) {
  const struct dense_lists k = *fields;
  const real *input = (const real *)(arena + k.input);
  real *output = (real *)(arena + k.output);
  const int32_t *starts = k.starts;
  for (int32_t f = 0; f < k.filters; f++) {
    float v;
    if (k.weights) {
      v = weighed_sum(input, k.entries, k.weights, starts[0], starts[1]);
      starts += 1;
    } else {
      v = listed_sum(input, k.entries, starts[0], starts[1]);
      v -= listed_sum(input, k.entries, starts[1], starts[2]);
      starts += 2;
    }
    v *= k.gain;
    output[f] = step(v, STEPS_OF(&k, f));
  }
}
