/* Signs as bits: words of 64, and the instructions that some processors have
   for them. */
#ifndef MPT_BITS_H
#define MPT_BITS_H

#include "vectors.h"

/* A word at any address of a byte. */
typedef uint64_t word_at __attribute__((may_alias, aligned(1)));
typedef uint32_t half_word_at __attribute__((may_alias, aligned(1)));
typedef uint16_t quarter_word_at __attribute__((may_alias, aligned(1)));
typedef uint8_t byte __attribute__((may_alias));

/* A vector of words, of one at least. */
enum { MPT_WORDS = MPT_WIDTH < 8 ? 1 : MPT_WIDTH / 8 };
typedef uint64_t words __attribute__((vector_size(MPT_WIDTH < 8 ? 8 : MPT_WIDTH), may_alias));
typedef long long quads __attribute__((vector_size(MPT_WIDTH < 8 ? 8 : MPT_WIDTH), may_alias));
typedef words words_at __attribute__((aligned(1)));

#ifdef __has_builtin
#define MPT_HAS(builtin) __has_builtin(builtin)
#else
#define MPT_HAS(builtin) 0
#endif

/* Bit `i`: whether lane `i` of the floats is at least zero. */
static inline uint32_t signs_of(floats v) {
#if MPT_WIDTH == 64 && MPT_HAS(__builtin_ia32_cmpps512_mask)
  return (uint16_t)__builtin_ia32_cmpps512_mask(v, (floats){0}, 13, -1, 4);
#elif MPT_WIDTH == 32 && MPT_HAS(__builtin_ia32_movmskps256)
  return (uint32_t)__builtin_ia32_movmskps256((floats)(v >= (floats){0}));
#elif MPT_WIDTH == 16 && MPT_HAS(__builtin_ia32_movmskps)
  return (uint32_t)__builtin_ia32_movmskps((floats)(v >= (floats){0}));
#else
  uint32_t bits = 0;
  for (int32_t i = 0; i < LANES; i++) bits |= (uint32_t)(v[i] >= 0) << i;
  return bits;
#endif
}

/* Of 64 floats. */
static inline uint64_t packed_word(const real *from) {
  uint64_t bits = 0;
  for (int32_t i = 0; i < 64; i += LANES)
    bits |= (uint64_t)signs_of(*(const floats_at *)(from + i)) << i;
  return bits;
}

/* The low `count` bits set, of 0 to 64. */
static inline uint64_t low_bits(int32_t count) {
  return count < 64 ? ((uint64_t)1 << count) - 1 : ~(uint64_t)0;
}

/* `count` bits to the bytes at `to`, of 1 to 64. */
static inline void put_bits(char *to, uint64_t bits, int32_t count) {
  int32_t bytes = (count + 7) >> 3;
  if (bytes & 8) {
    *(word_at *)to = bits;
    return;
  }
  if (bytes & 4) {
    *(half_word_at *)to = (uint32_t)bits;
    bits >>= 32;
    to += 4;
  }
  if (bytes & 2) {
    *(quarter_word_at *)to = (uint16_t)bits;
    bits >>= 16;
    to += 2;
  }
  if (bytes & 1) *(byte *)to = (byte)bits;
}

/* `count` bits from the bytes at `from`, of 1 to 64; undefined above them. */
static inline uint64_t get_bits(const char *from, int32_t count) {
  int32_t bytes = (count + 7) >> 3, shift = 0;
  if (bytes & 8) return *(const word_at *)from;
  uint64_t bits = 0;
  if (bytes & 4) {
    bits = *(const half_word_at *)from;
    from += 4;
    shift = 32;
  }
  for (int32_t i = 0; i < (bytes & 3); i++, shift += 8)
    bits |= (uint64_t)((const byte *)from)[i] << shift;
  return bits;
}

/* The bits of even places, close together. */
static inline uint64_t even_bits(uint64_t v) {
  v &= 0x5555555555555555;
  v = (v | v >> 1) & 0x3333333333333333;
  v = (v | v >> 2) & 0x0f0f0f0f0f0f0f0f;
  v = (v | v >> 4) & 0x00ff00ff00ff00ff;
  v = (v | v >> 8) & 0x0000ffff0000ffff;
  return (v | v >> 16) & 0xffffffff;
}

#endif
