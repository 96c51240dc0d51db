// SPDX-License-Identifier: Apache-2.0
/** @file The picture of the windows: a cell each, coloured by residue, damaged ones ringed. */

const MODULUS = 96;
const CELLS = [22, 16, 12, 8, 6, 4, 3, 2, 1]; // sizes in CSS pixels, the largest that fits is taken
const HEIGHT = 260;

/** @param {number} residue */
function colour(residue) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  if (residue === 0) return dark ? "#ffffff" : "#000000";
  return `oklch(${dark ? 0.72 : 0.68} 0.13 ${(20 + (residue * 320) / MODULUS).toFixed(1)})`;
}

/**
 * A canvas with the pixels of the screen, and its drawing in CSS pixels.
 * @param {HTMLCanvasElement} canvas
 * @param {number} height
 */
function prepared(canvas, height) {
  const width = canvas.clientWidth;
  const scale = devicePixelRatio;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.height = `${height}px`;
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.scale(scale, scale);
  return { pen, width };
}

export class WindowMap {
  #canvas;
  /** @type {Uint8Array} */
  #residues = new Uint8Array();
  /** @type {number[]} */
  #damaged = [];
  #selected = 0;
  #cell = 1;
  #columns = 1;
  #together = 1; // windows a cell, where there are more windows than room

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {(window: number) => void} onSelect
   */
  constructor(canvas, onSelect) {
    this.#canvas = canvas;
    const select = (/** @type {number} */ window) => {
      const last = this.#residues.length - 1;
      this.#selected = Math.min(Math.max(window, 0), Math.max(last, 0));
      this.draw();
      onSelect(this.#selected);
    };
    canvas.addEventListener("click", (event) => {
      const column = Math.min(Math.floor(event.offsetX / this.#cell), this.#columns - 1);
      const row = Math.floor(event.offsetY / this.#cell);
      select((row * this.#columns + column) * this.#together);
    });
    canvas.addEventListener("keydown", (event) => {
      const row = this.#columns * this.#together;
      const steps = new Map([
        ["ArrowLeft", -this.#together],
        ["ArrowRight", this.#together],
        ["ArrowUp", -row],
        ["ArrowDown", row],
        ["PageUp", -10 * row],
        ["PageDown", 10 * row],
        ["Home", -Infinity],
        ["End", Infinity],
      ]);
      const step = steps.get(event.key);
      if (step === undefined) return;
      event.preventDefault();
      select(this.#selected + step);
    });
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement ?? canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** How many windows a cell stands for. */
  get together() {
    return this.#together;
  }

  /**
   * @param {Uint8Array} residues
   * @param {number[]} damaged
   * @param {number} selected
   */
  show(residues, damaged, selected) {
    this.#residues = residues;
    this.#damaged = damaged;
    this.#selected = selected;
    this.draw();
  }

  /** Draws it anew, for example after the page got another width. */
  draw() {
    const count = this.#residues.length;
    const room = this.#canvas.clientWidth;
    if (room === 0) return;
    const fits = (/** @type {number} */ cell) =>
      Math.ceil(count / Math.floor(room / cell)) * cell <= HEIGHT;
    this.#cell = CELLS.find(fits) ?? 1;
    this.#columns = Math.max(1, Math.floor(room / this.#cell));
    if (this.#cell > 3) this.#cell = room / this.#columns; // to the edge, where nobody sees the rest
    this.#together = Math.max(1, Math.ceil(count / (this.#columns * HEIGHT)));
    const cells = Math.ceil(count / this.#together);
    const rows = Math.max(1, Math.ceil(cells / this.#columns));
    const cell = this.#cell;
    const { pen } = prepared(this.#canvas, Math.max(rows * cell, cell) + 2);
    const colours = Array.from({ length: MODULUS }, (_, residue) => colour(residue));
    const gap = cell > 3 ? 1 : 0;
    pen.globalAlpha = this.#damaged.length > 0 ? 0.3 : 1; // all others step back
    for (let i = 0; i < cells; i++) {
      const [x, y] = this.#place(i);
      pen.fillStyle = colours[this.#residues[i * this.#together]];
      pen.fillRect(x, y, cell - gap, cell - gap);
    }
    pen.globalAlpha = 1;
    const style = getComputedStyle(this.#canvas);
    this.#ring(pen, this.#selected, style.getPropertyValue("--text"), 2);
    for (const window of this.#damaged.slice(0, 1000)) {
      const [x, y] = this.#place(Math.floor(window / this.#together));
      pen.fillStyle = "#e01020";
      pen.fillRect(x, y, cell - gap, cell - gap);
      this.#ring(pen, window, style.getPropertyValue("--card"), 8);
      this.#ring(pen, window, "#e01020", 4);
    }
  }

  /**
   * @param {number} index of the cell
   * @returns {[number, number]}
   */
  #place(index) {
    const row = Math.floor(index / this.#columns);
    return [(index % this.#columns) * this.#cell, row * this.#cell];
  }

  /**
   * @param {CanvasRenderingContext2D} pen
   * @param {number} window
   * @param {string} stroke
   * @param {number} width
   */
  #ring(pen, window, stroke, width) {
    if (this.#residues.length === 0) return;
    const [x, y] = this.#place(Math.floor(window / this.#together));
    const around = Math.max(this.#cell, 9); // so that one of a pixel is seen
    const margin = (around - this.#cell) / 2;
    pen.strokeStyle = stroke;
    pen.lineWidth = width;
    pen.strokeRect(x - margin, y - margin, around - 1, around - 1);
  }
}

/** @param {HTMLCanvasElement} canvas the scale of colours */
export function drawScale(canvas) {
  const { pen, width } = prepared(canvas, canvas.clientHeight);
  for (let residue = 0; residue < MODULUS; residue++) {
    pen.fillStyle = colour(residue);
    pen.fillRect((residue * width) / MODULUS, 0, width / MODULUS + 1, canvas.clientHeight);
  }
}
