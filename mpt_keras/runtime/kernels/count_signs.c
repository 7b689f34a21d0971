/* A convolution of signs, 64 channels a word, with ternary weights: signs that
   differ are counted, where a weight is kept. Lanes are pixels. */
#include "bits.h"
#include "steps.h"

struct count_signs {
  int32_t input, output;
  int32_t seen; /* scratch: what the taps see of 64 pixels */
  int32_t channels, filters, images;
  int32_t in_rows, in_columns;
  int32_t rows, columns, plane_bytes;
  int32_t tap_rows, tap_columns;
  int32_t vertical_stride, horizontal_stride;
  int32_t vertical_dilation, horizontal_dilation;
  int32_t before_rows, before_columns;
  int32_t groups;
  /* For each filter, word of its channels and tap: signs, and the kept. */
  const uint64_t *weights;
  /* Pixels of a class see the same taps. For each filter and class the most
     that may differ; or for floats, the result if nothing differs. */
  const uint8_t *classes;
  const int32_t *numbers;
  int32_t class_count;
  int32_t is_threshold; /* else the output are floats */
  float gain;
  MPT_STEPS
};

typedef char bytes __attribute__((vector_size(MPT_WIDTH < 8 ? 8 : MPT_WIDTH)));

/* How many bits are set in each word. */
static inline words bit_counts(words v) {
#if MPT_WIDTH == 64 && defined(__AVX512VPOPCNTDQ__) && \
    MPT_HAS(__builtin_ia32_vpopcountq_v8di)
  return (words)__builtin_ia32_vpopcountq_v8di((quads)v);
#elif MPT_WIDTH == 64 && defined(__AVX512VPOPCNTDQ__) && \
    MPT_HAS(__builtin_ia32_vpopcntq_512)
  return (words)__builtin_ia32_vpopcntq_512((quads)v);
#elif MPT_WIDTH == 64 && defined(__AVX512VPOPCNTDQ__) && \
    MPT_HAS(__builtin_elementwise_popcount)
  return __builtin_elementwise_popcount(v);
#elif MPT_WIDTH == 32 && MPT_HAS(__builtin_ia32_pshufb256) && \
    MPT_HAS(__builtin_ia32_psadbw256)
  const bytes of = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
                    0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4};
  bytes low = __builtin_ia32_pshufb256(of, (bytes)(v & 0x0f0f0f0f0f0f0f0f));
  bytes high =
      __builtin_ia32_pshufb256(of, (bytes)(v >> 4 & 0x0f0f0f0f0f0f0f0f));
  return (words)__builtin_ia32_psadbw256(low + high, (bytes){0});
#else
  v -= v >> 1 & 0x5555555555555555;
  v = (v & 0x3333333333333333) + (v >> 2 & 0x3333333333333333);
  v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0f;
  v += v >> 8;
  v += v >> 16;
  v += v >> 32;
  return v & 0xff;
#endif
}

/* What differs, of `F` filters at `V` vectors of pixels: `counts[F][V]`. */
#define MPT_COUNT(NAME, V, F)                                            \
  static void NAME(const word *seen, const uint64_t *const *weights,     \
                   int32_t length, words *counts) {                      \
    words total[V * F] = {{0}};                                          \
    for (int32_t i = 0; i < length; i++, seen += 64)                     \
      _Pragma("GCC unroll 8") for (int32_t f = 0; f < F; f++) {          \
        words sign = weights[f][2 * i] - (words){0};                     \
        words kept = weights[f][2 * i + 1] - (words){0};                 \
        _Pragma("GCC unroll 8") for (int32_t v = 0; v < V; v++)          \
            total[f * V + v] += bit_counts(                              \
                (((const words *)seen)[v] ^ sign) & kept);               \
      }                                                                  \
    _Pragma("GCC unroll 8") for (int32_t i = 0; i < V * F; i++)          \
        counts[i] = total[i];                                            \
  }
MPT_COUNT(count_8, 8, 1)
MPT_COUNT(count_4, 4, 2)
MPT_COUNT(count_2, 2, 4)
MPT_COUNT(count_1, 1, 8)

/* What each tap sees of `count` pixels, word by word; zeros outside and behind
   them. */
static void see_pixels(const struct count_signs *k, const char *arena,
                   int32_t begin, int32_t count, word *seen) {
  int32_t taps = k->tap_rows * k->tap_columns;
  int32_t length = (k->channels + 63) / 64;
  for (int32_t tap = 0; tap < taps; tap++) {
    int32_t image = begin % k->images;
    int32_t column = begin / k->images % k->columns;
    int32_t row = begin / k->images / k->columns;
    for (int32_t p = 0; p < 64; p++) {
      int32_t y = row * k->vertical_stride - k->before_rows +
                  tap / k->tap_columns * k->vertical_dilation;
      int32_t x = column * k->horizontal_stride - k->before_columns +
                  tap % k->tap_columns * k->horizontal_dilation;
      word *to = seen + 64 * tap + p;
      if (p < count && y >= 0 && y < k->in_rows && x >= 0 &&
          x < k->in_columns) {
        const word *from =
            (const word *)(arena + k->input) +
            ((y * k->in_columns + x) * k->images + image) * length;
        for (int32_t w = 0; w < length; w++) to[64 * taps * w] = from[w];
      } else {
        for (int32_t w = 0; w < length; w++) to[64 * taps * w] = 0;
      }
      if (++image == k->images) {
        image = 0;
        if (++column == k->columns) column = 0, row++;
      }
    }
  }
}

/* Bit `i` of 64: whether entry `i` of the counts is at most the limit. */
static inline uint64_t at_most(const words *counts, const int64_t *limits,
                               int32_t vectors) {
  uint64_t bits = 0;
  for (int32_t v = 0; v < vectors; v++) {
    quads limit = *(const quads *)(limits + v * MPT_WORDS);
#if MPT_WIDTH == 64 && MPT_HAS(__builtin_ia32_cmpq512_mask)
    bits |= (uint64_t)(uint8_t)__builtin_ia32_cmpq512_mask(
                (quads)counts[v], limit, 2, -1)
            << v * MPT_WORDS;
#else
    quads count = (quads)counts[v];
    for (int32_t i = 0; i < MPT_WORDS; i++)
      bits |= (uint64_t)(count[i] <= limit[i]) << (v * MPT_WORDS + i);
#endif
  }
  return bits;
}

static void put_counts(const struct count_signs *k, char *arena,
                       const words *counts, const uint8_t *classes,
                       int32_t filter, int32_t begin, int32_t vectors,
                       int32_t left) {
  const int32_t *numbers = k->numbers + filter * k->class_count;
  if (k->is_threshold) {
    union {
      words aligned[8];
      int64_t limits[8 * MPT_WORDS];
    } to;
    for (int32_t p = 0; p < vectors * MPT_WORDS; p++)
      to.limits[p] = numbers[classes[p]];
    uint64_t bits = at_most(counts, to.limits, vectors) << begin % 64;
    word *word_of =
        (word *)(arena + k->output + filter * k->plane_bytes) + begin / 64;
    *word_of = begin % 64 ? *word_of | bits : bits;
    return;
  }
  struct channel_steps s = STEPS_OF(k, filter);
  int32_t pixels = k->rows * k->columns * k->images;
  real *to = (real *)(arena + k->output) + filter * pixels + begin;
  const word *count = (const word *)counts;
  int32_t p = 0, end = vectors * MPT_WORDS;
  if (end > left) end = left;
  for (; p + LANES <= end; p += LANES) {
    ints n = {0};
    for (int32_t i = 0; i < LANES; i++)
      n[i] = numbers[classes[p + i]] - 2 * (int32_t)count[p + i];
    floats v = __builtin_convertvector(n, floats);
    v *= k->gain;
    *(floats_at *)(to + p) = steps(v, s);
  }
  for (; p < end; p++) {
    float v = (float)(numbers[classes[p]] - 2 * (int32_t)count[p]);
    v *= k->gain;
    to[p] = step(v, s);
  }
}

MPT_KERNEL void count_signs(const struct count_signs *k, char *arena) {
  int32_t pixels = k->rows * k->columns * k->images;
  int32_t of_group = (k->channels + 63) / 64 / k->groups;
  int32_t length = of_group * k->tap_rows * k->tap_columns;
  word *seen = (word *)(arena + k->seen);
  for (int32_t begin = 0; begin < pixels; begin += 64) {
    int32_t count = pixels - begin < 64 ? pixels - begin : 64;
    uint8_t classes[64];
    for (int32_t p = 0; p < 64; p++)
      classes[p] = p < count ? k->classes[(begin + p) / k->images] : 0;
    see_pixels(k, arena, begin, count, seen);
    int32_t vectors;
    for (int32_t p = 0; p < count; p += vectors * MPT_WORDS) {
      vectors = (count - p + MPT_WORDS - 1) / MPT_WORDS;
      vectors = vectors >= 8 ? 8 : vectors >= 4 ? 4 : vectors >= 2 ? 2 : 1;
      int32_t together = 8 / vectors, of_filters = k->filters / k->groups;
      for (int32_t g = 0; g < k->groups; g++) {
        int32_t end = (g + 1) * of_filters;
        const word *from = seen + 64 * length * g + p;
        for (int32_t f = g * of_filters; f < end; f += together) {
          const uint64_t *weights[8];
          words counts[8];
          for (int32_t i = 0; i < together; i++)
            weights[i] =
                k->weights + 2 * length * (f + i < end ? f + i : end - 1);
          if (vectors == 8)
            count_8(from, weights, length, counts);
          else if (vectors == 4)
            count_4(from, weights, length, counts);
          else if (vectors == 2)
            count_2(from, weights, length, counts);
          else
            count_1(from, weights, length, counts);
          for (int32_t i = 0; i < together && f + i < end; i++)
            put_counts(k, arena, counts + vectors * i, classes + p, f + i,
                       begin + p, vectors, count - p);
        }
      }
    }
  }
}
