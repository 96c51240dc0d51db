// SPDX-License-Identifier: Apache-2.0
/** @file The picture of the windows: a cell each, coloured by residue, damaged ones ringed. */

import { MODULUS } from "../lib/constants.js";

const CELLS = [22, 16, 12, 8, 6, 4, 3, 2, 1]; // sizes in CSS pixels, the largest that fits is taken
const HEIGHT = 260;
const RINGS_MOST = 50; // more of them would hide the picture, and are seen without
const MARGIN = 8; // room for the ring of a window at the edge

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

  #onDraw;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {(window: number) => void} onSelect
   * @param {() => void} onDraw called when it was drawn, and cells may stand for more windows
   */
  constructor(canvas, onSelect, onDraw) {
    this.#canvas = canvas;
    this.#onDraw = onDraw;
    // The margin is beside what surrounds the picture, so that its cells are in line with that.
    canvas.style.marginInline = `-${MARGIN}px`;
    canvas.style.width = `calc(100% + ${2 * MARGIN}px)`;
    const select = (/** @type {number} */ cell) => {
      this.#selected = clamped(cell, this.#cells) * this.#together;
      this.draw();
      onSelect(this.#selected);
    };
    canvas.addEventListener("click", (event) => {
      const column = Math.floor((event.offsetX - MARGIN) / this.#cell);
      const row = Math.floor((event.offsetY - MARGIN) / this.#cell);
      select(Math.max(row, 0) * this.#columns + clamped(column, this.#columns));
    });
    canvas.addEventListener("keydown", (event) => {
      const cell = Math.floor(this.#selected / this.#together);
      const row = Math.floor(cell / this.#columns);
      const below = (/** @type {number} */ rows) =>
        cell + (clamped(row + rows, Math.ceil(this.#cells / this.#columns)) - row) * this.#columns;
      const places = new Map([
        ["ArrowLeft", cell - 1],
        ["ArrowRight", cell + 1],
        ["ArrowUp", below(-1)],
        ["ArrowDown", below(1)],
        ["PageUp", below(-10)],
        ["PageDown", below(10)],
        ["Home", 0],
        ["End", Infinity],
      ]);
      const place = places.get(event.key);
      if (place === undefined) return;
      event.preventDefault();
      select(place);
    });
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement ?? canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  get #cells() {
    return Math.ceil(this.#residues.length / this.#together);
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
    const room = this.#canvas.clientWidth - 2 * MARGIN;
    if (room <= 0) return;
    const fits = (/** @type {number} */ cell) =>
      Math.ceil(count / Math.floor(room / cell)) * cell <= HEIGHT;
    this.#cell = CELLS.find(fits) ?? 1;
    this.#columns = Math.max(1, Math.floor(room / this.#cell));
    if (this.#cell > 3) this.#cell = room / this.#columns; // to the edge, where nobody sees the rest
    this.#together = Math.max(1, Math.ceil(count / (this.#columns * HEIGHT)));
    const rows = Math.max(1, Math.ceil(this.#cells / this.#columns));
    const cell = this.#cell;
    const { pen } = prepared(this.#canvas, rows * cell + 2 * MARGIN);
    const colours = Array.from({ length: MODULUS }, (_, residue) => colour(residue));
    const gap = cell > 3 ? 1 : 0;
    pen.globalAlpha = this.#damaged.length > 0 ? 0.3 : 1; // all others step back
    for (let i = 0; i < this.#cells; i++) {
      const [x, y] = this.#place(i);
      pen.fillStyle = colours[this.#residues[i * this.#together]];
      pen.fillRect(x, y, cell - gap, cell - gap);
    }
    pen.globalAlpha = 1;
    const style = getComputedStyle(this.#canvas);
    const card = style.getPropertyValue("--card");
    this.#ring(pen, this.#selected, card, 7);
    this.#ring(pen, this.#selected, style.getPropertyValue("--text"), 3);
    const damage = style.getPropertyValue("--damage");
    pen.fillStyle = damage;
    for (const window of this.#damaged) {
      const [x, y] = this.#place(Math.floor(window / this.#together));
      pen.fillRect(x, y, cell - gap, cell - gap);
    }
    for (const window of this.#damaged.length <= RINGS_MOST ? this.#damaged : []) {
      this.#ring(pen, window, card, 8);
      this.#ring(pen, window, damage, 4);
    }
    this.#onDraw();
  }

  /**
   * @param {number} index of the cell
   * @returns {[number, number]}
   */
  #place(index) {
    const row = Math.floor(index / this.#columns);
    return [MARGIN + (index % this.#columns) * this.#cell, MARGIN + row * this.#cell];
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

/**
 * The index itself, or the nearest one of `count` items.
 * @param {number} index
 * @param {number} count
 */
function clamped(index, count) {
  return Math.max(0, Math.min(index, count - 1));
}

/** @param {HTMLCanvasElement} canvas the scale of colours, but 0, which has a key of its own */
export function drawScale(canvas) {
  const { pen, width } = prepared(canvas, canvas.clientHeight);
  const step = width / (MODULUS - 1);
  for (let residue = 1; residue < MODULUS; residue++) {
    pen.fillStyle = colour(residue);
    pen.fillRect((residue - 1) * step, 0, step + 1, canvas.clientHeight);
  }
}
