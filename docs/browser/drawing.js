/** Strokes on a canvas, by mouse, finger or pen. */

// Width of a line, the canvas being 1 wide.
const LINE = 0.08;
// Points that lie closer than this to the last one are left out.
const STEP = 1 / 256;

export class Drawing {
  /** Lists of points `[x, y]`, the canvas being 1 wide and high. */
  strokes = [];
  #canvas;
  #changed;
  #pointer = null;

  /** @param canvas Square `<canvas>`.
      @param changed Called with whether the stroke has ended. */
  constructor(canvas, changed) {
    this.#canvas = canvas;
    this.#changed = changed;
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => this.#end(event));
    }
  }

  clear() {
    this.strokes = [];
    this.#pointer = null;
    this.draw();
  }

  draw() {
    const pen = this.#canvas.getContext("2d");
    const side = this.#canvas.width;
    pen.clearRect(0, 0, side, side);
    pen.strokeStyle = getComputedStyle(this.#canvas).color;
    pen.lineWidth = LINE * side;
    pen.lineCap = pen.lineJoin = "round";
    for (const stroke of this.strokes) {
      pen.beginPath();
      // Its first point twice, so that a dot is a line, too.
      for (const [x, y] of [stroke[0], ...stroke]) {
        pen.lineTo(x * side, y * side);
      }
      pen.stroke();
    }
  }

  #begin(event) {
    if (event.button !== 0 || this.#pointer !== null) return;
    event.preventDefault();
    this.#canvas.setPointerCapture(event.pointerId);
    this.#pointer = event.pointerId;
    this.strokes.push([]);
    this.#add([event]);
  }

  #move(event) {
    if (event.pointerId !== this.#pointer) return;
    const all = event.getCoalescedEvents?.() ?? [];
    this.#add(all.length ? all : [event]);
  }

  #end(event) {
    if (event.pointerId !== this.#pointer) return;
    this.#pointer = null;
    this.#changed(true);
  }

  #add(events) {
    const box = this.#canvas.getBoundingClientRect();
    const stroke = this.strokes.at(-1);
    for (const { clientX, clientY } of events) {
      const x = (clientX - box.left) / box.width;
      const y = (clientY - box.top) / box.height;
      const [lastX, lastY] = stroke.at(-1) ?? [-1, -1];
      if (Math.hypot(x - lastX, y - lastY) >= STEP) stroke.push([x, y]);
    }
    this.draw();
    this.#changed(false);
  }
}
