/* Every second entry of two vectors. */
#ifndef MPT_SHUFFLES_H
#define MPT_SHUFFLES_H

#include "vectors.h"

#if MPT_WIDTH == 64
#define MPT_SECOND(o)                                                        \
  o, o + 2, o + 4, o + 6, o + 8, o + 10, o + 12, o + 14, o + 16, o + 18,     \
      o + 20, o + 22, o + 24, o + 26, o + 28, o + 30
#elif MPT_WIDTH == 32
#define MPT_SECOND(o) o, o + 2, o + 4, o + 6, o + 8, o + 10, o + 12, o + 14
#elif MPT_WIDTH == 16
#define MPT_SECOND(o) o, o + 2, o + 4, o + 6
#elif MPT_WIDTH == 8
#define MPT_SECOND(o) o, o + 2
#else
#define MPT_SECOND(o) o
#endif

/* Four floats, for rows shorter than a vector; any address of a float. */
typedef float four __attribute__((vector_size(16)));
typedef int32_t four_ints __attribute__((vector_size(16)));
typedef float four_at
    __attribute__((vector_size(16), may_alias, aligned(4)));

#ifdef __clang__
#define MPT_FOUR_EVENS(a, b) __builtin_shufflevector((a), (b), 0, 2, 4, 6)
#define MPT_FOUR_ODDS(a, b) __builtin_shufflevector((a), (b), 1, 3, 5, 7)
#define MPT_EVENS(a, b) __builtin_shufflevector((a), (b), MPT_SECOND(0))
#define MPT_ODDS(a, b) __builtin_shufflevector((a), (b), MPT_SECOND(1))
#else
#define MPT_FOUR_EVENS(a, b) __builtin_shuffle((a), (b), (four_ints){0, 2, 4, 6})
#define MPT_FOUR_ODDS(a, b) __builtin_shuffle((a), (b), (four_ints){1, 3, 5, 7})
#define MPT_EVENS(a, b) __builtin_shuffle((a), (b), (ints){MPT_SECOND(0)})
#define MPT_ODDS(a, b) __builtin_shuffle((a), (b), (ints){MPT_SECOND(1)})
#endif

#endif
