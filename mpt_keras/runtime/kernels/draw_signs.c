/* Weights of `count_signs` whose signs follow from a seed, at start-up. */
#include "bits.h"
#include "philox.h"

struct draw_signs {
  uint64_t seed, stream;
  /* For each filter, word of its channels and tap: what is kept. */
  const uint64_t *kept;
  uint64_t *weights; /* signs, and the kept */
  int32_t taps, channels, filters;
};

MPT_KERNEL void draw_signs(const struct draw_signs *k, char *arena) {
  int32_t words = (k->channels + 63) / 64 * k->taps;
  (void)arena;
  for (int32_t i = 0; i < k->filters * words; i++) {
    k->weights[2 * i] = 0;
    k->weights[2 * i + 1] = k->kept[i];
  }
  uint64_t raw[4] = {0}, number = 0;
  for (int32_t t = 0; t < k->taps; t++)
    for (int32_t c = 0; c < k->channels; c++)
      for (int32_t f = 0; f < k->filters; f++) {
        if (number % 4 == 0) philox(k->seed, k->stream, number / 4 + 1, raw);
        uint64_t sign = raw[number++ % 4] >> 63;
        k->weights[2 * (f * words + c / 64 * k->taps + t)] |= sign << c % 64;
      }
}
