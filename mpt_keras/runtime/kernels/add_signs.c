/* A convolution of planes of bits with ternary weights: sums of planes. */
#include "adder.h"
#include "steps.h"
#include "taps.h"

struct add_signs {
  int32_t input, output;
  int32_t planes; /* scratch: (taps * channels + 1) of a block */
  int32_t choices; /* scratch: `8 * groups` of a block */
  int32_t channels, filters, images;
  int32_t in_rows, in_columns, in_row_bits, in_plane_bytes;
  int32_t rows, columns, row_bits, plane_bytes;
  int32_t tap_rows, tap_columns;
  int32_t vertical_stride, horizontal_stride;
  int32_t vertical_dilation, horizontal_dilation;
  int32_t before_rows, before_columns;
  const int32_t *shifts;
  const uint64_t *inside;
  /* For each filter its number, how many eights of planes have weights -1 and
     +1, and these planes. */
  const uint16_t *weights;
  int32_t digits;
  /* Pixels of a class see the same taps; three classes are a group. For each
     filter, digit and group the classes in which a number has that digit. */
  const uint8_t *classes;
  const uint8_t *numbers;
  int32_t groups;
  int32_t is_threshold; /* else the output are floats */
  float gain;
  MPT_STEPS
};

/* Groups that a block has pixels of: from, to. */
struct groups {
  int32_t begin, end;
};

/* For each group and each subset of its classes the pixels in them. */
static struct groups fill_choices(const struct add_signs *k, char *choices,
                                  int32_t begin, int32_t size) {
  struct groups present = {k->groups, 0};
  word *all = (word *)choices;
  int32_t count = size / 8, step = k->images > 1 ? 64 : 1;
  for (int32_t i = 0; i < 8 * k->groups * count; i++) all[i] = 0;
  int32_t row = 8 * begin / k->row_bits, bit = 8 * begin % k->row_bits;
  for (int32_t i = 0; i < 8 * size && row < k->rows; i += step) {
    int32_t column = step == 64 ? bit / k->images : bit;
    if (column < k->columns) {
      uint32_t c = k->classes[row * k->columns + column];
      int32_t group = (int32_t)(c / 3);
      if (group < present.begin) present.begin = group;
      if (group >= present.end) present.end = group + 1;
      uint64_t pixels = step == 64 ? ~(uint64_t)0 : (uint64_t)1 << i % 64;
      all[(8 * (c / 3) + (1u << c % 3)) * (uint32_t)count + i / 64] |= pixels;
    }
    bit += step;
    if (bit == k->row_bits) bit = 0, row++;
  }
  for (int32_t g = 0; g < k->groups; g++)
    for (int32_t subset = 3; subset < 8; subset++)
      for (int32_t i = 0; i < count && subset != 4; i++)
        all[(8 * g + subset) * count + i] =
            all[(8 * g + (subset & (subset - 1))) * count + i] |
            all[(8 * g + (subset & -subset)) * count + i];
  return present;
}

/* `LANES` entries of the output, from their integers. */
static inline floats floats_of(ints value, float offset, float gain,
                               struct channel_steps s) {
  floats v = __builtin_convertvector(value, floats) - offset;
  v *= gain;
  return steps(v, s);
}

#if MPT_WIDTH == 64 && MPT_HAS(__builtin_ia32_cvtmask2b512)
typedef uint8_t bytes_64 __attribute__((vector_size(64)));
typedef char bytes_16 __attribute__((vector_size(16), may_alias));
typedef uint8_t numbers_16 __attribute__((vector_size(16)));

/* `digits` at most 8, from the last to the first. */
static inline bytes_64 bytes_of(const uint64_t *digit, int32_t digits,
                                int32_t stride) {
  bytes_64 sum = {0};
  for (int32_t i = digits - 1; i >= 0; i--)
    sum += sum - (bytes_64)__builtin_ia32_cvtmask2b512(digit[i * stride]);
  return sum;
}

/* GCC makes single bytes of a conversion from memory. */
static inline ints integers_of(const char *from) {
  bytes_16 v = *(const bytes_16 *)from;
#if MPT_HAS(__builtin_ia32_pmovzxbd512_mask)
  return (ints)__builtin_ia32_pmovzxbd512_mask(v, (ints){0}, -1);
#else
  return __builtin_convertvector((numbers_16)v, ints);
#endif
}
#endif

/* 64 entries of the output, from a word of each digit, `stride` words apart. */
static inline void put_64(const uint64_t *digit, int32_t digits,
                          int32_t stride, float offset, float gain,
                          struct channel_steps s, real *to) {
#if MPT_WIDTH == 64 && MPT_HAS(__builtin_ia32_cvtmask2b512)
  int32_t low = digits < 8 ? digits : 8;
  bytes_64 both[2] = {bytes_of(digit, low, stride),
                      bytes_of(digit + 8 * stride, digits - 8, stride)};
  for (int32_t i = 0; i < 64; i += 16) {
    ints value = integers_of((const char *)both + i) |
                 integers_of((const char *)both + 64 + i) << 8;
    *(floats_at *)(to + i) = floats_of(value, offset, gain, s);
  }
#else
  ints lane;
  for (int32_t i = 0; i < LANES; i++) lane[i] = 1 << i;
  for (int32_t x = 0; x < 64; x += LANES) {
    ints value = {0};
    for (int32_t i = digits - 1; i >= 0; i--) {
      ints bits = (int32_t)(digit[i * stride] >> x) - (ints){0};
      value += value - ((bits & lane) == lane);
    }
    *(floats_at *)(to + x) = floats_of(value, offset, gain, s);
  }
#endif
}

/* Floats of the pixels of a block: `size / 8` words of each digit. */
static void put_floats(const struct add_signs *k, char *arena, int32_t filter,
                       const uint64_t *digit, int32_t begin, int32_t size) {
  struct channel_steps s = STEPS_OF(k, filter);
  int32_t row_entries = k->columns * k->images;
  real *to = (real *)(arena + k->output) + filter * k->rows * row_entries;
  float offset = (float)((int32_t)1 << k->digits), gain = k->gain;
  int32_t row = 8 * begin / k->row_bits, column = 8 * begin % k->row_bits;
  int32_t is_whole = row_entries == k->row_bits;
  int32_t digits = k->digits + 1;
  for (int32_t i = 0; i < size / 8 && row < k->rows; i++) {
    real *at = to + row * row_entries + column;
    int32_t left = (k->rows - row) * k->row_bits - column;
    if (is_whole && left >= 64) {
      put_64(digit + i, digits, size / 8, offset, gain, s, at);
      column += 64;
      while (column >= k->row_bits) column -= k->row_bits, row++;
      continue;
    }
    real value[64];
    put_64(digit + i, digits, size / 8, offset, gain, s, value);
    for (int32_t x = 0; x < 64 && row < k->rows; x++) {
      if (column < row_entries) to[row * row_entries + column] = value[x];
      if (++column == k->row_bits) column = 0, row++;
    }
  }
}

/* All filters, for the pixels of a block. */
#define MPT_ADD_FILTERS(NAME, N)                                              \
  MPT_SUM(sum_##NAME, N)                                                      \
  static void filters_##NAME(const struct add_signs *k, char *arena,          \
                             int32_t begin, struct groups present) {          \
    const char *planes = arena + k->planes;                                   \
    const char *choices = arena + k->choices;                                 \
    const uint16_t *weights = k->weights;                                     \
    const uint8_t *number = k->numbers;                                       \
    int32_t left = k->plane_bytes - begin;                                    \
    for (int32_t i = 0; i < k->filters; i++) {                                \
      words_##N digit[MPT_DIGITS + 1];                                        \
      int32_t digits = k->digits, f = weights[0];                             \
      int32_t minus = weights[1], plus = weights[2];                          \
      weights += 3;                                                           \
      sum_##NAME(planes, weights, minus, plus, digit, digits);                \
      weights += 8 * (minus + plus);                                          \
      words_##N none = digit[0] ^ digit[0], before = none;                    \
      /* `y >= t` is the last carry of `y + ~t + 1`. */                       \
      words_##N carry = k->is_threshold ? ~none : none;                       \
      for (int32_t i = 0; i < digits + !k->is_threshold; i++) {               \
        words_##N chosen = none;                                              \
        for (int32_t g = present.begin; g < present.end; g++)                 \
          chosen |= *(const words_##N##_at *)(choices +                       \
                                              (8 * g + number[g]) * N);       \
        number += k->groups;                                                  \
        if (k->is_threshold) {                                                \
          carry = majority_##N(digit[i], chosen, carry);                      \
        } else {                                                              \
          words_##N next = digit[i];                                          \
          carry = add_##N(&digit[i], before, chosen, carry);                  \
          before = next;                                                      \
        }                                                                     \
      }                                                                       \
      if (!k->is_threshold) {                                                 \
        put_floats(k, arena, f, (const uint64_t *)(const void *)digit, begin, \
                   N);                                                        \
        continue;                                                             \
      }                                                                       \
      char *to = arena + k->output + f * k->plane_bytes + begin;              \
      if (left >= N)                                                          \
        *(words_##N##_at *)to = carry;                                        \
      else                                                                    \
        for (int32_t i = 0; i < left; i += 8)                                 \
          *(word *)(to + i) = ((const word *)(const void *)&carry)[i / 8];    \
    }                                                                         \
  }

#if MPT_WIDTH >= 64
MPT_ADD_FILTERS(of_64, 64)
#endif
#if MPT_WIDTH >= 32
MPT_ADD_FILTERS(of_32, 32)
#endif
#if MPT_WIDTH >= 16
MPT_ADD_FILTERS(of_16, 16)
#endif
MPT_ADD_FILTERS(of_8, 8)

MPT_KERNEL void add_signs(const struct add_signs *k, char *arena) {
  struct taps taps = {arena + k->input,
                      arena + k->planes,
                      k->channels,
                      k->images,
                      k->in_rows,
                      k->in_columns,
                      k->in_row_bits,
                      k->in_plane_bytes,
                      k->rows,
                      k->columns,
                      k->row_bits,
                      k->plane_bytes,
                      k->tap_rows,
                      k->tap_columns,
                      k->vertical_stride,
                      k->horizontal_stride,
                      k->vertical_dilation,
                      k->horizontal_dilation,
                      k->before_rows,
                      k->before_columns,
                      k->shifts,
                      k->inside};
  int32_t size = 8;
  while (size < k->plane_bytes && size < MPT_WIDTH) size *= 2;
  for (int32_t begin = 0; begin < k->plane_bytes; begin += size) {
    gather_taps(&taps, begin, size);
    struct groups present = fill_choices(k, arena + k->choices, begin, size);
    switch (size) {
#if MPT_WIDTH >= 64
      case 64:
        filters_of_64(k, arena, begin, present);
        break;
#endif
#if MPT_WIDTH >= 32
      case 32:
        filters_of_32(k, arena, begin, present);
        break;
#endif
#if MPT_WIDTH >= 16
      case 16:
        filters_of_16(k, arena, begin, present);
        break;
#endif
      default:
        filters_of_8(k, arena, begin, present);
    }
  }
}
