/**
 * A pen that sets pixels: for so many lines that a canvas's strokes, which are made smooth at their edges,
 * take a second where no graphics card helps.  Lines only; each is one pixel wide.
 */

import type { Pen } from "./draw";

/** A pixel in the integers that lines are drawn with, and what their rounding may sum up to along a line. */
const FIXED = 1 << 16;
const EDGE = 0.05;

export class RasterPen implements Pen {
  strokeStyle: string | CanvasGradient | CanvasPattern = "#000000";
  fillStyle: string | CanvasGradient | CanvasPattern = "";
  lineWidth = 1;
  globalAlpha = 1;
  private readonly pixels: Int32Array;
  private color = 0;
  private x = 0;
  private y = 0;

  /** The picture has its upper left corner at `left`, `top` of what is drawn. */
  constructor(private readonly left: number, private readonly top: number, private readonly width: number, private readonly height: number) {
    this.pixels = new Int32Array(width * height);
  }

  beginPath(): void {
    const hex = parseInt(String(this.strokeStyle).slice(1), 16);
    const alpha = Math.round(this.globalAlpha * 255);
    this.color = (alpha << 24) | ((hex & 0xff) << 16) | (hex & 0xff00) | (hex >> 16);
  }

  moveTo(x: number, y: number): void {
    this.x = x - this.left;
    this.y = y - this.top;
  }

  /** From where the pen is, a pixel for each step along the longer side; cut to the picture first. */
  lineTo(x: number, y: number): void { // fifteen million pixels are set here at once: no arrays, no closures
    const x0 = this.x;
    const y0 = this.y;
    const dx = x - this.left - x0;
    const dy = y - this.top - y0;
    this.x = x0 + dx;
    this.y = y0 + dy;
    const right = this.width - EDGE;
    const bottom = this.height - EDGE;
    let from = 0;
    let to = 1;
    if (dx !== 0) {
      from = Math.max(from, Math.min(-x0 / dx, (right - x0) / dx));
      to = Math.min(to, Math.max(-x0 / dx, (right - x0) / dx));
    } else if (x0 < 0 || x0 > right) return;
    if (dy !== 0) {
      from = Math.max(from, Math.min(-y0 / dy, (bottom - y0) / dy));
      to = Math.min(to, Math.max(-y0 / dy, (bottom - y0) / dy));
    } else if (y0 < 0 || y0 > bottom) return;
    if (!(from <= to)) return;
    const long = Math.max(Math.abs(dx), Math.abs(dy)) * (to - from);
    this.set(x0 + dx * from, y0 + dy * from, dx * (to - from), dy * (to - from), Math.max(1, Math.ceil(long)));
  }

  private set(x: number, y: number, dx: number, dy: number, steps: number): void {
    const pixels = this.pixels;
    const width = this.width;
    const color = this.color;
    const sx = ((dx / steps) * FIXED) | 0;
    const sy = ((dy / steps) * FIXED) | 0;
    let fx = (x * FIXED) | 0;
    let fy = (y * FIXED) | 0;
    for (let i = 0; i <= steps; i++, fx += sx, fy += sy) pixels[Math.imul(fy >> 16, width) + (fx >> 16)] = color;
  }

  stroke(): void {}
  fill(): void {}
  setLineDash(): void {}

  /** What was drawn, to be laid over a canvas. */
  picture(): HTMLCanvasElement {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [this.width, this.height];
    const bytes = new Uint8ClampedArray(this.pixels.buffer as ArrayBuffer);
    canvas.getContext("2d")!.putImageData(new ImageData(bytes, this.width, this.height), 0, 0);
    return canvas;
  }
}
