/* Sums of planes of bits, for all pixels at once: bit `i` of the words
   `digit[0], digit[1], ...` are the binary digits of the sum at pixel `i`. */
#ifndef MPT_ADDER_H
#define MPT_ADDER_H

#include "bits.h"

enum { MPT_DIGITS = 15 };

typedef uint64_t words_64 __attribute__((vector_size(64), may_alias));
typedef uint64_t words_32 __attribute__((vector_size(32), may_alias));
typedef uint64_t words_16 __attribute__((vector_size(16), may_alias));
typedef uint64_t words_8 __attribute__((may_alias));
typedef words_64 words_64_at __attribute__((aligned(1)));
typedef words_32 words_32_at __attribute__((aligned(1)));
typedef words_16 words_16_at __attribute__((aligned(1)));
typedef words_8 words_8_at __attribute__((aligned(1)));

/* A full adder; `sum` may be one of the summands. No compiler makes one
   instruction of a majority by itself. */
#define MPT_FULL_ADDER(N, XOR3, MAJORITY)                                   \
  __attribute__((unused, always_inline)) static inline words_##N majority_##N( \
      words_##N a, words_##N b, words_##N c) {                              \
    return MAJORITY;                                                        \
  }                                                                         \
  __attribute__((unused, always_inline)) static inline words_##N add_##N(   \
      words_##N *sum, words_##N a, words_##N b, words_##N c) {              \
    *sum = XOR3;                                                            \
    return MAJORITY;                                                        \
  }

#define MPT_TERNARY(BITS, a, b, c, table)                                    \
  ((words_##BITS)MPT_TERNARY_##BITS((quads_##BITS)(a), (quads_##BITS)(b),    \
                                    (quads_##BITS)(c), table, -1))
#define MPT_TERNARY_64 __builtin_ia32_pternlogq512_mask
#define MPT_TERNARY_32 __builtin_ia32_pternlogq256_mask
#define MPT_TERNARY_16 __builtin_ia32_pternlogq128_mask
#define MPT_PLAIN_ADDER(N) \
  MPT_FULL_ADDER(N, a ^ (b ^ c), (b & c) | (a & (b ^ c)))
#define MPT_TERNARY_ADDER(N)                        \
  MPT_FULL_ADDER(N, MPT_TERNARY(N, a, b, c, 0x96), \
                 MPT_TERNARY(N, a, b, c, 0xe8))

#if MPT_WIDTH == 64 && MPT_HAS(__builtin_ia32_pternlogq512_mask) && \
    MPT_HAS(__builtin_ia32_pternlogq256_mask) &&                    \
    MPT_HAS(__builtin_ia32_pternlogq128_mask)
#define MPT_HAS_TERNARY 1
typedef long long quads_64 __attribute__((vector_size(64)));
typedef long long quads_32 __attribute__((vector_size(32)));
typedef long long quads_16 __attribute__((vector_size(16)));
MPT_TERNARY_ADDER(64)
MPT_TERNARY_ADDER(32)
MPT_TERNARY_ADDER(16)
#else
#define MPT_HAS_TERNARY 0
#if MPT_WIDTH >= 64
MPT_PLAIN_ADDER(64)
#endif
#if MPT_WIDTH >= 32
MPT_PLAIN_ADDER(32)
#endif
#if MPT_WIDTH >= 16
MPT_PLAIN_ADDER(16)
#endif
#endif
MPT_PLAIN_ADDER(8)

/* `N` is the size of a vector and of a plane; lists have eights of the planes'
   numbers, for which processors have addresses. Four of them are read at once:
   reads of single ones get in the way of those of planes. Clang takes such
   numbers apart in vectors. */
#if UINTPTR_MAX > 0xffffffff && !defined(__clang__)
typedef uint64_t four_places __attribute__((may_alias, aligned(2)));
#define MPT_FOUR_PLACES(i) *(const four_places *)(list + i)
#define MPT_PLANE_AT(four, r) (uint16_t)(four >> 16 * (r))
#else
typedef const uint16_t *four_places;
#define MPT_FOUR_PLACES(i) list + i
#define MPT_PLANE_AT(four, r) four[r]
#endif
#define MPT_PLANE(N, four, r)                                     \
  (*(const words_##N *)(planes + (uintptr_t)MPT_PLANE_AT(four, r) * (N / 8)))
/* Eight planes more into `p0, p1, p2`: one carry. */
#define MPT_ADD_EIGHT(N, i, carry)                                             \
  four = MPT_FOUR_PLACES(i), other = MPT_FOUR_PLACES(i + 4);                   \
  a = add_##N(&x, MPT_PLANE(N, four, 0), MPT_PLANE(N, four, 1),                \
              MPT_PLANE(N, four, 2));                                          \
  b = add_##N(&y, MPT_PLANE(N, four, 3), MPT_PLANE(N, other, 0),               \
              MPT_PLANE(N, other, 1));                                         \
  c = add_##N(&x, x, MPT_PLANE(N, other, 2), MPT_PLANE(N, other, 3));          \
  d = add_##N(&p0, p0, x, y);                                                  \
  a = add_##N(&x, a, b, c);                                                    \
  b = add_##N(&p1, p1, x, d);                                                  \
  carry = add_##N(&p2, p2, a, b);
/* Four times as many into `p0` to `p4`. */
#define MPT_ADD_FOUR_EIGHTS(N, i, carry)  \
  MPT_ADD_EIGHT(N, i, low)                \
  MPT_ADD_EIGHT(N, i + 8, high)           \
  first = add_##N(&p3, p3, low, high);    \
  MPT_ADD_EIGHT(N, i + 16, low)           \
  MPT_ADD_EIGHT(N, i + 24, high)          \
  second = add_##N(&p3, p3, low, high);   \
  carry = add_##N(&p4, p4, first, second);
/* A carry into the digits from the sixth or the seventh on. Those in registers
   spare more than they cost where there are fewer. */
#define MPT_RIPPLE(N, carry) \
  x = p5 & carry, p5 ^= carry; \
  MPT_RIPPLE_ON(N, x)
#define MPT_RIPPLE_ON(N, carry)          \
  y = p6 & carry, p6 ^= carry;           \
  carry = p7 & y, p7 ^= y;               \
  y = p8 & carry, p8 ^= carry;           \
  for (int32_t i = 9; i < digits; i++) { \
    words_##N next = digit[i] & y;       \
    digit[i] ^= y;                       \
    y = next;                            \
  }

/* `2**(digits - 1) - 1`, less the planes of a list of `8 * minus`, plus those
   of the `8 * plus` behind it; ten digits at least. */
#define MPT_SUM(NAME, N)                                                \
  __attribute__((unused)) static void NAME(                             \
      const char *planes, const uint16_t *list, int32_t minus,          \
      int32_t plus, words_##N *digit, int32_t digits) {                 \
    words_##N none = {0};                                               \
    words_##N p0 = none, p1 = none, p2 = none, p3 = none, p4 = none;    \
    words_##N p5 = none, p6 = none, p7 = none, p8 = none;               \
    words_##N a, b, c, d, x, y, low, high, first, second, third;        \
    four_places four, other;                                            \
    for (int32_t i = 9; i < digits; i++) digit[i] = none;               \
    for (int32_t eights = minus, sign = 0; sign < 2; sign++) {          \
      for (; eights >= 8; eights -= 8, list += 64) {                    \
        MPT_ADD_FOUR_EIGHTS(N, 0, third)                                \
        MPT_ADD_FOUR_EIGHTS(N, 32, low)                                 \
        x = add_##N(&p5, p5, third, low);                               \
        MPT_RIPPLE_ON(N, x)                                             \
      }                                                                 \
      if (eights >= 4) {                                                \
        MPT_ADD_FOUR_EIGHTS(N, 0, low)                                  \
        MPT_RIPPLE(N, low)                                              \
        eights -= 4;                                                    \
        list += 32;                                                     \
      }                                                                 \
      if (eights >= 2) {                                                \
        MPT_ADD_EIGHT(N, 0, low)                                        \
        MPT_ADD_EIGHT(N, 8, high)                                       \
        first = add_##N(&p3, p3, low, high);                            \
        low = add_##N(&p4, p4, first, none);                            \
        MPT_RIPPLE(N, low)                                              \
        eights -= 2;                                                    \
        list += 16;                                                     \
      }                                                                 \
      if (eights) {                                                     \
        MPT_ADD_EIGHT(N, 0, low)                                        \
        first = add_##N(&p3, p3, low, none);                            \
        low = add_##N(&p4, p4, first, none);                            \
        MPT_RIPPLE(N, low)                                              \
        list += 8;                                                      \
      }                                                                 \
      if (sign) break;                                                  \
      p0 = ~p0, p1 = ~p1, p2 = ~p2, p3 = ~p3, p4 = ~p4;                 \
      p5 = ~p5, p6 = ~p6, p7 = ~p7, p8 = ~p8;                           \
      for (int32_t i = 9; i < digits - 1; i++) digit[i] = ~digit[i];    \
      eights = plus;                                                    \
    }                                                                   \
    digit[0] = p0, digit[1] = p1, digit[2] = p2, digit[3] = p3;         \
    digit[4] = p4, digit[5] = p5, digit[6] = p6, digit[7] = p7;         \
    digit[8] = p8;                                                      \
  }

#endif
