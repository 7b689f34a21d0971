/* What a seed gives, as docs/ticket_format.md says: what mpt_keras/drawing.py
   and mpt_keras/ticket/start.py do, to the bit. */
#include "philox.h"
#include "vectors.h"

#ifdef MPT_LIBRARY

/* Numbers of a table: its second half where the highest bit is set; which of
   them (their number is a power of 2), the lowest bits say. */
MPT_KERNEL void draw_from_table(uint64_t seed, uint64_t stream, int64_t size,
                                float *values, const float *table,
                                int64_t half) {
  uint64_t raw[4];
  for (int64_t i = 0; i < size; i += 4) {
    philox(seed, stream, (uint64_t)i / 4 + 1, raw);
    for (int64_t j = 0; j < 4 && i + j < size; j++) {
      const float *signed_half = raw[j] >> 63 ? table + half : table;
      values[i + j] = signed_half[raw[j] & (uint64_t)(half - 1)];
    }
  }
}

MPT_KERNEL void draw_quantiles(uint64_t seed, uint64_t stream, int64_t size,
                               uint16_t *quantiles) {
  uint64_t raw[4];
  for (int64_t i = 0; i < size; i += 4) {
    philox(seed, stream, (uint64_t)i / 4 + 1, raw);
    for (int64_t j = 0; j < 4 && i + j < size; j++) {
      uint16_t below_middle = raw[j] >> 63 ? 0 : 0xFFFF;
      quantiles[i + j] = (uint16_t)(raw[j] >> 47) ^ below_middle;
    }
  }
}

#endif
