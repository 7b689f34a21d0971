/* A dense layer of many weights: for each input a row of floats. */
#include "dense.h"
#include "sums.h"

struct dense_rows {
  int32_t input, output;
  int32_t live; /* room for `units` + 4 inputs that are not zero */
  int32_t sums;
  int32_t units, filters;
  int32_t chunks; /* of filters */
  int32_t width;  /* filters of a chunk: 16, 32, 64, 128 */
  const float *weights; /* [chunk][unit][filter of the chunk] */
  float gain;
  MPT_STEPS
};

#define MPT_WEIGH(a, p, i) a##i = MPT_FMA(a##i, MPT_AT(p, i), x);
#define MPT_WEIGH_ROW(N, a, r)                           \
  {                                                      \
    const real *row = weights + live[r].unit * width;    \
    const floats x = live[r].value - (floats){0};        \
    MPT_DO##N(MPT_WEIGH, a, row)                         \
  }
#define MPT_WEIGHED(N, SETS)                                                  \
  __attribute__((unused)) static void weighed_##N(                            \
      const real *weights, int32_t width, const struct live *live,            \
      int32_t count, real *sums) {                                            \
    MPT_ZERO_##SETS(N)                                                        \
    for (const struct live *end = live + count; live < end; live += 4) {      \
      MPT_FOUR_##N(MPT_WEIGH_ROW)                                             \
    }                                                                         \
    MPT_JOIN_##SETS(N)                                                        \
    MPT_DO##N(MPT_STORE, a, sums)                                             \
  }
MPT_WEIGHED(8, 1)
MPT_WEIGHED(4, 2)
MPT_WEIGHED(2, 4)
MPT_WEIGHED(1, 4)

MPT_KERNEL void dense_rows(const struct dense_rows *k, char *arena) {
  struct live *live = (struct live *)(arena + k->live);
  real *sums = (real *)(arena + k->sums);
  real *output = (real *)(arena + k->output);
  int32_t width = k->width;
  int32_t count = find_live((const real *)(arena + k->input), k->units, live);
  for (int32_t c = 0; c < k->chunks; c++) {
    const real *weights = k->weights + c * k->units * width;
    int32_t at = 0;
#define MPT_RUN(N)                                       \
  for (; width - at >= N * LANES; at += N * LANES)       \
    weighed_##N(weights + at, width, live, count, sums + c * width + at);
    MPT_RUN(8)
#if MPT_WIDTH >= 16
    MPT_RUN(4)
#endif
#if MPT_WIDTH >= 32
    MPT_RUN(2)
#endif
#if MPT_WIDTH >= 64
    MPT_RUN(1)
#endif
#undef MPT_RUN
  }
  MPT_FINISH_DENSE(k, sums, output)
}
