/* Max pooling of planes of bits by two rows and two columns. */
#include "bits.h"

struct pool_pairs {
  int32_t input, output;
  int32_t planes, rows, columns; /* of the output */
  int32_t in_row_bytes, in_plane_bytes, row_bytes, plane_bytes;
  const uint8_t *inverted; /* of each plane */
};

/* All planes at once, a vector of whole rows at a time: of 2 or 4 bytes, planes
   without anything in between. */
static void pool_stream(const struct pool_pairs *k, char *arena) {
  const char *from = arena + k->input;
  byte *to = (byte *)arena + k->output;
  int32_t bits = 8 * k->in_row_bytes, of_plane = k->in_plane_bytes / 8;
  for (int32_t w = 0; w < k->planes * of_plane; w += MPT_WORDS) {
    words v = *(const words_at *)(from + 8 * w);
    v |= v >> bits;
    v = (v | v >> 1) & 0x5555555555555555;
    v = (v | v >> 1) & 0x3333333333333333;
    v = (v | v >> 2) & 0x0f0f0f0f0f0f0f0f;
    v |= v >> 4;
    for (int32_t lane = 0; lane < MPT_WORDS; lane++) {
      uint64_t flip = k->inverted[(w + lane) / of_plane] ? ~(uint64_t)0 : 0;
      uint64_t rows = v[lane] ^ flip;
      *to++ = (byte)rows;
      *to++ = (byte)(rows >> (bits == 32 ? 16 : 32));
    }
  }
}

MPT_KERNEL void pool_pairs(const struct pool_pairs *k, char *arena) {
  int32_t is_stream =
      (k->in_row_bytes == 2 || k->in_row_bytes == 4) &&
      k->columns == 4 * k->in_row_bytes &&
      k->in_plane_bytes == 2 * k->rows * k->in_row_bytes &&
      k->plane_bytes == k->rows * k->row_bytes &&
      k->planes * k->in_plane_bytes % (8 * MPT_WORDS) == 0;
  if (is_stream) {
    pool_stream(k, arena);
    return;
  }
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
