/* Random numbers of a seed, as docs/ticket_format.md says. */
#ifndef MPT_PHILOX_H
#define MPT_PHILOX_H

#include <stdint.h>

/* Upper and lower half of a product. */
static inline uint64_t multiply(uint64_t one, uint64_t other, uint64_t *upper) {
/* WebAssembly has the type, but calls a library to multiply. */
#if defined(__SIZEOF_INT128__) && !defined(__wasm__)
  __extension__ typedef unsigned __int128 twice;
  twice product = (twice)one * other;
  *upper = (uint64_t)(product >> 64);
  return (uint64_t)product;
#else
  uint64_t a = one >> 32, b = one & 0xFFFFFFFF;
  uint64_t c = other >> 32, d = other & 0xFFFFFFFF;
  uint64_t low = b * d;
#ifdef __wasm__
  /* Clang from 21 on makes that call of what follows, if it sees all of it. */
  __asm__("" : "+r"(low));
#endif
  uint64_t inner = a * d + (low >> 32);
  uint64_t outer = b * c + (inner & 0xFFFFFFFF);
  *upper = a * c + (inner >> 32) + (outer >> 32);
  return one * other;
#endif
}

/* Philox4x64-10: four raw numbers. */
static inline void philox(uint64_t k, uint64_t l, uint64_t counter,
                          uint64_t raw[4]) {
  uint64_t a = counter, b = 0, c = 0, d = 0;
  for (int round = 0; round < 10; round++) {
    uint64_t one, other;
    uint64_t low = multiply(a, 0xD2E7470EE14C6C93u, &one);
    uint64_t other_low = multiply(c, 0xCA5A826395121157u, &other);
    a = other ^ b ^ k;
    c = one ^ d ^ l;
    b = other_low;
    d = low;
    k += 0x9E3779B97F4A7C15u;
    l += 0xBB67AE8584CAA73Bu;
  }
  raw[0] = a;
  raw[1] = b;
  raw[2] = c;
  raw[3] = d;
}

#endif
