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
  /* For each filter how many eights of planes have weights -1 and +1, and
     their numbers. */
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

/* For each group and each subset of its classes the pixels in them. */
static void fill_choices(const struct add_signs *k, char *choices,
                         int32_t begin, int32_t size) {
  word *all = (word *)choices;
  int32_t count = size / 8, step = k->images > 1 ? 64 : 1;
  for (int32_t i = 0; i < 8 * k->groups * count; i++) all[i] = 0;
  for (int32_t i = 0; i < 8 * size; i += step) {
    int32_t bit = 8 * begin + i;
    int32_t row = bit / k->row_bits, column = bit % k->row_bits / k->images;
    if (row >= k->rows) break;
    if (column >= k->columns) continue;
    int32_t c = k->classes[row * k->columns + column];
    uint64_t pixels = step == 64 ? ~(uint64_t)0 : (uint64_t)1 << i % 64;
    all[(8 * (c / 3) + (1 << c % 3)) * count + i / 64] |= pixels;
  }
  for (int32_t g = 0; g < k->groups; g++)
    for (int32_t subset = 3; subset < 8; subset++)
      for (int32_t i = 0; i < count && subset != 4; i++)
        all[(8 * g + subset) * count + i] =
            all[(8 * g + (subset & (subset - 1))) * count + i] |
            all[(8 * g + (subset & -subset)) * count + i];
}

/* 64 integers from a word of each digit, `stride` words apart. */
static void integers_of(const uint64_t *digit, int32_t digits, int32_t stride,
                        float offset, real *to) {
#if MPT_WIDTH == 64 && MPT_HAS(__builtin_ia32_cvtmask2b512)
  typedef char bytes __attribute__((vector_size(64)));
  typedef uint8_t sixteen __attribute__((vector_size(16)));
  union {
    bytes all;
    sixteen part[4];
  } low = {{0}}, high = {{0}};
  for (int32_t i = digits - 1; i >= 0; i--) {
    bytes bit = (bytes)__builtin_ia32_cvtmask2b512(digit[i * stride]);
    if (i < 8)
      low.all = low.all + low.all - bit;
    else
      high.all = high.all + high.all - bit;
  }
  for (int32_t i = 0; i < 4; i++) {
    ints value = __builtin_convertvector(low.part[i], ints);
    if (digits > 8)
      value += __builtin_convertvector(high.part[i], ints) << 8;
    *(floats_at *)(to + 16 * i) =
        __builtin_convertvector(value, floats) - offset;
  }
#elif MPT_WIDTH >= 16
  ints lane;
  for (int32_t i = 0; i < LANES; i++) lane[i] = 1 << i;
  for (int32_t x = 0; x < 64; x += LANES) {
    ints value = {0};
    for (int32_t i = digits - 1; i >= 0; i--) {
      ints bits = (int32_t)(digit[i * stride] >> x) - (ints){0};
      value = value + value - ((bits & lane) == lane);
    }
    *(floats_at *)(to + x) = __builtin_convertvector(value, floats) - offset;
  }
#else
  for (int32_t x = 0; x < 64; x++) {
    int32_t value = 0;
    for (int32_t i = digits - 1; i >= 0; i--)
      value = 2 * value + (int32_t)(digit[i * stride] >> x & 1);
    to[x] = (float)value - offset;
  }
#endif
}

/* Floats of the pixels of a block: `size / 8` words of each digit. */
static void put_floats(const struct add_signs *k, char *arena, int32_t filter,
                       const uint64_t *digit, int32_t begin, int32_t size) {
  struct channel_steps s = STEPS_OF(k, filter);
  int32_t row_entries = k->columns * k->images;
  real *to = (real *)(arena + k->output) + filter * k->rows * row_entries;
  float offset = (float)((int32_t)1 << k->digits);
  int32_t row = 8 * begin / k->row_bits, column = 8 * begin % k->row_bits;
  for (int32_t i = 0; i < size / 8 && row < k->rows; i++) {
    float value[64];
    integers_of(digit + i, k->digits + 1, size / 8, offset, value);
    for (int32_t x = 0; x < 64; x += LANES) {
      floats v = *(const floats_at *)(value + x);
      v *= k->gain;
      *(floats_at *)(value + x) = steps(v, s);
    }
    int32_t x = 0;
    while (x < 64 && row < k->rows) {
      int32_t end = 64 - x < k->row_bits - column ? 64 : x + k->row_bits - column;
      real *at = to + row * row_entries + column;
      int32_t inside = row_entries - column;
      if (end - x == 64 && inside >= 64)
        for (int32_t j = 0; j < 64; j += LANES)
          *(floats_at *)(at + j) = *(const floats_at *)(value + j);
      else
        for (int32_t j = x; j < end && j - x < inside; j++) at[j - x] = value[j];
      column += end - x;
      x = end;
      if (column == k->row_bits) column = 0, row++;
    }
  }
}

/* All filters, for the pixels of a block. */
#define MPT_ADD_FILTERS(NAME, N, STRIDE)                                      \
  MPT_ADD_LIST(list_##NAME, N, STRIDE)                                        \
  static void filters_##NAME(const struct add_signs *k, char *arena,          \
                             int32_t begin) {                                 \
    const char *planes = arena + k->planes;                                   \
    const char *choices = arena + k->choices;                                 \
    const uint16_t *weights = k->weights;                                     \
    const uint8_t *number = k->numbers;                                       \
    int32_t left = k->plane_bytes - begin;                                    \
    for (int32_t f = 0; f < k->filters; f++) {                                \
      words_##N digit[MPT_DIGITS + 1];                                        \
      int32_t digits = k->digits, minus = weights[0], plus = weights[1];      \
      for (int32_t i = 0; i < digits; i++) digit[i] ^= digit[i];              \
      weights += 2;                                                           \
      list_##NAME(planes, weights, minus, digit, digits);                     \
      weights += 8 * minus;                                                   \
      for (int32_t i = 0; i < digits - 1; i++) digit[i] = ~digit[i];          \
      list_##NAME(planes, weights, plus, digit, digits);                      \
      weights += 8 * plus;                                                    \
      words_##N none = digit[0] ^ digit[0], before = none;                    \
      /* `y >= t` is the last carry of `y + ~t + 1`. */                       \
      words_##N carry = k->is_threshold ? ~none : none;                       \
      for (int32_t i = 0; i < digits + !k->is_threshold; i++) {               \
        words_##N chosen = none;                                              \
        for (int32_t g = 0; g < k->groups; g++)                               \
          chosen |= *(const words_##N##_at *)(choices +                       \
                                              (8 * g + *number++) * STRIDE);  \
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
MPT_ADD_FILTERS(of_64, 64, 64)
#endif
#if MPT_WIDTH >= 32
MPT_ADD_FILTERS(of_32, 32, 32)
#endif
#if MPT_WIDTH >= 16
MPT_ADD_FILTERS(of_16, 16, 16)
#endif
MPT_ADD_FILTERS(of_8, 8, 8)

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
    fill_choices(k, arena + k->choices, begin, size);
    switch (size) {
#if MPT_WIDTH >= 64
      case 64:
        filters_of_64(k, arena, begin);
        break;
#endif
#if MPT_WIDTH >= 32
      case 32:
        filters_of_32(k, arena, begin);
        break;
#endif
#if MPT_WIDTH >= 16
      case 16:
        filters_of_16(k, arena, begin);
        break;
#endif
      default:
        filters_of_8(k, arena, begin);
    }
  }
}
