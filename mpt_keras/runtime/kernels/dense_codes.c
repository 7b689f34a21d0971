/* A dense layer of weights -1, 0, +1, two bits each: 3, 0, 1. A word has those
   of 16 inputs for one filter. */
#include "dense.h"

struct dense_codes {
  int32_t input, output, sums; /* `width` floats of sums */
  int32_t units, filters, width; /* filters, up to a multiple of 16 */
  const uint32_t *codes; /* [16 inputs][filter] */
  float gain;
  MPT_STEPS
};

#if MPT_WIDTH >= 32

/* A shuffle looks weights up: of each input the table 0, x, -, -x; with 16
   lanes, of each two inputs the sums of theirs. It takes as many digits of the
   code as it needs and leaves the higher ones. */
#ifdef __clang__
#if MPT_WIDTH == 64
#define MPT_LOOK_UP(t, i) ((floats)__builtin_ia32_permvarsf512((t), (i)))
#else
#define MPT_LOOK_UP(t, i) ((floats)__builtin_ia32_permvarsf256((t), (i)))
#endif
#else
#define MPT_LOOK_UP(t, i) __builtin_shuffle((t), (i))
#endif

enum { INPUTS_OF_TABLE = LANES / 8, CODE_BITS = LANES / 4 };

/* Lanes l with (l >> shift) % 4 == code: x. */
static inline ints table_lanes(int32_t shift, int32_t code) {
  ints lanes = {0};
  for (int32_t l = 0; l < LANES; l++)
    lanes[l] = (l >> shift) % 4 == code ? -1 : 0;
  return lanes;
}

static inline floats table_of(const float *x) {
  const ints one = table_lanes(0, 1), less = table_lanes(0, 3);
  floats v = x[0] - (floats){0}, t = (floats)((ints)v & one);
  t = (floats)((ints)t | ((ints)-v & less));
#if MPT_WIDTH == 64
  const ints other = table_lanes(2, 1), less_other = table_lanes(2, 3);
  v = x[1] - (floats){0};
  t = t + (floats)(((ints)v & other) | ((ints)-v & less_other));
#endif
  return t;
}

#define MPT_TABLE(j) floats t##j = table_of(x + j * INPUTS_OF_TABLE);
#define MPT_ADD_TABLE(j) v##j = MPT_LOOK_UP(t##j, w >> (j * CODE_BITS));
#define MPT_EIGHT(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)

/* Adds 16 inputs to all sums. */
static inline void add_inputs(const float *x, const uint32_t *codes,
                              int32_t width, real *sums) {
  for (int32_t half = 0; half < 2 / INPUTS_OF_TABLE; half++, x += 8) {
    MPT_EIGHT(MPT_TABLE)
    for (int32_t i = 0; i < width; i += LANES) {
      ints w = *(const ints *)(codes + i) >> (16 * half);
      floats v0, v1, v2, v3, v4, v5, v6, v7;
      MPT_EIGHT(MPT_ADD_TABLE)
      v0 = (v0 + v1) + (v2 + v3);
      v4 = (v4 + v5) + (v6 + v7);
      *(floats_at *)(sums + i) += v0 + v4;
    }
  }
}

#elif MPT_WIDTH == 16

static inline void add_inputs(const float *x, const uint32_t *codes,
                              int32_t width, real *sums) {
  for (int32_t i = 0; i < width; i += LANES) {
    ints w = *(const ints *)(codes + i);
    floats v = *(floats_at *)(sums + i);
    for (int32_t j = 0; j < 16; j++)
      v += __builtin_convertvector((w << (30 - 2 * j)) >> 30, floats) * x[j];
    *(floats_at *)(sums + i) = v;
  }
}

#else

static inline void add_inputs(const float *x, const uint32_t *codes,
                              int32_t width, real *sums) {
  for (int32_t i = 0; i < width; i++)
    for (uint32_t w = codes[i], j; w; w &= ~((uint32_t)3 << j)) {
      j = (uint32_t)__builtin_ctz(w);
      sums[i] += (w >> j & 2) ? -x[j / 2] : x[j / 2];
    }
}

#endif

MPT_KERNEL void dense_codes(const struct dense_codes *k, char *arena) {
  const real *input = (const real *)(arena + k->input);
  real *sums = (real *)(arena + k->sums);
  real *output = (real *)(arena + k->output);
  for (int32_t f = 0; f < k->width; f++) sums[f] = 0;
  const uint32_t *codes = k->codes;
  for (int32_t begin = 0; begin < k->units; begin += 16) {
    float x[16];
    int32_t any = 0;
    for (int32_t i = 0; i < 16; i++) {
      x[i] = begin + i < k->units ? input[begin + i] : 0;
      any |= x[i] != 0;
    }
    if (any) add_inputs(x, codes, k->width, sums);
    codes += k->width;
  }
  MPT_FINISH_DENSE(k, sums, output)
}
