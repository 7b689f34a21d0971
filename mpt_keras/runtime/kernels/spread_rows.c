/* Planes of bits whose rows follow each other without gaps, to planes of rows
   of whole bytes. */
#include "bits.h"

struct spread_rows {
  int32_t input, output;
  int32_t planes, rows, columns;
  int32_t in_plane_bytes, row_bytes, plane_bytes;
};

MPT_KERNEL void spread_rows(const struct spread_rows *k, char *arena) {
  for (int32_t p = 0; p < k->planes; p++) {
    const word *from = (const word *)(arena + k->input + p * k->in_plane_bytes);
    byte *to = (byte *)(arena + k->output + p * k->plane_bytes);
    for (int32_t r = 0; r < k->rows; r++, to += k->row_bytes)
      for (int32_t x = 0; x < k->columns; x += 8) {
        int32_t bit = r * k->columns + x, shift = bit & 63;
        int32_t count = k->columns - x < 8 ? k->columns - x : 8;
        uint64_t bits = from[bit >> 6] >> shift;
        if (shift + count > 64) bits |= from[(bit >> 6) + 1] << (64 - shift);
        to[x / 8] = (byte)bits;
      }
  }
}
