/** What the visitor sees and does. */

import { imageOf } from "./bitmap.js";
import { Drawing } from "./drawing.js";
import { network } from "./network.js";
import { load } from "./ticket.js";

const find = (id) => document.getElementById(id);
const number = (value, digits = 0) => value.toLocaleString("en", {
  minimumFractionDigits: digits,
  maximumFractionDigits: digits,
});
// With a space at which no line ends.
const percent = (share, digits) => `${number(100 * share, digits)}\u00a0%`;

const pictures = [...network.examples];
const rows = Array.from({ length: 10 }, (_, digit) => scoreRow(digit));
let ticket;
let seen = new Uint8Array(64);

function scoreRow(digit) {
  const row = document.createElement("li");
  row.innerHTML = `<span>${digit}</span><span class="bar"></span><b></b>`;
  find("scores").append(row);
  return row;
}

/** Shares of the ten digits, 1 together. */
function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = [...logits].map((logit) => Math.exp(logit - largest));
  const sum = powers.reduce((one, other) => one + other);
  return powers.map((power) => power / sum);
}

function classify(image) {
  const logits = ticket.logits(image);
  return { digit: logits.indexOf(Math.max(...logits)), logits };
}

function show(image, { digit, logits }) {
  paint(image);
  softmax(logits).forEach((share, i) => {
    rows[i].style.setProperty("--share", share);
    rows[i].classList.toggle("best", i === digit);
    rows[i].lastChild.textContent = percent(share);
  });
  find("digit").textContent = digit;
}

function showNothing() {
  paint(new Uint8Array(64));
  for (const row of rows) {
    row.style.setProperty("--share", 0);
    row.classList.remove("best");
    row.lastChild.textContent = "";
  }
  find("digit").textContent = "";
  find("answer").textContent = "";
}

/** The 8 x 8 pixels, in the colour of the text. */
function paint(image) {
  seen = image;
  const canvas = find("seen");
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, 8, 8);
  pen.fillStyle = getComputedStyle(canvas).color;
  image.forEach((value, place) => {
    pen.globalAlpha = value / 16;
    pen.fillRect(place % 8, Math.floor(place / 8), 1, 1);
  });
}

/** Says the answer, and how long it took. */
function tell(image, { digit, logits }, written = "") {
  const share = percent(Math.max(...softmax(logits)));
  find("answer").textContent = `The ticket reads ${digit} (${share})${written}.`;
  const time = ticket.microseconds(image);
  find("time").textContent = `${number(time, time < 100 ? 1 : 0)} µs`;
}

function answer(drawing, isWhole) {
  const image = imageOf(drawing.strokes);
  const found = classify(image);
  show(image, found);
  if (isWhole) tell(image, found);
}

/** A digit that was held out, for those who cannot draw. */
function showExample(drawing) {
  const [label, text] = pictures.shift();
  pictures.push([label, text]);
  const image = Uint8Array.from(text, (letter) => parseInt(letter, 17));
  drawing.clear();
  const found = classify(image);
  show(image, found);
  tell(image, found, `; it was written as ${label}`);
}

/** Bytes of all that was loaded, as the browser counts them. */
function showBytes() {
  const entries = ["navigation", "resource"].flatMap((kind) =>
    performance.getEntriesByType(kind));
  const bytes = (some) => some.reduce((sum, one) =>
    sum + one.encodedBodySize, 0);
  const of = entries.filter(({ name }) => name.endsWith(".wasm"));
  find("loaded").textContent = number(bytes(entries));
  find("wasm").textContent = number(bytes(of));
  find("rest").textContent = number(bytes(entries) - bytes(of));
}

function fail(message) {
  find("error").textContent = message;
  find("error").hidden = false;
  find("board").hidden = find("took").hidden = true;
}

async function start() {
  find("name").textContent = network.name;
  find("kept").textContent = number(network.kept);
  find("weights").textContent = number(network.weights);
  find("file").textContent = number(network.bytes);
  find("tables").textContent = number(network.tables);
  find("accuracy").textContent =
    `${percent(network.correct / network.heldOut, 1)} of ` +
    `${network.heldOut} digits`;
  try {
    ticket = await load(new URL("ticket.wasm", import.meta.url));
  } catch (error) {
    fail(error.message);
    return;
  }
  const drawing = new Drawing(find("paper"), (isWhole) =>
    answer(drawing, isWhole));
  find("clear").addEventListener("click", () => {
    drawing.clear();
    showNothing();
  });
  find("example").addEventListener("click", () => showExample(drawing));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    drawing.draw();
    paint(seen);
  });
  find("board").inert = false;
  new PerformanceObserver(showBytes).observe({ type: "resource", buffered: true });
  addEventListener("load", showBytes);
  showBytes();
  // For tests, and for the curious.
  window.ticket = { classify, imageOf };
}

await start();
