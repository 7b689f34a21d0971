/** Strokes become images as the data set has them.

    Its makers (Alpaydin and Kaynak, 1998) took the programs of NIST's
    form-based handprint recognition system (NISTIR 5469, 1994): what is inked
    is stretched to 20 x 32 pixels in the middle of 32 x 32; where there is
    much ink or little, lines are made thinner or thicker; then rows are moved
    until the digit is upright. The makers counted the pixels inked in blocks
    of 4 x 4. */

const SIDE = 32;
const WIDTH = 20;
const BLOCK = 4;
// Width of the pen, as a share of the larger side of what is drawn: then as
// much is inked as in the data set, three tenths of all pixels.
const PEN = 1 / 7;
// Inked pixels: above these numbers a pixel's edge is taken away from the
// lines, below these one is added; once for each number.
const TOO_MANY = [412, 560];
const TOO_FEW = [256, 108];
// Rows at the top and at the bottom that say nothing of the slant.
const RAGGED = 2;

/** The 64 numbers that a network sees, each of 0 to 16.

    @param strokes Lists of points `[x, y]`, y downwards, in any unit.
    @return `Uint8Array`, row by row; zeros where nothing is drawn. */
export function imageOf(strokes) {
  return countsOf(bitmapOf(strokes));
}

/** 32 x 32 numbers 0 and 1, row by row. */
export function bitmapOf(strokes) {
  const points = strokes.flat();
  let bits = new Uint8Array(SIDE * SIDE);
  if (!points.length) return bits;
  const [left, right] = ends(points.map(([x]) => x));
  const [top, bottom] = ends(points.map(([, y]) => y));
  const radius = (Math.max(right - left, bottom - top) || 1) * PEN / 2;
  const lines = strokes.flatMap(segmentsOf);
  const across = (right - left + 2 * radius) / WIDTH;
  const down = (bottom - top + 2 * radius) / SIDE;
  for (let row = 0; row < SIDE; row++) {
    const y = top - radius + (row + 0.5) * down;
    for (let column = 0; column < WIDTH; column++) {
      const x = left - radius + (column + 0.5) * across;
      const place = row * SIDE + column + (SIDE - WIDTH) / 2;
      if (lines.some((segment) => distance(x, y, segment) <= radius)) {
        bits[place] = 1;
      }
    }
  }
  const inked = bits.reduce((sum, bit) => sum + bit);
  for (const most of TOO_MANY) if (inked > most) bits = thinner(bits);
  for (const least of TOO_FEW) if (inked < least) bits = thicker(bits);
  return upright(bits);
}

function countsOf(bits) {
  const blocks = SIDE / BLOCK;
  const counts = new Uint8Array(blocks * blocks);
  bits.forEach((bit, place) => {
    const row = Math.floor(place / SIDE / BLOCK);
    const column = Math.floor((place % SIDE) / BLOCK);
    counts[row * blocks + column] += bit;
  });
  return counts;
}

function ends(numbers) {
  return [Math.min(...numbers), Math.max(...numbers)];
}

/** Pairs of points; of one point alone, a dot. */
function segmentsOf(stroke) {
  return stroke.map((point, i) => [stroke[Math.max(0, i - 1)], point]);
}

function distance(x, y, [[fromX, fromY], [toX, toY]]) {
  const alongX = toX - fromX;
  const alongY = toY - fromY;
  const square = alongX * alongX + alongY * alongY;
  const share = square &&
    ((x - fromX) * alongX + (y - fromY) * alongY) / square;
  const near = Math.min(1, Math.max(0, share));
  return Math.hypot(x - fromX - near * alongX, y - fromY - near * alongY);
}

/** Pixels stay whose four neighbours are all inked. */
function thinner(bits) {
  return bits.map((bit, place) => bit && +neighbours(bits, place).every(Boolean));
}

/** Pixels are added that have a neighbour. */
function thicker(bits) {
  return bits.map((bit, place) => bit || +neighbours(bits, place).some(Boolean));
}

/** Moves rows so that the digit begins as far left at its top as below. */
function upright(bits) {
  const rows = Array.from({ length: SIDE }, (_, row) =>
    bits.subarray(row * SIDE, (row + 1) * SIDE));
  const isInked = (row) => row.includes(1);
  const top = rows.findIndex(isInked) + RAGGED;
  const bottom = rows.findLastIndex(isInked) - RAGGED;
  if (bottom <= top) return bits;
  const [above, below] = [top, bottom].map((row) => rows[row].indexOf(1));
  if (above < 0 || below < 0) return bits;
  const slant = (above - below) / (bottom - top);
  const moved = new Uint8Array(bits.length);
  rows.forEach((pixels, row) => {
    const shift = rounded((row - SIDE / 2) * slant);
    pixels.forEach((bit, column) => {
      const to = column + shift;
      if (to >= 0 && to < SIDE) moved[row * SIDE + to] = bit;
    });
  });
  return moved;
}

function rounded(value) {
  return Math.sign(value) * Math.round(Math.abs(value));
}

function neighbours(bits, place) {
  const column = place % SIDE;
  return [
    bits[place - SIDE] ?? 0,
    bits[place + SIDE] ?? 0,
    column > 0 ? bits[place - 1] : 0,
    column < SIDE - 1 ? bits[place + 1] : 0,
  ];
}
