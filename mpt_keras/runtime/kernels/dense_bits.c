/* A dense layer of weights -1, 0, +1: two bits a weight, one that says where
   it is +1, one for -1. An input that is not zero is added and subtracted
   where its bits say so. */
#include "dense.h"
#include "sums.h"

struct dense_bits {
  int32_t input, output;
  int32_t live; /* room for `units` + 4 inputs that are not zero */
  int32_t sums;
  int32_t units, filters;
  int32_t chunks; /* of filters */
  int32_t groups; /* of 16 filters in a chunk: 1, 2, 4, 8, 16 */
  const uint16_t *bits; /* [chunk][unit][+1, -1][group] */
  float gain;
  MPT_STEPS
};

#if MPT_WIDTH == 64 && defined(__AVX512F__)

/* a + x in the lanes of the mask. */
#ifdef __clang__
#define MPT_ADD_IN(mask, a, x) \
  ((floats)__builtin_ia32_selectps_512((mask), (a) + (x), (a)))
#else
#define MPT_ADD_IN(mask, a, x) \
  ((floats)__builtin_ia32_addps512_mask((a), (x), (a), (mask), 4))
#endif

#define MPT_DO16(M, a, p)                                                 \
  MPT_DO8(M, a, p) M(a, p, 8) M(a, p, 9) M(a, p, 10) M(a, p, 11)          \
  M(a, p, 12) M(a, p, 13) M(a, p, 14) M(a, p, 15)
#define MPT_LIVE(a, p, i)                                 \
  a##i = MPT_ADD_IN(mask[i], a##i, x);                    \
  a##i = MPT_ADD_IN((mask + (p))[i], a##i, minus_x);
#define MPT_LIVE_ROW(N, a, r)                                     \
  {                                                               \
    const uint16_t *mask = bits + 2 * N * live[r].unit;           \
    const floats x = live[r].value - (floats){0}, minus_x = -x;   \
    MPT_DO##N(MPT_LIVE, a, N)                                     \
  }
#define MPT_ZEROS_16(a, r) MPT_DO16(MPT_ZERO, a, )
#define MPT_ROWS_16(M) M(a, 0)
#define MPT_LIVE_1(a, r) MPT_LIVE_ROW(1, a, r)
#define MPT_LIVE_2(a, r) MPT_LIVE_ROW(2, a, r)
#define MPT_LIVE_4(a, r) MPT_LIVE_ROW(4, a, r)
#define MPT_LIVE_8(a, r) MPT_LIVE_ROW(8, a, r)
#define MPT_LIVE_16(a, r) MPT_LIVE_ROW(16, a, r)

#define MPT_CHUNK(N, ROWS, JOIN)                                              \
  static void chunk_##N(const uint16_t *bits, const struct live *live,        \
                        int32_t count, real *sums) {                          \
    MPT_ROWS_##N(MPT_ZEROS_##N)                                               \
    for (const struct live *end = live + count; live < end; live += ROWS) {   \
      MPT_ROWS_##N(MPT_LIVE_##N)                                              \
    }                                                                         \
    JOIN(N)                                                                   \
    MPT_DO##N(MPT_STORE, a, sums)                                             \
  }
MPT_CHUNK(1, 4, MPT_JOIN_4)
MPT_CHUNK(2, 4, MPT_JOIN_4)
MPT_CHUNK(4, 2, MPT_JOIN_2)
MPT_CHUNK(8, 1, MPT_JOIN_1)
MPT_CHUNK(16, 1, MPT_JOIN_1)

static inline void add_chunk(const uint16_t *bits, int32_t groups,
                             const struct live *live, int32_t count,
                             real *sums) {
  switch (groups) {
    case 1: chunk_1(bits, live, count, sums); break;
    case 2: chunk_2(bits, live, count, sums); break;
    case 4: chunk_4(bits, live, count, sums); break;
    case 8: chunk_8(bits, live, count, sums); break;
    default: chunk_16(bits, live, count, sums);
  }
}

#elif MPT_WIDTH >= 16

/* Without mask registers: x where the bits of a group, in every lane, hit the
   lane's own. */
#define MPT_HIT(i, sign) \
  ((floats)((((word_##sign >> (i) * LANES) & own) == own) & (ints)x))
#define MPT_LIVE(a, p, i)                            \
  {                                                  \
    const ints word_plus = mask[i * LANES / 16] - (ints){0};              \
    const ints word_minus = (mask + groups)[i * LANES / 16] - (ints){0};  \
    a##i += MPT_HIT(i % (16 / LANES), plus);         \
    a##i -= MPT_HIT(i % (16 / LANES), minus);        \
  }

#define MPT_PART(N)                                                          \
  static void part_##N(const uint16_t *bits, int32_t groups,                 \
                       const struct live *live, int32_t count, real *sums) { \
    ints own;                                                                \
    for (int32_t i = 0; i < LANES; i++) own[i] = 1 << i;                     \
    MPT_DO##N(MPT_ZERO, a, )                                                 \
    for (const struct live *end = live + count; live < end; live++) {        \
      const uint16_t *mask = bits + 2 * groups * live->unit;                 \
      const floats x = live->value - (floats){0};                            \
      MPT_DO##N(MPT_LIVE, a, )                                               \
    }                                                                        \
    MPT_DO##N(MPT_STORE, a, sums)                                            \
  }
MPT_PART(8)
MPT_PART(4)
MPT_PART(2)
#if MPT_WIDTH == 64
MPT_PART(1)
#endif

static inline void add_chunk(const uint16_t *bits, int32_t groups,
                             const struct live *live, int32_t count,
                             real *sums) {
  int32_t at = 0;
#define MPT_RUN(N)                                              \
  for (; 16 * groups - at >= N * LANES; at += N * LANES) \
    part_##N(bits + at / 16, groups, live, count, sums + at);
  MPT_RUN(8)
  MPT_RUN(4)
  MPT_RUN(2)
#if MPT_WIDTH == 64
  MPT_RUN(1)
#endif
#undef MPT_RUN
}

#else

/* Bit by bit that is set. */
static inline void add_where(uint32_t bits, float x, real *sums) {
  for (; bits; bits &= bits - 1) sums[__builtin_ctz(bits)] += x;
}

static inline void add_chunk(const uint16_t *bits, int32_t groups,
                             const struct live *live, int32_t count,
                             real *sums) {
  for (int32_t i = 0; i < 16 * groups; i++) sums[i] = 0;
  for (int32_t n = 0; n < count; n++) {
    const uint16_t *mask = bits + 2 * groups * live[n].unit;
    for (int32_t g = 0; g < groups; g++) {
      add_where(mask[g], live[n].value, sums + 16 * g);
      add_where(mask[groups + g], -live[n].value, sums + 16 * g);
    }
  }
}

#endif

MPT_KERNEL void dense_bits(const struct dense_bits *k, char *arena) {
  struct live *live = (struct live *)(arena + k->live);
  real *sums = (real *)(arena + k->sums);
  real *output = (real *)(arena + k->output);
  int32_t count = find_live((const real *)(arena + k->input), k->units, live);
  for (int32_t c = 0; c < k->chunks; c++)
    add_chunk(k->bits + 2 * c * k->groups * k->units, k->groups, live, count,
              sums + 16 * c * k->groups);
  MPT_FINISH_DENSE(k, sums, output)
}
