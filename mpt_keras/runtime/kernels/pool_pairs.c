/* Max pooling of planes of bits by two rows and two columns. */
#include "bits.h"

struct pool_pairs {
  int32_t input, output;
  int32_t planes, rows, columns; /* of the output */
  int32_t in_row_bytes, in_plane_bytes, row_bytes, plane_bytes;
  const uint8_t *inverted; /* of each plane */
};

MPT_KERNEL void pool_pairs(const struct pool_pairs *k, char *arena) {
  for (int32_t p = 0; p < k->planes; p++) {
    const char *from = arena + k->input + p * k->in_plane_bytes;
    char *to = arena + k->output + p * k->plane_bytes;
    uint64_t flip = k->inverted[p] ? ~(uint64_t)0 : 0;
    for (int32_t r = 0; r < k->rows; r++) {
      for (int32_t x = 0; x < k->columns; x += 32) {
        int32_t count = k->columns - x < 32 ? k->columns - x : 32;
        uint64_t bits = get_bits(from + x / 4, 2 * count) |
                        get_bits(from + k->in_row_bytes + x / 4, 2 * count);
        put_bits(to + x / 8, even_bits(bits | bits >> 1) ^ flip, count);
      }
      from += 2 * k->in_row_bytes;
      to += k->row_bytes;
    }
  }
}
