/* Planes of floats to planes of bits: the signs after steps. */
#include "bits.h"
#include "steps.h"

struct pack_signs {
  int32_t input, output;
  int32_t planes, rows, columns;
  int32_t row_bytes, plane_bytes; /* of the output */
  MPT_STEPS
};

static inline uint64_t packed_after(const real *from, struct channel_steps s) {
  uint64_t bits = 0;
  for (int32_t i = 0; i < 64; i += LANES) {
    floats v = *(const floats_at *)(from + i);
    bits |= (uint64_t)signs_of(steps(v, s)) << i;
  }
  return bits;
}

MPT_KERNEL void pack_signs(const struct pack_signs *k, char *arena) {
  const real *from = (const real *)(arena + k->input);
  for (int32_t p = 0; p < k->planes; p++) {
    struct channel_steps s = STEPS_OF(k, p);
    for (int32_t r = 0; r < k->rows; r++) {
      char *to =
          arena + k->output + p * k->plane_bytes + r * k->row_bytes;
      int32_t x = 0;
      for (; x + 64 <= k->columns; x += 64)
        *(word_at *)(to + x / 8) = s.scales | s.offsets | s.rectifies
                                       ? packed_after(from + x, s)
                                       : packed_word(from + x);
      if (x < k->columns) {
        uint64_t bits = 0;
        int32_t i = 0;
        for (; x + i + LANES <= k->columns; i += LANES) {
          floats v = *(const floats_at *)(from + x + i);
          bits |= (uint64_t)signs_of(steps(v, s)) << i;
        }
        for (; x + i < k->columns; i++)
          bits |= (uint64_t)(step(from[x + i], s) >= 0) << i;
        put_bits(to + x / 8, bits, k->columns - x);
      }
      from += k->columns;
    }
  }
}
