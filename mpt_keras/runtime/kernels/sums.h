/* Sums over lists: what the sparse kernels of floats spend their time in.

   A list names rows of floats by where they begin, and `N` vectors of each row
   are summed in registers, accumulators by name: an array of them would be
   kept in memory. Where `N` is small, several rows at once have accumulators
   of their own, so that one addition need not wait for the last; lists are
   then filled up with rows of zeros to a multiple of `MPT_ROWS_n`. */
#ifndef MPT_SUMS_H
#define MPT_SUMS_H

#include "steps.h"

#define MPT_AT(p, i) (*(const floats_at *)((p) + (i) * LANES))

/* a + b * c, in one instruction where there is one: sums may round as they
   like. */
#if MPT_WIDTH == 64 && defined(__AVX512F__)
#define MPT_FMA(a, b, c) \
  ((floats)__builtin_ia32_vfmaddps512_mask((b), (c), (a), -1, 4))
#elif MPT_WIDTH == 32 && defined(__FMA__)
#define MPT_FMA(a, b, c) ((floats)__builtin_ia32_vfmaddps256((b), (c), (a)))
#elif MPT_WIDTH == 16 && defined(__FMA__)
#define MPT_FMA(a, b, c) ((floats)__builtin_ia32_vfmaddps((b), (c), (a)))
#else
#define MPT_FMA(a, b, c) ((a) + (b) * (c))
#endif

#define MPT_DO1(M, a, p) M(a, p, 0)
#define MPT_DO2(M, a, p) MPT_DO1(M, a, p) M(a, p, 1)
#define MPT_DO4(M, a, p) MPT_DO2(M, a, p) M(a, p, 2) M(a, p, 3)
#define MPT_DO8(M, a, p) \
  MPT_DO4(M, a, p) M(a, p, 4) M(a, p, 5) M(a, p, 6) M(a, p, 7)

#define MPT_ZERO(a, p, i) floats a##i = {0};
#define MPT_PLUS(a, p, i) a##i += MPT_AT(p, i);
#define MPT_MINUS(a, p, i) a##i -= MPT_AT(p, i);
#define MPT_TIMES(a, p, i) a##i = MPT_FMA(a##i, MPT_AT(p, i), weight);
#define MPT_STORE(a, p, i) *(floats_at *)((p) + i * LANES) = a##i;
#define MPT_BOTH(a, p, i) a##i += p##i;
#define MPT_MASKED(a, p, i) \
  a##i += (floats)((ints)MPT_AT(p, i) & ((const ints *)mask)[i]);
#define MPT_GAIN(a, p, i) a##i = a##i * gain;
#define MPT_SCALE(a, p, i) a##i = a##i * s.scale;
#define MPT_OFFSET(a, p, i) a##i = a##i + s.offset;
#define MPT_RECTIFY(a, p, i) a##i = rectified(a##i, s);

/* How many rows at once, for 1, 2, 4, 8 vectors. */
#define MPT_ROWS_1(M) M(a, 0) M(b, 1) M(c, 2) M(d, 3)
#define MPT_ROWS_2(M) M(a, 0) M(b, 1) M(c, 2) M(d, 3)
#define MPT_ROWS_4(M) M(a, 0) M(b, 1)
#define MPT_ROWS_8(M) M(a, 0)
#define MPT_JOIN_4(N) \
  MPT_DO##N(MPT_BOTH, a, b) MPT_DO##N(MPT_BOTH, c, d) MPT_DO##N(MPT_BOTH, a, c)
#define MPT_JOIN_2(N) MPT_DO##N(MPT_BOTH, a, b)
#define MPT_JOIN_1(N)

/* A list: ternary, `plus` entries that count and `minus` that count
   negatively; or `plus` entries with weights. */
struct list {
  const uint16_t *entries;
  const float *weights;
  int32_t plus, minus;
};

/* What becomes of the sum of a list. First other sums are added, `others` of
   them, each `apart` floats behind the last and shifted; then `more`. */
struct ending {
  const real *sides;
  const int32_t *shifts, *masks;
  int32_t others, apart, masks_apart;
  const real *more;
  int32_t last; /* whether gain and steps follow */
  float gain;
  struct channel_steps steps;
};

#define MPT_SUMS(N, ROWS, EACH, JOIN)                                     \
  __attribute__((unused)) static inline void sums_##N(                    \
      const real *rows, struct list l, real *out, int32_t at,             \
      const struct ending *ending) {                                      \
    const uint16_t *list = l.entries;                                     \
    const float *weights = l.weights;                                     \
    const uint16_t *end = list + l.plus;                                  \
    EACH(MPT_ZEROS_##N)                                                   \
    rows += at, out += at;                                                \
    if (weights) {                                                        \
      for (; list < end; list += ROWS, weights += ROWS) {                 \
        EACH(MPT_TIMES_##N)                                               \
      }                                                                   \
    } else {                                                              \
      for (; list < end; list += ROWS) {                                  \
        EACH(MPT_PLUS_##N)                                                \
      }                                                                   \
      end += l.minus;                                                     \
      for (; list < end; list += ROWS) {                                  \
        EACH(MPT_MINUS_##N)                                               \
      }                                                                   \
    }                                                                     \
    JOIN(N)                                                               \
    if (ending) {                                                         \
      for (int32_t g = 0; g < ending->others; g++) {                      \
        const real *side =                                                \
            ending->sides + g * ending->apart + ending->shifts[g] + at;   \
        if (ending->masks) {                                              \
          const int32_t *mask =                                           \
              ending->masks + g * ending->masks_apart + at;               \
          MPT_DO##N(MPT_MASKED, a, side)                                  \
        } else {                                                          \
          MPT_DO##N(MPT_PLUS, a, side)                                    \
        }                                                                 \
      }                                                                   \
      if (ending->more) {                                                 \
        MPT_DO##N(MPT_PLUS, a, (ending->more + at))                       \
      }                                                                   \
      if (ending->last) {                                                 \
        const struct channel_steps s = ending->steps;                     \
        const float gain = ending->gain;                                  \
        MPT_DO##N(MPT_GAIN, a, )                                          \
        if (s.scales) {                                                   \
          MPT_DO##N(MPT_SCALE, a, )                                       \
        }                                                                 \
        if (s.offsets) {                                                  \
          MPT_DO##N(MPT_OFFSET, a, )                                      \
        }                                                                 \
        if (s.rectifies) {                                                \
          MPT_DO##N(MPT_RECTIFY, a, )                                     \
        }                                                                 \
      }                                                                   \
    }                                                                     \
    MPT_DO##N(MPT_STORE, a, out)                                          \
  }

#define MPT_ROW(M, N, a, r)            \
  {                                    \
    const real *row = rows + list[r];  \
    MPT_DO##N(M, a, row)               \
  }
#define MPT_ROW_TIMES(N, a, r)                             \
  {                                                        \
    const real *row = rows + list[r];                      \
    const floats weight = weights[r] - (floats){0};        \
    MPT_DO##N(MPT_TIMES, a, row)                           \
  }

#define MPT_ZEROS_1(a, r) MPT_DO1(MPT_ZERO, a, )
#define MPT_ZEROS_2(a, r) MPT_DO2(MPT_ZERO, a, )
#define MPT_ZEROS_4(a, r) MPT_DO4(MPT_ZERO, a, )
#define MPT_ZEROS_8(a, r) MPT_DO8(MPT_ZERO, a, )
#define MPT_PLUS_1(a, r) MPT_ROW(MPT_PLUS, 1, a, r)
#define MPT_PLUS_2(a, r) MPT_ROW(MPT_PLUS, 2, a, r)
#define MPT_PLUS_4(a, r) MPT_ROW(MPT_PLUS, 4, a, r)
#define MPT_PLUS_8(a, r) MPT_ROW(MPT_PLUS, 8, a, r)
#define MPT_MINUS_1(a, r) MPT_ROW(MPT_MINUS, 1, a, r)
#define MPT_MINUS_2(a, r) MPT_ROW(MPT_MINUS, 2, a, r)
#define MPT_MINUS_4(a, r) MPT_ROW(MPT_MINUS, 4, a, r)
#define MPT_MINUS_8(a, r) MPT_ROW(MPT_MINUS, 8, a, r)
#define MPT_TIMES_1(a, r) MPT_ROW_TIMES(1, a, r)
#define MPT_TIMES_2(a, r) MPT_ROW_TIMES(2, a, r)
#define MPT_TIMES_4(a, r) MPT_ROW_TIMES(4, a, r)
#define MPT_TIMES_8(a, r) MPT_ROW_TIMES(8, a, r)

MPT_SUMS(8, 1, MPT_ROWS_8, MPT_JOIN_1)
MPT_SUMS(4, 2, MPT_ROWS_4, MPT_JOIN_2)
MPT_SUMS(2, 4, MPT_ROWS_2, MPT_JOIN_4)
MPT_SUMS(1, 4, MPT_ROWS_1, MPT_JOIN_4)

#endif
