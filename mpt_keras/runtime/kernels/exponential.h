/* exp of vectors, and what is made of it, without a library. */
#ifndef MPT_EXPONENTIAL_H
#define MPT_EXPONENTIAL_H

#include "steps.h"

static inline floats splat(float v) { return v - (floats){0}; }

/* 2 to the power of n, -126 to 127. */
static inline floats power_of_two(ints n) { return (floats)((n + 127) << 23); }

/* v = n ln 2 + r, a polynomial of r, times 2^n in two halves, so that results
   below the normal numbers come out too. */
static inline floats exponential(floats v) {
  floats inside = choose(v > splat(89), splat(89), v);
  inside = choose(inside < splat(-104), splat(-104), inside);
  floats n = inside * 1.44269504f + 12582912.0f;
  n = n - 12582912.0f; /* rounded to an integer */
  n = choose(v == v, n, splat(0));
  floats r = inside - n * 0.693145752f; /* exact: few digits */
  r = r - n * 1.42860677e-6f;
  floats p = r * 0.00138631937f + 0.00836814649f;
  p = p * r + 0.0416672617f;
  p = p * r + 0.166665289f;
  p = p * r + 0.5f;
  p = p * r * r + r;
  p = p + 1.0f;
  ints whole = __builtin_convertvector(n, ints);
  ints half = whole >> 1;
  return p * power_of_two(half) * power_of_two(whole - half);
}

#endif
