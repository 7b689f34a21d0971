/* Functions of each entry, within a few units of the last place. Polynomials
   are least in the largest relative error on the interval named. */
#include "exponential.h"

struct function {
  int32_t input, output;
  int32_t size; /* floats */
  int32_t which; /* 0 sigmoid, 1 tanh, 2 exp, 3 softplus, 4 silu, 5 elu, 6 gelu */
};

static inline floats magnitude(floats v) {
  return (floats)((ints)v & 0x7fffffff);
}

static inline floats sigmoid(floats v) {
  return 1.0f / (1.0f + exponential(-v));
}

static inline floats hyperbolic_tangent(floats v) {
  floats m = magnitude(v), z = v * v;
  /* |v| < 0.625 */
  floats p = z * -0.00571703656f + 0.020650579f;
  p = p * z - 0.0537434953f;
  p = p * z + 0.133314912f;
  p = p * z - 0.333332839f;
  p = p * z * v + v;
  floats far = 1.0f - 2.0f / (exponential(m + m) + 1.0f);
  far = (floats)((ints)far | ((ints)v & (ints)splat(-0.0f)));
  return choose(m < splat(0.625f), p, far);
}

/* exp(v) - 1 */
static inline floats exponential_less_one(floats v) {
  /* |v| < 0.5 */
  floats p = v * 0.000199928963f + 0.00139974568f;
  p = p * v + 0.008333073f;
  p = p * v + 0.0416653155f;
  p = p * v + 0.16666668f;
  p = p * v + 0.500000042f;
  p = p * v * v + v;
  return choose(magnitude(v) < splat(0.5f), p, exponential(v) - 1.0f);
}

/* max(v, 0) + log(1 + t), t = exp(-|v|); the logarithm is 2 artanh(s),
   s = t / (2 + t) up to 1/3. */
static inline floats softplus(floats v) {
  floats t = exponential(-magnitude(v)), s = t / (2.0f + t), z = s * s;
  floats p = z * 0.121504691f + 0.107138284f;
  p = p * z + 0.143084424f;
  p = p * z + 0.199994389f;
  p = p * z + 0.333333378f;
  p = p * z * s + s;
  return choose(v <= splat(0), splat(0), v) + (p + p);
}

/* max(v, 0) - m F(-m), m = |v|, F the normal distribution's; F(-m) is
   exp(-m^2 / 2) / (m + 3) times a polynomial of (m - 3) / (m + 3). The square is that of
   m's upper half and the rest, as its rounding would grow in exp. */
static inline floats gelu(floats v) {
  floats m = magnitude(v);
  m = choose(m > splat(15), splat(15), m);
  floats upper = (floats)((ints)m & ~0xfff);
  floats rest = (m - upper) * (m + upper) * -0.5f;
  floats small = rest * 0.166666667f + 0.5f;
  small = small * rest * rest + rest;
  floats bell = exponential(upper * upper * -0.5f);
  bell = bell + bell * small;
  floats inverse = 1.0f / (m + 3.0f), t = (m - 3.0f) * inverse;
  floats p = t * 5.45127539e-05f - 0.000199391255f;
  p = p * t - 0.000947222126f;
  p = p * t + 0.00101351011f;
  p = p * t + 0.00693685494f;
  p = p * t - 0.0104615187f;
  p = p * t - 0.0472580176f;
  p = p * t + 0.23001763f;
  p = p * t - 0.509332173f;
  p = p * t + 0.729083693f;
  return choose(v <= splat(0), splat(0), v) - m * (bell * p * inverse);
}

static inline floats function_of(floats v, int32_t which) {
  switch (which) {
    case 0: return sigmoid(v);
    case 1: return hyperbolic_tangent(v);
    case 2: return exponential(v);
    case 3: return softplus(v);
    case 4: return v * sigmoid(v);
    case 5: return choose(v > splat(0), v, exponential_less_one(v));
    default: return gelu(v);
  }
}

MPT_KERNEL void function(const struct function *k, char *arena) {
  const real *input = (const real *)(arena + k->input);
  real *output = (real *)(arena + k->output);
  int32_t i = 0;
  for (; i + LANES <= k->size; i += LANES) {
    floats v = *(const floats_at *)(input + i);
    *(floats_at *)(output + i) = function_of(v, k->which);
  }
  if (i == k->size) return;
  floats v = {0};
  for (int32_t j = 0; i + j < k->size; j++) v[j] = input[i + j];
  v = function_of(v, k->which);
  for (int32_t j = 0; i + j < k->size; j++) output[i + j] = v[j];
}
