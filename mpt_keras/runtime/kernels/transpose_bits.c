/* Between planes of bits and words of 64 channels a pixel. */
#include "bits.h"

static void transpose_block(uint64_t *a) {
  uint64_t mask = 0xffffffff;
  for (int32_t j = 32; j; j >>= 1, mask ^= mask << j)
    for (int32_t i = 0; i < 64; i = (i + j + 1) & ~j) {
      uint64_t swap = (a[i] >> j ^ a[i + j]) & mask;
      a[i] ^= swap << j;
      a[i + j] ^= swap;
    }
}

struct bits_to_packed {
  int32_t input, output;
  int32_t channels, rows, columns;
  int32_t row_bytes, plane_bytes; /* of the planes */
};

MPT_KERNEL void bits_to_packed(const struct bits_to_packed *k, char *arena) {
  int32_t words = (k->channels + 63) / 64, row_bits = 8 * k->row_bytes;
  word *output = (word *)(arena + k->output);
  uint64_t block[64];
  for (int32_t w = 0; w < words; w++)
    for (int32_t begin = 0; begin < k->rows * row_bits; begin += 64) {
      for (int32_t i = 0; i < 64; i++) {
        int32_t c = 64 * w + i;
        const char *plane = arena + k->input + c * k->plane_bytes;
        block[i] = c < k->channels ? *(const word *)(plane + begin / 8) : 0;
      }
      transpose_block(block);
      int32_t r = begin / row_bits, x = begin % row_bits;
      for (int32_t i = 0; i < 64 && r < k->rows; i++) {
        if (x < k->columns) output[(r * k->columns + x) * words + w] = block[i];
        if (++x == row_bits) x = 0, r++;
      }
    }
}

struct packed_to_bits {
  int32_t input, output;
  int32_t channels, rows, columns;
  int32_t row_bytes, plane_bytes; /* of the planes */
};

MPT_KERNEL void packed_to_bits(const struct packed_to_bits *k, char *arena) {
  int32_t words = (k->channels + 63) / 64, row_bits = 8 * k->row_bytes;
  const word *input = (const word *)(arena + k->input);
  uint64_t block[64];
  for (int32_t w = 0; w < words; w++)
    for (int32_t begin = 0; begin < k->rows * row_bits; begin += 64) {
      int32_t r = begin / row_bits, x = begin % row_bits;
      for (int32_t i = 0; i < 64; i++) {
        int32_t inside = r < k->rows && x < k->columns;
        block[i] = inside ? input[(r * k->columns + x) * words + w] : 0;
        if (++x == row_bits) x = 0, r++;
      }
      transpose_block(block);
      for (int32_t i = 0; i < 64 && 64 * w + i < k->channels; i++)
        *(word *)(arena + k->output + (64 * w + i) * k->plane_bytes +
                  begin / 8) = block[i];
    }
}
