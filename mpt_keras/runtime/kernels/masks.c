/* Masks of tickets, decoded as docs/ticket_format.md says: what
   mask_model.py and range_coder.py of mpt_keras/ticket do, to the bit. */
#include "vectors.h"

#ifdef MPT_LIBRARY

enum { CLASSES = 4, BINS = 32, CERTAIN = 640, NEAREST = 14, MOST_OFFSETS = 4 };

/* How decoding ended. */
enum { DECODED, NOT_ENCODED, WORDS_LEFT };

struct words {
  const uint8_t *next, *end;
  uint64_t width, point; /* the point is counted from the low end */
};

static uint64_t next_word(struct words *w) {
  if (w->next == w->end) return 0;
  const uint8_t *b = w->next;
  w->next += 4;
  return (uint64_t)b[0] | (uint64_t)b[1] << 8 | (uint64_t)b[2] << 16 |
         (uint64_t)b[3] << 24;
}

static void begin_words(struct words *w, const uint8_t *data, int64_t bytes) {
  w->next = data;
  w->end = data + bytes;
  w->width = ~(uint64_t)0;
  w->point = next_word(w) << 32;
  w->point |= next_word(w);
}

/* Bits, each of which is 0 with so many of 2**24; false where none can be. */
static int decode_bits(struct words *w, const int32_t *zeros, int64_t step,
                       int64_t count, uint8_t *bits) {
  uint64_t width = w->width, point = w->point, beyond = 0;
  for (int64_t i = 0; i < count; i++) {
    uint64_t unit = width >> 24;
    uint64_t of_zero = unit * (uint64_t)zeros[i * step];
    uint64_t one = point >= of_zero;
    width = one ? (unit << 24) - of_zero : of_zero;
    point -= one ? of_zero : 0;
    bits[i] = (uint8_t)one;
    beyond |= point >= width;
    if (width < (uint64_t)1 << 32) {
      width <<= 32;
      point = point << 32 | next_word(w);
    }
  }
  w->width = width;
  w->point = point;
  return !beyond;
}

static int32_t end_words(const struct words *w) {
  int done = w->next == w->end && w->point < ((uint64_t)1 << 33) - 1;
  return done ? DECODED : WORDS_LEFT;
}

struct plain_mask {
  const uint8_t *words;
  int64_t bytes;
  int64_t size;
  int64_t zeros; /* the weight of a 0 */
};

MPT_KERNEL int32_t decode_plain_mask(const struct plain_mask *k,
                                     uint8_t *mask) {
  struct words w;
  int32_t zeros = (int32_t)k->zeros;
  begin_words(&w, k->words, k->bytes);
  if (!decode_bits(&w, &zeros, 0, k->size, mask)) return NOT_ENCODED;
  return end_words(&w);
}

struct modelled_mask {
  const uint8_t *words;
  int64_t bytes;
  int64_t rows, columns, kept;
  int64_t scale, by_weight, offset_count;
  int64_t offsets[MOST_OFFSETS];
  const uint16_t *quantiles; /* or null, and so may the next two be */
  const float *kernel;
  const uint8_t *base;
  /* Tables of mask_model.py and logarithms.py. */
  const int32_t *zeros; /* by odds + CERTAIN */
  const int32_t *shares, *variances;
  const int32_t *changes; /* by bin */
  const int32_t *mantissas;
};

/* What was coded of each row, or of each column. */
struct totals {
  int64_t *coded, *changed, *surprise, *variance;
};

struct model {
  const struct modelled_mask *k;
  int64_t width[CLASSES]; /* of a plane: every fourth column */
  int16_t *known[CLASSES]; /* of each weight, as below */
  int8_t *surprise[CLASSES], *change[CLASSES];
  int32_t *rows; /* row numbers, class after class */
  int64_t row_count[CLASSES];
  struct totals row, column;
  int64_t ones[4 * BINS], zeros[4 * BINS];
  /* Of the cell that is decoded. */
  /* By context: odds of a 1, share of 1s, variance, in 16, 8 and 8 bits. */
  int32_t expected[4 * BINS];
  int32_t *row_scale, *row_push, *column_scale, *column_push;
  int8_t *cell_surprise, *cell_change;
  int32_t *cell_changed, *cell_surprised, *cell_varied; /* of its columns */
  int64_t counts[2][8 * BINS]; /* of contexts and bits, two in turn */
  /* Of a row of it. */
  int32_t *beside_surprise, *beside_change;
  int32_t *context, *row_expected, *row_zeros;
  uint8_t *bits;
};

/* Of a weight: eight times its distance, and these. */
enum { NEGATIVE = 1, GUESS = 2, MOVED = 4 };

/* Memory from its start on; how much is taken without a start. */
struct memory {
  char *start;
  int64_t taken;
};

static void *take(struct memory *memory, int64_t bytes) {
  char *at = memory->start ? memory->start + memory->taken : 0;
  memory->taken += (bytes + 63) / 64 * 64;
  return at;
}

/* Lays out a model, and returns the bytes that it takes. */
static int64_t lay_out(struct model *m, const struct modelled_mask *k,
                       char *start) {
  struct memory memory = {start, 0};
  int64_t widest = (k->columns + CLASSES - 1) / CLASSES;
  int64_t longest = 0;
  m->k = k;
  for (int p = 0; p < CLASSES; p++) {
    int64_t width = (k->columns - p + CLASSES - 1) / CLASSES;
    m->width[p] = width;
    m->known[p] = take(&memory, 2 * k->rows * width);
    if (k->offset_count) { /* and a row of zeros at the end */
      m->surprise[p] = take(&memory, (k->rows + 1) * width);
      m->change[p] = take(&memory, (k->rows + 1) * width);
    }
    if (m->row_count[p] > longest) longest = m->row_count[p];
  }
  struct totals *both[2] = {&m->row, &m->column};
  for (int i = 0; i < 2; i++) {
    int64_t bytes = 8 * (i ? k->columns : k->rows);
    both[i]->coded = take(&memory, bytes);
    both[i]->changed = take(&memory, bytes);
    both[i]->surprise = take(&memory, bytes);
    both[i]->variance = take(&memory, bytes);
  }
  m->rows = take(&memory, 4 * k->rows);
  m->row_scale = take(&memory, 4 * longest);
  m->row_push = take(&memory, 4 * longest);
  m->column_scale = take(&memory, 4 * widest);
  m->column_push = take(&memory, 4 * widest);
  m->cell_changed = take(&memory, 4 * widest);
  m->cell_surprised = take(&memory, 4 * widest);
  m->cell_varied = take(&memory, 4 * widest);
  if (k->offset_count) {
    m->cell_surprise = take(&memory, longest * widest);
    m->cell_change = take(&memory, longest * widest);
    m->beside_surprise = take(&memory, 4 * widest);
    m->beside_change = take(&memory, 4 * widest);
  }
  m->context = take(&memory, 4 * widest);
  m->row_expected = take(&memory, 4 * widest);
  m->row_zeros = take(&memory, 4 * widest);
  m->bits = take(&memory, widest);
  return memory.taken;
}

static int class_of_row(uint32_t row) {
  uint32_t mixed = row * 0x9E3779B1u;
  mixed ^= mixed >> 15;
  return (int)(mixed * 0x85EBCA77u >> 30);
}

static void count_rows(struct model *m, int64_t rows) {
  for (int p = 0; p < CLASSES; p++) m->row_count[p] = 0;
  for (int64_t i = 0; i < rows; i++) m->row_count[class_of_row((uint32_t)i)]++;
}

MPT_KERNEL int64_t modelled_mask_bytes(const struct modelled_mask *k) {
  struct model m;
  count_rows(&m, k->rows);
  return lay_out(&m, k, 0);
}

/* 32 * log2 of a number, from its conversion to double. */
static int32_t logarithm(const int32_t *mantissas, int64_t value) {
  union {
    double number;
    int64_t bits;
  } as = {(double)value};
  int32_t exponent = (int32_t)(as.bits >> 52) - 1023;
  return exponent * 32 + mantissas[as.bits >> 44 & 255];
}

static int32_t exponent_of(float number) {
  union {
    float number;
    uint32_t bits;
  } as = {number};
  return (int32_t)(as.bits >> 20 & 0x7FF);
}

static int32_t is_negative(float number) {
  union {
    float number;
    uint32_t bits;
  } as = {number};
  return (int32_t)(as.bits >> 31);
}

static int32_t clip(int64_t value, int32_t least, int32_t most) {
  return value < least ? least : value > most ? most : (int32_t)value;
}

static int64_t divided(int64_t value, int64_t by) { /* rounded down */
  return value / by - (value % by != 0 && (value < 0) != (by < 0));
}

/* What is known of every fourth weight of a row. */
static void know_row(struct model *m, int64_t row, int p) {
  const struct modelled_mask *k = m->k;
  int64_t width = m->width[p], first = row * k->columns + p;
  int16_t *known = m->known[p] + row * width;
  int32_t shift = 2 * NEAREST - (int32_t)k->scale;
  int64_t size = k->rows * k->columns;
  if (k->quantiles) {
    const uint16_t *quantiles = k->quantiles + first;
    int32_t threshold = (int32_t)(65536 * (size - k->kept) / size);
    for (int64_t j = 0; j < width; j++) {
      int32_t away = quantiles[CLASSES * j] - threshold;
      int32_t distance =
          exponent_of((float)(2 * (away < 0 ? -away : away) + 1)) + shift;
      known[j] = (int16_t)((distance - 127 * 8) * 8 | (away >= 0) * GUESS);
    }
    if (k->kernel) {
      const float *kernel = k->kernel + first;
      int32_t by_weight = k->by_weight ? ~0 : 0;
      for (int64_t j = 0; j < width; j++) {
        float weight = kernel[CLASSES * j];
        int32_t unit = (exponent_of(weight) - 127 * 8) & by_weight;
        known[j] = (int16_t)(known[j] - unit * 8 + is_negative(weight));
      }
    }
  } else {
    int32_t guess = 2 * k->kept > size ? GUESS : 0;
    for (int64_t j = 0; j < width; j++)
      known[j] = (int16_t)(shift * 8 | guess);
  }
  if (k->base) {
    const uint8_t *base = k->base + first;
    int64_t moved_of_row = 0;
    for (int64_t j = 0; j < width; j++) {
      int32_t was = known[j], is = base[CLASSES * j] ? GUESS : 0;
      int32_t moved = k->quantiles && (was & GUESS) != is;
      known[j] = (int16_t)((was & ~GUESS) | is | moved * MOVED);
      if (!k->quantiles) continue;
      moved_of_row += moved;
      m->column.changed[CLASSES * j + p] += moved;
      if (k->offset_count && moved) {
        int down = !is == !(was & NEGATIVE);
        m->change[p][row * width + j] = 32;
        m->surprise[p][row * width + j] = down ? -32 : 32;
      }
    }
    if (k->quantiles) {
      m->row.coded[row] += width;
      m->row.changed[row] += moved_of_row;
    }
  }
}

static void clear(void *memory, int64_t bytes) {
  char *at = memory;
  for (int64_t i = 0; i < bytes; i++) at[i] = 0;
}

static void know(struct model *m) {
  const struct modelled_mask *k = m->k;
  int64_t place[CLASSES] = {0};
  for (int p = 1; p < CLASSES; p++)
    place[p] = place[p - 1] + m->row_count[p - 1];
  for (int64_t i = 0; i < k->rows; i++)
    m->rows[place[class_of_row((uint32_t)i)]++] = (int32_t)i;
  struct totals *both[2] = {&m->row, &m->column};
  for (int i = 0; i < 2; i++) {
    int64_t bytes = 8 * (i ? k->columns : k->rows);
    clear(both[i]->coded, bytes);
    clear(both[i]->changed, bytes);
    clear(both[i]->surprise, bytes);
    clear(both[i]->variance, bytes);
  }
  for (int p = 0; p < CLASSES; p++) {
    if (k->offset_count) {
      clear(m->surprise[p], (k->rows + 1) * m->width[p]);
      clear(m->change[p], (k->rows + 1) * m->width[p]);
    }
  }
  for (int64_t i = 0; i < k->rows; i++)
    for (int p = 0; p < CLASSES; p++) know_row(m, i, p);
  if (k->base && k->quantiles)
    for (int64_t j = 0; j < k->columns; j++) m->column.coded[j] += k->rows;
  for (int i = 0; i < 4 * BINS; i++) {
    int64_t change = k->changes[i % BINS];
    m->ones[i] = 16 * (i / BINS % 2 ? 65536 - change : change);
    m->zeros[i] = 16 * 65536 - m->ones[i];
  }
}

/* The rows before and after by an offset; the row of zeros if there is none. */
static void beside(const struct modelled_mask *k, int64_t row, int i,
                   int64_t *before, int64_t *after) {
  int64_t offset = k->offsets[i];
  *before = row >= offset ? row - offset : k->rows;
  *after = row + offset < k->rows ? row + offset : k->rows;
}

/* Eighths of log2 of the changes over those expected. Products wrap around as
   NumPy's do. */
static int32_t scale_of(const struct model *m, const struct totals *t,
                        int64_t i, int by_rows, uint64_t all_coded,
                        uint64_t all_changed) {
  const struct modelled_mask *k = m->k;
  if (!all_coded) return 0;
  uint64_t coded = (uint64_t)t->coded[i], changed = (uint64_t)t->changed[i];
  uint64_t actual, expected;
  if (by_rows && k->offset_count) {
    uint64_t coded_beside = 0, changed_beside = 0;
    for (int o = 0; o < k->offset_count; o++) {
      int64_t others[2];
      beside(k, i, o, &others[0], &others[1]);
      for (int e = 0; e < 2; e++) {
        if (others[e] == k->rows) continue;
        coded_beside += (uint64_t)t->coded[others[e]];
        changed_beside += (uint64_t)t->changed[others[e]];
      }
    }
    uint64_t rate = 256 * 12 * ((changed_beside + 3) * all_coded);
    uint64_t over = coded_beside * all_changed + 3 * all_coded;
    uint64_t believed = (uint64_t)divided((int64_t)rate, (int64_t)over);
    actual = (256 * changed + believed) * all_coded;
    expected = (coded * all_changed + 12 * all_coded) * 256;
  } else {
    actual = (changed + 4) * all_coded;
    expected = coded * all_changed + 4 * all_coded;
  }
  return (logarithm(k->mantissas, (int64_t)actual) -
          logarithm(k->mantissas, (int64_t)expected)) >>
         2;
}

static int32_t push_of(const struct totals *t, int64_t i, int64_t strength) {
  return clip(divided(strength * t->surprise[i], t->variance[i] + 4096),
              -CERTAIN, CERTAIN);
}

static uint64_t sum(const int64_t *values, int64_t count) {
  uint64_t total = 0;
  for (int64_t i = 0; i < count; i++) total += (uint64_t)values[i];
  return total;
}

/* Sums of surprises and changes of the rows beside, as what they do. */
static void look_beside(struct model *m, int64_t row, int p, int64_t factor) {
  const struct modelled_mask *k = m->k;
  int64_t width = m->width[p];
  int32_t *surprise = m->beside_surprise, *change = m->beside_change;
  for (int64_t j = 0; j < width; j++) surprise[j] = change[j] = 0;
  for (int o = 0; o < k->offset_count; o++) {
    int64_t others[2];
    beside(k, row, o, &others[0], &others[1]);
    for (int e = 0; e < 2; e++) {
      const int8_t *s = m->surprise[p] + others[e] * width;
      const int8_t *c = m->change[p] + others[e] * width;
      for (int64_t j = 0; j < width; j++) {
        surprise[j] += s[j];
        change[j] += c[j];
      }
    }
  }
  int32_t calm = logarithm(k->mantissas, 200);
  for (int64_t j = 0; j < width; j++) {
    int32_t sum = change[j], near = 0;
    if (sum) {
      int32_t size = sum < 0 ? -sum : sum;
      near = (logarithm(k->mantissas, size + 200) - calm) >> 2;
      near = sum < 0 ? -near : near;
    }
    change[j] = near;
    surprise[j] = (int32_t)(surprise[j] * factor >> 8);
  }
}

/* The weights of the bits of a row of a cell in the range coder. */
static void weigh_row(struct model *m, int64_t row, int p, int32_t scale,
                      int32_t push) {
  int64_t width = m->width[p];
  const int16_t *restrict known = m->known[p] + row * width;
  const int32_t *restrict column_scale = m->column_scale;
  const int32_t *restrict column_push = m->column_push;
  const int32_t *table = m->expected, *weights = m->k->zeros;
  int32_t *restrict context = m->context, *restrict zeros = m->row_zeros;
  int32_t *restrict expected = m->row_expected;
  for (int64_t j = 0; j < width; j++) {
    context[j] = (known[j] >> 3) - scale - column_scale[j];
    zeros[j] = push + column_push[j];
  }
  if (m->k->offset_count) {
    const int32_t *restrict change = m->beside_change;
    const int32_t *restrict surprise = m->beside_surprise;
    for (int64_t j = 0; j < width; j++) {
      context[j] -= change[j];
      zeros[j] += surprise[j];
    }
  }
  for (int64_t j = 0; j < width; j++) {
    int32_t bin = context[j] >> 1, force = zeros[j];
    bin = bin < 0 ? 0 : bin > BINS - 1 ? BINS - 1 : bin;
    context[j] = bin | (known[j] & (GUESS | MOVED)) << 4;
    zeros[j] = known[j] & NEGATIVE ? -force : force;
  }
  for (int64_t j = 0; j < width; j++) {
    expected[j] = table[context[j]];
    int32_t odds = zeros[j] + (expected[j] >> 16);
    odds = odds < -CERTAIN ? -CERTAIN : odds > CERTAIN ? CERTAIN : odds;
    zeros[j] = weights[odds + CERTAIN];
  }
}

/* What the bits of a row of a cell say. */
static void learn_row(struct model *m, int64_t row, int p, int64_t place) {
  int64_t width = m->width[p];
  const int16_t *restrict known = m->known[p] + row * width;
  const int32_t *restrict expected = m->row_expected;
  const int32_t *context = m->context;
  const uint8_t *restrict bits = m->bits;
  int32_t *restrict changed = m->cell_changed;
  int32_t *restrict surprised = m->cell_surprised;
  int32_t *restrict varied = m->cell_varied;
  int32_t changed_of_row = 0;
  int64_t surprise_of_row = 0, variance_of_row = 0;
  if (m->k->offset_count) {
    int8_t *restrict surprises = m->cell_surprise + place;
    int8_t *restrict changes = m->cell_change + place;
    for (int64_t j = 0; j < width; j++) {
      int32_t surprise = 64 * bits[j] - (expected[j] >> 8 & 255);
      int32_t size = surprise < 0 ? -surprise : surprise;
      int32_t is_change = bits[j] ^ (known[j] >> 1 & 1);
      changes[j] = (int8_t)(is_change ? size : -size);
      surprises[j] = (int8_t)(known[j] & NEGATIVE ? -surprise : surprise);
    }
  }
  for (int64_t j = 0; j < width; j++) {
    int32_t is_change = bits[j] ^ (known[j] >> 1 & 1);
    int32_t surprise = 64 * bits[j] - (expected[j] >> 8 & 255);
    int32_t variance = expected[j] & 255;
    surprise = known[j] & NEGATIVE ? -surprise : surprise;
    changed_of_row += is_change;
    surprise_of_row += surprise;
    variance_of_row += variance;
    changed[j] += is_change;
    surprised[j] += surprise;
    varied[j] += variance;
  }
  for (int64_t j = 0; j < width; j++)
    m->counts[j & 1][context[j] << 1 | bits[j]]++;
  m->row.coded[row] += width;
  m->row.changed[row] += changed_of_row;
  m->row.surprise[row] += surprise_of_row;
  m->row.variance[row] += variance_of_row;
}

static int decode_cell(struct model *m, struct words *words,
                       const int32_t *rows, int64_t count, int p,
                       uint8_t *mask) {
  const struct modelled_mask *k = m->k;
  int64_t width = m->width[p];
  uint64_t coded = sum(m->row.coded, k->rows);
  uint64_t changed = sum(m->row.changed, k->rows);
  for (int64_t i = 0; i < count; i++) {
    m->row_scale[i] = scale_of(m, &m->row, rows[i], 1, coded, changed);
    m->row_push[i] = push_of(&m->row, rows[i], 92);
  }
  for (int64_t j = 0; j < width; j++) {
    int64_t column = CLASSES * j + p;
    m->column_scale[j] = scale_of(m, &m->column, column, 0, coded, changed);
    m->column_push[j] = push_of(&m->column, column, 185);
  }
  for (int i = 0; i < 4 * BINS; i++) {
    int32_t odds = clip(logarithm(k->mantissas, m->ones[i]) -
                            logarithm(k->mantissas, m->zeros[i]),
                        -CERTAIN, CERTAIN);
    int32_t share = k->shares[odds + CERTAIN];
    m->expected[i] = odds * 65536 + share * 256 + k->variances[odds + CERTAIN];
  }
  for (int i = 0; i < 8 * BINS; i++) m->counts[0][i] = m->counts[1][i] = 0;
  for (int64_t j = 0; j < width; j++)
    m->cell_changed[j] = m->cell_surprised[j] = m->cell_varied[j] = 0;
  int64_t factor = 0;
  if (k->offset_count) {
    int64_t variance = (int64_t)sum(m->row.variance, k->rows);
    variance = 2 * k->offset_count * variance / (k->rows * k->columns);
    factor = 520 * 256 / (variance + 560);
  }
  for (int64_t i = 0; i < count; i++) {
    uint8_t *of_row = mask + rows[i] * k->columns + p;
    if (k->offset_count) look_beside(m, rows[i], p, factor);
    weigh_row(m, rows[i], p, m->row_scale[i], m->row_push[i]);
    if (!decode_bits(words, m->row_zeros, 1, width, m->bits)) return 0;
    for (int64_t j = 0; j < width; j++) of_row[CLASSES * j] = m->bits[j];
    learn_row(m, rows[i], p, i * width);
  }
  for (int64_t j = 0; j < width; j++) {
    int64_t column = CLASSES * j + p;
    m->column.coded[column] += count;
    m->column.changed[column] += m->cell_changed[j];
    m->column.surprise[column] += m->cell_surprised[j];
    m->column.variance[column] += m->cell_varied[j];
  }
  for (int i = 0; i < 4 * BINS; i++) {
    const int64_t *even = m->counts[0], *odd = m->counts[1];
    m->zeros[i] += (even[2 * i] + odd[2 * i]) * 65536;
    m->ones[i] += (even[2 * i + 1] + odd[2 * i + 1]) * 65536;
  }
  if (k->offset_count)
    for (int64_t i = 0; i < count; i++)
      for (int64_t j = 0; j < width; j++) {
        m->surprise[p][rows[i] * width + j] = m->cell_surprise[i * width + j];
        m->change[p][rows[i] * width + j] = m->cell_change[i * width + j];
      }
  return 1;
}

MPT_KERNEL int32_t decode_modelled_mask(const struct modelled_mask *k,
                                        char *memory, uint8_t *mask) {
  struct model m = {0};
  struct words words;
  count_rows(&m, k->rows);
  lay_out(&m, k, memory);
  know(&m);
  begin_words(&words, k->words, k->bytes);
  int beginning = 1;
  for (int turn = 0; turn < CLASSES; turn++) {
    const int32_t *rows = m.rows;
    for (int number = 0; number < CLASSES; number++) {
      int p = (number + turn) % CLASSES;
      int64_t count = m.row_count[number];
      if (count && m.width[p]) {
        /* Little is known at first: in parts, each twice the one before. */
        int64_t done = 0;
        for (int shift = beginning ? 4 : 0; shift >= 0; shift--) {
          int64_t end = count >> shift;
          if (end > done && !decode_cell(&m, &words, rows + done, end - done, p,
                                         mask))
            return NOT_ENCODED;
          done = end;
        }
        beginning = 0;
      }
      rows += count;
    }
  }
  return end_words(&words);
}

#endif
