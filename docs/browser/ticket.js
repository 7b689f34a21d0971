/** A network as WebAssembly: its C file, compiled, with all weights in it. */

const CLASSES = 10;
// Clocks of browsers are coarse: milliseconds that one timing takes, and how
// many of them the median is of.
const TIMING = 4;
const TIMINGS = 9;
// A module that has but the type of a function which returns a vector.
const SIMD = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123);

/** Loads a network.

    @param url Of the WebAssembly file.
    @return `Ticket`
    @throws `Error` whose message is a line for the visitor. */
export async function load(url) {
  if (typeof WebAssembly !== "object") {
    throw new Error("This browser has no WebAssembly, which the ticket " +
      "runs on.");
  }
  if (!WebAssembly.validate(SIMD)) {
    throw new Error("This browser's WebAssembly has no vectors (SIMD), which " +
      "the ticket computes with. Newer ones have them.");
  }
  const name = url.pathname.split("/").at(-1);
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) {
    const why = response ? `status ${response.status}` : "no answer";
    throw new Error(`The ticket could not be loaded (${name}: ${why}). ` +
      "Please load the page again.");
  }
  try {
    const bytes = await response.arrayBuffer();
    const { instance } = await WebAssembly.instantiate(bytes);
    return new Ticket(instance.exports);
  } catch (error) {
    throw new Error(`The ticket does not run here (${name}: ` +
      `${error.message}).`);
  }
}

/** `void predict(const float *input, float *output)`, and its memory. */
class Ticket {
  #predict;
  #memory;
  #input;

  constructor({ predict, memory, __heap_base: heap }) {
    // Behind all that the file itself needs.
    this.#input = heap.value;
    this.#memory = memory;
    this.#predict = predict;
    const end = heap.value + 4 * (64 + CLASSES);
    const missing = end - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / 2 ** 16));
  }

  /** @param image 64 numbers of 0 to 16, row by row.
      @return Logits of the ten digits. */
  logits(image) {
    const output = this.#put(image);
    this.#predict(this.#input, output);
    return new Float32Array(this.#memory.buffer, output, CLASSES).slice();
  }

  /** @return Microseconds that one answer takes: the median of some. */
  microseconds(image) {
    const output = this.#put(image);
    const time = (count) => {
      const begin = performance.now();
      for (let i = 0; i < count; i++) this.#predict(this.#input, output);
      return performance.now() - begin;
    };
    let count = 1;
    while (time(count) < TIMING) count *= 2;
    const times = Array.from({ length: TIMINGS }, () => time(count));
    times.sort((one, other) => one - other);
    return times[Math.floor(TIMINGS / 2)] / count * 1000;
  }

  /** Puts the image into the memory; returns where the output belongs. */
  #put(image) {
    new Float32Array(this.#memory.buffer, this.#input, 64).set(image);
    return this.#input + 4 * 64;
  }
}
