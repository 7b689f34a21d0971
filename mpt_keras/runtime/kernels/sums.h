/* Sums over lists: what the sparse kernels of floats spend their time in.

   A list names rows of floats by where they begin, and `N` vectors of each row
   are summed in registers, accumulators by name: an array of them would be
   kept in memory. Lists are filled up with rows of zeros to a multiple of 4,
   for two reasons: where `N` is small, neighbours in a list have accumulators
   of their own, so that one addition need not wait for the last; and four
   places are read at once, a step ahead, because reads of single places get in
   the way of those of the rows. Behind the last list four more places can be
   read. */
#ifndef MPT_SUMS_H
#define MPT_SUMS_H

#include "steps.h"

#define MPT_AT(p, i) (*(const floats_at *)((p) + (i) * LANES))

/* a + b * c, in one instruction where there is one: sums may round as they
   like. Newer clangs have one builtin for all widths, and not all others. */
#if defined(__FMA__) && defined(__has_builtin)
#if __has_builtin(__builtin_elementwise_fma)
#define MPT_FMA(a, b, c) __builtin_elementwise_fma((b), (c), (a))
#endif
#endif
#ifdef MPT_FMA
#elif MPT_WIDTH == 64 && defined(__AVX512F__)
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

/* Four places, and place `r` of them. */
#if UINTPTR_MAX > 0xffffffff
typedef uint64_t places_at __attribute__((may_alias, aligned(2)));
#define MPT_PLACES(list) *(const places_at *)(list)
#define MPT_PLACE(r) (uint16_t)(places >> 16 * (r))
#else
#define MPT_PLACES(list) list
#define MPT_PLACE(r) places[r]
#endif

/* Which accumulators take which of four rows, for 1, 2, 4, 8 vectors. */
#define MPT_FOUR_1(M) M(1, a, 0) M(1, b, 1) M(1, c, 2) M(1, d, 3)
#define MPT_FOUR_2(M) M(2, a, 0) M(2, b, 1) M(2, c, 2) M(2, d, 3)
#define MPT_FOUR_4(M) M(4, a, 0) M(4, b, 1) M(4, a, 2) M(4, b, 3)
#define MPT_FOUR_8(M) M(8, a, 0) M(8, a, 1) M(8, a, 2) M(8, a, 3)

#define MPT_ZERO_4(N)                                 \
  MPT_ZERO_2(N)                                       \
  MPT_DO##N(MPT_ZERO, c, ) MPT_DO##N(MPT_ZERO, d, )
#define MPT_ZERO_2(N) MPT_DO##N(MPT_ZERO, a, ) MPT_DO##N(MPT_ZERO, b, )
#define MPT_ZERO_1(N) MPT_DO##N(MPT_ZERO, a, )
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
  int32_t singly; /* not filled up; of 8 vectors only */
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

/* Adds the rows of `l` to the accumulators; `list` ends behind them. */
#define MPT_ROW(M, N, a, r)                      \
  {                                              \
    const real *const row = rows + MPT_PLACE(r); \
    MPT_DO##N(M, a, row)                         \
  }
#define MPT_PLUS_ROW(N, a, r) MPT_ROW(MPT_PLUS, N, a, r)
#define MPT_MINUS_ROW(N, a, r) MPT_ROW(MPT_MINUS, N, a, r)
#define MPT_TIMES_ROW(N, a, r)                           \
  {                                                      \
    const floats weight = weights[r] - (floats){0};      \
    MPT_ROW(MPT_TIMES, N, a, r)                          \
  }
#define MPT_FOURS(N, M, more)                              \
  for (next = MPT_PLACES(list); list < end; list += 4 more) { \
    places = next;                                         \
    next = MPT_PLACES(list + 4);                           \
    MPT_FOUR_##N(M)                                        \
  }
#define MPT_LIST(N)                                             \
  list = l.entries, end = list + l.plus;                        \
  if (l.weights) {                                              \
    const float *weights = l.weights;                           \
    MPT_FOURS(N, MPT_TIMES_ROW, MPT_COMMA weights += 4)         \
  } else {                                                      \
    MPT_FOURS(N, MPT_PLUS_ROW, )                                \
    end += l.minus;                                             \
    MPT_FOURS(N, MPT_MINUS_ROW, )                               \
  }
#define MPT_COMMA ,

/* The same one by one. */
#define MPT_ONES(M)                              \
  for (; list < end; list++) {                   \
    const real *const row = rows + *list;        \
    MPT_DO8(M, a, row)                           \
  }
#define MPT_ONE_BY_ONE                                              \
  list = l.entries, end = list + l.plus;                            \
  if (l.weights) {                                                  \
    const float *weights = l.weights;                               \
    for (; list < end; list++, weights++) {                         \
      const real *const row = rows + *list;                         \
      const floats weight = *weights - (floats){0};                 \
      MPT_DO8(MPT_TIMES, a, row)                                    \
    }                                                               \
  } else {                                                          \
    MPT_ONES(MPT_PLUS)                                              \
    end += l.minus;                                                 \
    MPT_ONES(MPT_MINUS)                                             \
  }

/* All rows of a list, with the accumulators' names declared. */
#define MPT_SUM_1 MPT_ZERO_4(1) MPT_LIST(1) MPT_JOIN_4(1)
#define MPT_SUM_2 MPT_ZERO_4(2) MPT_LIST(2) MPT_JOIN_4(2)
#define MPT_SUM_4 MPT_ZERO_2(4) MPT_LIST(4) MPT_JOIN_2(4)
#define MPT_SUM_8         \
  MPT_ZERO_1(8)           \
  if (l.singly) {         \
    MPT_ONE_BY_ONE        \
  } else {                \
    MPT_LIST(8)           \
  }
#if UINTPTR_MAX > 0xffffffff
#define MPT_LIST_NAMES               \
  const uint16_t *list, *end;        \
  uint64_t places, next;
#else
#define MPT_LIST_NAMES const uint16_t *list, *end, *places, *next;
#endif

#define MPT_ENDING(N)                                   \
  if (ending->more) {                                   \
    MPT_DO##N(MPT_PLUS, a, (ending->more + at))         \
  }                                                     \
  if (ending->last) {                                   \
    const struct channel_steps s = ending->steps;       \
    const float gain = ending->gain;                    \
    MPT_DO##N(MPT_GAIN, a, )                            \
    if (s.scales) {                                     \
      MPT_DO##N(MPT_SCALE, a, )                         \
    }                                                   \
    if (s.offsets) {                                    \
      MPT_DO##N(MPT_OFFSET, a, )                        \
    }                                                   \
    if (s.rectifies) {                                  \
      MPT_DO##N(MPT_RECTIFY, a, )                       \
    }                                                   \
  }

/* The sum of a list, for the vectors from the float `at` on; with an ending
   or without one. */
#define MPT_SUMS(N)                                                           \
  __attribute__((unused)) static inline void sums_##N(                        \
      const real *rows, struct list l, real *out, int32_t at,                 \
      const struct ending *ending) {                                          \
    MPT_LIST_NAMES                                                            \
    rows += at, out += at;                                                    \
    MPT_SUM_##N                                                               \
    if (ending) {                                                             \
      for (int32_t g = 0; g < ending->others; g++) {                          \
        const real *side =                                                    \
            ending->sides + g * ending->apart + ending->shifts[g] + at;       \
        const int32_t *mask = ending->masks + g * ending->masks_apart + at;   \
        MPT_DO##N(MPT_MASKED, a, side)                                        \
      }                                                                       \
      MPT_ENDING(N)                                                           \
    }                                                                         \
    MPT_DO##N(MPT_STORE, a, out)                                              \
  }

/* The lists of all groups, one after another in a stream, with their counts
   before them: where the next begins. */
#define MPT_NEXT_LIST(l)                   \
  l.plus = *l.entries++;                   \
  if (!l.weights) l.minus = *l.entries++;
#define MPT_BEHIND_LIST(l)          \
  l.entries += l.plus + l.minus;    \
  if (l.weights) l.weights += l.plus;

#if MPT_WIDTH == 64

/* The same of all groups in registers: where N vectors are the whole tile and
   shifts are less than a vector, two neighbours are shuffled. */
#ifdef __clang__
#define MPT_PAIR(a, b) \
  ((floats)__builtin_ia32_vpermi2varps512((a), lanes, (b)))
#else
#define MPT_PAIR(a, b) __builtin_shuffle((a), (b), lanes)
#endif
#define MPT_SHIFTED(i, a, b) \
  t##i += (floats)((ints)MPT_PAIR(a, b) & ((const ints *)mask)[i]);
#define MPT_UP_1 MPT_SHIFTED(0, a0, zero)
#define MPT_UP_2 MPT_SHIFTED(0, a0, a1) MPT_SHIFTED(1, a1, zero)
#define MPT_UP_4                                                \
  MPT_SHIFTED(0, a0, a1) MPT_SHIFTED(1, a1, a2)                 \
  MPT_SHIFTED(2, a2, a3) MPT_SHIFTED(3, a3, zero)
#define MPT_UP_8                                                \
  MPT_SHIFTED(0, a0, a1) MPT_SHIFTED(1, a1, a2)                 \
  MPT_SHIFTED(2, a2, a3) MPT_SHIFTED(3, a3, a4)                 \
  MPT_SHIFTED(4, a4, a5) MPT_SHIFTED(5, a5, a6)                 \
  MPT_SHIFTED(6, a6, a7) MPT_SHIFTED(7, a7, zero)
#define MPT_DOWN_1 MPT_SHIFTED(0, zero, a0)
#define MPT_DOWN_2 MPT_DOWN_1 MPT_SHIFTED(1, a0, a1)
#define MPT_DOWN_4 MPT_DOWN_2 MPT_SHIFTED(2, a1, a2) MPT_SHIFTED(3, a2, a3)
#define MPT_DOWN_8                                              \
  MPT_DOWN_4 MPT_SHIFTED(4, a3, a4) MPT_SHIFTED(5, a4, a5)      \
  MPT_SHIFTED(6, a5, a6) MPT_SHIFTED(7, a6, a7)

#define MPT_SHUFFLED_SUMS(N)                                                  \
  __attribute__((unused)) static inline void shuffled_##N(                    \
      const real *rows, struct list *stream, real *out,                       \
      const struct ending *ending) {                                          \
    MPT_LIST_NAMES                                                            \
    struct list l = *stream;                                                  \
    const int32_t at = 0;                                                     \
    const floats zero = {0};                                                  \
    MPT_DO##N(MPT_ZERO, t, )                                                  \
    for (int32_t g = ending->others - 1; g >= 0; g--) {                       \
      MPT_NEXT_LIST(l)                                                        \
      MPT_SUM_##N                                                             \
      const int32_t shift = ending->shifts[g];                                \
      const int32_t *mask = ending->masks + g * ending->masks_apart;          \
      const ints lanes = (ints){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, \
                                14, 15} + (shift & 15);                       \
      if (shift > 0) {                                                        \
        MPT_UP_##N                                                            \
      } else {                                                                \
        MPT_DOWN_##N                                                          \
      }                                                                       \
      MPT_BEHIND_LIST(l)                                                      \
    }                                                                         \
    MPT_NEXT_LIST(l)                                                          \
    MPT_SUM_##N                                                               \
    MPT_BEHIND_LIST(l)                                                        \
    MPT_DO##N(MPT_BOTH, a, t)                                                 \
    MPT_ENDING(N)                                                             \
    MPT_DO##N(MPT_STORE, a, out)                                              \
    *stream = l;                                                              \
  }
#else
#define MPT_SHUFFLED_SUMS(N)
#endif

MPT_SUMS(8)
MPT_SUMS(4)
MPT_SUMS(2)
MPT_SUMS(1)
MPT_SHUFFLED_SUMS(8)
MPT_SHUFFLED_SUMS(4)
MPT_SHUFFLED_SUMS(2)
MPT_SHUFFLED_SUMS(1)

#endif
