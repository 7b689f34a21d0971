/* Planes of bits to planes of floats, -1 and +1, and steps of them. */
#include "bits.h"
#include "steps.h"

struct unpack_signs {
  int32_t input, output;
  int32_t planes, rows, columns;
  int32_t row_bytes, plane_bytes; /* of the input */
  MPT_STEPS
};

/* `LANES` values, one for each bit. */
static inline floats chosen(uint32_t bits, floats yes, floats no) {
  ints lane;
  for (int32_t i = 0; i < LANES; i++) lane[i] = 1 << i;
  ints all = (int32_t)bits - (ints){0};
  return choose((all & lane) == lane, yes, no);
}

MPT_KERNEL void unpack_signs(const struct unpack_signs *k, char *arena) {
  real *to = (real *)(arena + k->output);
  for (int32_t p = 0; p < k->planes; p++) {
    struct channel_steps s = STEPS_OF(k, p);
    float values[2] = {step(-1, s), step(1, s)};
    floats no = values[0] - (floats){0}, yes = values[1] - (floats){0};
    for (int32_t r = 0; r < k->rows; r++) {
      const char *from =
          arena + k->input + p * k->plane_bytes + r * k->row_bytes;
      for (int32_t x = 0; x < k->columns; x += 64) {
        int32_t count = k->columns - x < 64 ? k->columns - x : 64;
        uint64_t bits = get_bits(from + x / 8, count);
        int32_t i = 0;
        for (; i + LANES <= count; i += LANES)
          *(floats_at *)(to + x + i) = chosen((uint32_t)(bits >> i), yes, no);
        for (; i < count; i++) to[x + i] = values[bits >> i & 1];
      }
      to += k->columns;
    }
  }
}
