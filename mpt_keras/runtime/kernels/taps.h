/* What each tap of a window sees: a plane of bits in the geometry of the
   output for each (tap, channel), zeros outside. Of one block of pixels. */
#ifndef MPT_TAPS_H
#define MPT_TAPS_H

#include "bits.h"

struct taps {
  const char *input;
  char *planes;
  int32_t channels, images;
  int32_t in_rows, in_columns, in_row_bits, in_plane_bytes;
  int32_t rows, columns, row_bits, plane_bytes;
  int32_t tap_rows, tap_columns;
  int32_t vertical_stride, horizontal_stride;
  int32_t vertical_dilation, horizontal_dilation;
  int32_t before_rows, before_columns;
  /* Where input and output have the same rows: by how many bits a tap is off,
     and the pixels that see something there, planes of whole 64 bytes. */
  const int32_t *shifts;
  const uint64_t *inside;
};

/* The bit of the input's plane that a tap sees from a bit of the output's; -1
   for none. */
static int32_t seen_bit(const struct taps *t, int32_t tap, int32_t bit) {
  int32_t row = bit / t->row_bits, column = bit % t->row_bits / t->images;
  int32_t y = row * t->vertical_stride - t->before_rows +
              tap / t->tap_columns * t->vertical_dilation;
  int32_t x = column * t->horizontal_stride - t->before_columns +
              tap % t->tap_columns * t->horizontal_dilation;
  if (row >= t->rows || column >= t->columns || y < 0 || y >= t->in_rows ||
      x < 0 || x >= t->in_columns)
    return -1;
  return y * t->in_row_bits + x * t->images + bit % t->images;
}

/* The 64 bits of the input from a bit on, zeros outside. */
static uint64_t bits_from(const struct taps *t, int32_t bit) {
  int32_t words = t->channels * t->in_plane_bytes / 8;
  int32_t index = bit >> 6, shift = bit & 63;
  const word *input = (const word *)t->input;
  uint64_t low = index >= 0 && index < words ? input[index] : 0;
  if (!shift) return low;
  uint64_t high = index + 1 >= 0 && index + 1 < words ? input[index + 1] : 0;
  return low >> shift | high << (64 - shift);
}

/* A vector of the input from a bit on, all of it inside. */
static inline words words_from(const struct taps *t, int32_t bit) {
  const char *source = t->input + (bit >> 3);
  int32_t shift = bit & 7;
  words value = *(const words_at *)source;
  if (shift)
    value = value >> shift | *(const words_at *)(source + 8) << (64 - shift);
  return value;
}

/* `steps` times `count` words, the input from a bit on where `inside`; then
   `bit_step` bits and `8 * count` bytes further. */
static void shifted(const struct taps *t, int32_t bit, int32_t bit_step,
                    const uint64_t *inside, int32_t count, int32_t steps,
                    char *to) {
  int32_t end = 8 * (t->channels * t->in_plane_bytes - 8 * MPT_WORDS - 8);
  for (int32_t w = 0; w < count; w += MPT_WORDS) {
    int32_t at = bit + 64 * w, s = 0;
    char *out = to + 8 * w;
    if (count - w >= MPT_WORDS) {
      words mask = *(const words_at *)(inside + w);
      while (s < steps) {
        for (; s < steps && at >= 0 && at < end; s++) {
          *(words_at *)out = words_from(t, at) & mask;
          at += bit_step;
          out += 8 * count;
        }
        if (s == steps) break;
        for (int32_t i = 0; i < MPT_WORDS; i++)
          ((word *)out)[i] = bits_from(t, at + 64 * i) & inside[w + i];
        at += bit_step;
        out += 8 * count;
        s++;
      }
    } else {
      for (; s < steps; s++) {
        for (int32_t i = 0; i < count - w; i++)
          ((word *)out)[i] = bits_from(t, at + 64 * i) & inside[w + i];
        at += bit_step;
        out += 8 * count;
      }
    }
  }
}

/* The same where planes are smaller than a vector and lie as they shall: a
   stream of `total` words, and `inside` repeats after `count`. */
static void stream(const struct taps *t, int32_t bit, const uint64_t *inside,
                   int32_t count, int32_t total, char *to) {
  int32_t end = 8 * (t->channels * t->in_plane_bytes - 8 * MPT_WORDS - 8);
  words mask;
  for (int32_t i = 0; i < MPT_WORDS; i++) mask[i] = inside[i % count];
  for (int32_t w = 0; w < total; w += MPT_WORDS) {
    int32_t at = bit + 64 * w;
    if (at >= 0 && at < end && total - w >= MPT_WORDS)
      *(words_at *)(to + 8 * w) = words_from(t, at) & mask;
    else
      for (int32_t i = 0; i < MPT_WORDS && w + i < total; i++)
        ((word *)to)[w + i] = bits_from(t, at + 64 * i) & mask[i];
  }
}

/* One word of the planes of a tap, `size` bytes apart: the pixels from a bit
   of the output on, whatever strides and rows. */
static void gather_word(const struct taps *t, int32_t tap, int32_t bit,
                        char *to, int32_t size) {
  /* Runs of pixels in a row: where they are seen, and where they go. */
  int32_t from[64], runs = 0, stride = t->horizontal_stride;
  uint8_t at[64], lengths[64];
  for (int32_t b = 0; b < 64; b++) {
    int32_t seen = seen_bit(t, tap, bit + b);
    if (seen < 0) continue;
    if (runs && at[runs - 1] + lengths[runs - 1] == b &&
        from[runs - 1] + lengths[runs - 1] * stride == seen) {
      lengths[runs - 1]++;
      continue;
    }
    from[runs] = seen;
    at[runs] = (uint8_t)b;
    lengths[runs++] = 1;
  }
  for (int32_t c = 0; c < t->channels; c++, to += size) {
    uint64_t bits = 0;
    for (int32_t r = 0; r < runs; r++) {
      int32_t first = 8 * c * t->in_plane_bytes + from[r];
      uint64_t run;
      if (stride == 1) {
        run = bits_from(t, first);
      } else if (stride == 2) {
        run = even_bits(bits_from(t, first));
        if (lengths[r] > 32) run |= even_bits(bits_from(t, first + 64)) << 32;
      } else {
        run = 0;
        for (int32_t i = 0; i < lengths[r]; i++)
          run |= (bits_from(t, first + i * stride) & 1) << i;
      }
      bits |= (run & low_bits(lengths[r])) << at[r];
    }
    *(word *)to = bits;
  }
}

static inline void copy_words(char *to, const char *from, int32_t count) {
  int32_t i = 0;
  for (; i + MPT_WORDS <= count; i += MPT_WORDS)
    *(words_at *)(to + 8 * i) = *(const words_at *)(from + 8 * i);
  for (; i < count; i++) ((word *)to)[i] = ((const word *)from)[i];
}

/* Planes of `size` bytes, of the pixels from byte `begin` of the output on;
   behind the last a plane of zeros. */
static void gather_taps(const struct taps *t, int32_t begin, int32_t size) {
  char *to = t->planes;
  int32_t count = size / 8;
  int32_t mask_words = (t->plane_bytes + 63) / 64 * 8;
  for (int32_t tap = 0; tap < t->tap_rows * t->tap_columns; tap++) {
    if (t->shifts) {
      const uint64_t *inside = t->inside + tap * mask_words + begin / 8;
      int32_t bit = t->shifts[tap] + 8 * begin;
      if (t->in_plane_bytes == size && count < MPT_WORDS)
        stream(t, bit, inside, count, count * t->channels, to);
      else
        shifted(t, bit, 8 * t->in_plane_bytes, inside, count, t->channels, to);
      to += size * t->channels;
    } else if (t->images > 1) {
      for (int32_t i = 0; i < count; i++) {
        int32_t seen = seen_bit(t, tap, 8 * begin + 64 * i);
        int32_t next = i + 1;
        if (seen < 0) {
          for (int32_t c = 0; c < t->channels; c++)
            *(word *)(to + c * size + 8 * i) = 0;
          continue;
        }
        while (next < count &&
               seen_bit(t, tap, 8 * begin + 64 * next) == seen + 64 * (next - i))
          next++;
        const char *from = t->input + seen / 8;
        for (int32_t c = 0; c < t->channels; c++, from += t->in_plane_bytes)
          copy_words(to + c * size + 8 * i, from, next - i);
        i = next - 1;
      }
      to += size * t->channels;
    } else {
      for (int32_t i = 0; i < count; i++)
        gather_word(t, tap, 8 * begin + 64 * i, to + 8 * i, size);
      to += size * t->channels;
    }
  }
  for (int32_t i = 0; i < size; i += 8) *(word *)(to + i) = 0;
}

#endif
