/* Two values entry by entry, or one; then steps. */
#include "steps.h"

struct merge {
  int32_t input, other, output; /* `output` may be one of the others */
  int32_t channels, size;       /* floats of a channel */
  int32_t how; /* 0: `input` alone, 1: +, 2: -, 3: *, 4: max, 5: min */
  MPT_STEPS
};

static inline floats merged(floats a, floats b, int32_t how) {
  switch (how) {
    case 1: return a + b;
    case 2: return a - b;
    case 3: return a * b;
    /* NaN stays NaN, whichever it is. */
    case 4: return choose((a >= b) | (a != a), a, b);
    case 5: return choose((a <= b) | (a != a), a, b);
    default: return a;
  }
}

MPT_KERNEL void merge(const struct merge *k, char *arena) {
  const real *input = (const real *)(arena + k->input);
  const real *other = (const real *)(arena + (k->how ? k->other : k->input));
  real *output = (real *)(arena + k->output);
  int32_t size = k->size, how = k->how;
  for (int32_t c = 0; c < k->channels; c++) {
    struct channel_steps s = STEPS_OF(k, c);
    int32_t i = 0;
    for (; i + LANES <= size; i += LANES) {
      floats v = merged(*(const floats_at *)(input + i),
                        *(const floats_at *)(other + i), how);
      *(floats_at *)(output + i) = steps(v, s);
    }
    for (; i < size; i++) {
      floats a = input[i] - (floats){0}, b = other[i] - (floats){0};
      output[i] = step(merged(a, b, how)[0], s);
    }
    input += size, other += size, output += size;
  }
}
