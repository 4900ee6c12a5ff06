/** Paths onto a canvas (or onto anything that has the same five words). */

import { colorOf, dashOf } from "./colors";
import type { Band, Path } from "./lines";

export interface Pen {
  beginPath(): void;
  moveTo(x: number, y: number): void;
  lineTo(x: number, y: number): void;
  stroke(): void;
  fill(): void;
  setLineDash(dash: number[]): void;
  strokeStyle: string | CanvasGradient | CanvasPattern;
  fillStyle: string | CanvasGradient | CanvasPattern;
  lineWidth: number;
  globalAlpha: number;
}

export interface Place {
  x(value: number): number;
  y(value: number): number;
  logX: boolean;
  logY: boolean;
  /** The plotting area, in the units of x and y. */
  box: { left: number; top: number; width: number; height: number };
  unit: number;
}

export interface Look {
  smoothing: boolean;
  strong: boolean;
}

/** From so many points on a chart is crowded. */
const CROWD = 20_000;

export function isCrowded(paths: Path[]): boolean {
  return paths.reduce((sum, path) => sum + path.xs.length, 0) > CROWD;
}

/** Longer lines are drawn without dashes: on noise nobody sees them, and they take seconds. */
const MOST_DASHED = 1_000;

export function drawPath(pen: Pen, path: Path, place: Place, { strong, smoothing }: Look): void {
  const smooth = smoothing ? path.smooth : null;
  ink(pen, path);
  const dash = path.xs.length > MOST_DASHED ? [] : dashOf(path.line.color);
  pen.setLineDash(dash.map((n) => n * place.unit));
  pen.lineWidth = (smooth ? 1 : strong ? 2.4 : 1.4) * place.unit;
  pen.globalAlpha = smooth ? BEHIND : 1;
  stroke(pen, path, path.ys, place);
  pen.globalAlpha = 1;
  if (smooth) {
    pen.lineWidth = (strong ? 2.6 : 1.8) * place.unit;
    stroke(pen, path, smooth, place, true);
  }
  pen.setLineDash([]);
  marks(pen, path, place);
}

/** The raw values of a crowd of lines. */
export function drawCrowd(pen: Pen, paths: Path[], place: Place, smoothing: boolean): void {
  pen.globalAlpha = smoothing ? BEHIND : 1;
  for (const path of paths) {
    ink(pen, path);
    stroke(pen, path, path.ys, place);
  }
}

/** What stands above a crowd: its means, and what is not finite. */
export function drawAbove(pen: Pen, paths: Path[], place: Place, smoothing: boolean): void {
  for (const path of paths) {
    ink(pen, path);
    pen.lineWidth = 1.4 * place.unit;
    if (smoothing && path.smooth) stroke(pen, path, path.smooth, place, true);
    marks(pen, path, place);
  }
}

/** Of what lies behind its smoothed mean. */
const BEHIND = 0.38;

function ink(pen: Pen, path: Path): void {
  pen.strokeStyle = pen.fillStyle = colorOf(path.line.color);
}

/** `skip`: what is NaN is not drawn rather than a gap, as extremes have no smoothed value. */
function stroke(pen: Pen, path: Path, ys: Float64Array, place: Place, skip = false): void {
  const { left, width } = place.box;
  const [first, last] = [left - width, left + 2 * width];
  let down = false;
  let alone = false;
  let drawn = 0;
  let lastX = 0;
  let lastY = 0;
  pen.beginPath();
  const [begin, end] = path.ascending && !place.logX ? seen(path, place, skip) : [0, ys.length];
  for (let i = begin; i < end; i++) {
    const x = path.xs[i]!;
    const y = ys[i]!;
    if (skip && Number.isNaN(y)) continue;
    if (path.lifts[i]) down = false;
    const ok = Number.isFinite(x) && Number.isFinite(y) &&
      !(place.logX && x <= 0) && !(place.logY && y <= 0);
    if (!ok) {
      if (alone) dot(pen, lastX, lastY, place.unit);
      down = alone = false;
      continue;
    }
    const px = Math.min(Math.max(place.x(x), first), last);
    const py = place.y(y);
    if (down) {
      pen.lineTo(px, py);
      alone = false;
    } else {
      if (alone) dot(pen, lastX, lastY, place.unit);
      pen.moveTo(px, py);
      alone = true;
    }
    down = true;
    lastX = px;
    lastY = py;
    drawn++;
  }
  if (alone && drawn) dot(pen, lastX, lastY, place.unit);
  pen.stroke();
}

/** The places from and up to which an ascending path is in view; of a mean, whose points are fewer, a little more. */
function seen({ xs }: Path, { x, box }: Place, skip: boolean): [number, number] {
  const more = skip ? 5 : 1;
  const before = (at: number): number => {
    let [low, high] = [0, xs.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (x(xs[middle]!) < at) low = middle + 1;
      else high = middle;
    }
    return low;
  };
  return [Math.max(0, before(box.left) - more), Math.min(xs.length, before(box.left + box.width) + more)];
}

/** A point without neighbours would draw nothing. */
function dot(pen: Pen, x: number, y: number, unit: number): void {
  pen.moveTo(x - 2 * unit, y);
  pen.lineTo(x + 2 * unit, y);
  pen.moveTo(x, y - 2 * unit);
  pen.lineTo(x, y + 2 * unit);
}

/** What is not finite stands at the edge: +inf at the top, -inf and NaN (a cross) at the bottom. */
function marks(pen: Pen, path: Path, { x, box, unit }: Place): void {
  let before = -Infinity;
  pen.lineWidth = 1.4 * unit;
  for (let i = 0; i < path.ys.length; i++) {
    const y = path.ys[i]!;
    if (Number.isFinite(y) || !Number.isFinite(path.xs[i])) continue;
    const at = x(path.xs[i]!);
    if (at < box.left || at > box.left + box.width || Math.abs(at - before) < 3 * unit) continue;
    before = at;
    const size = 3.5 * unit;
    const edge = y === Infinity ? box.top + size : box.top + box.height - size;
    pen.beginPath();
    if (Number.isNaN(y)) {
      pen.moveTo(at - size, edge - size);
      pen.lineTo(at + size, edge + size);
      pen.moveTo(at - size, edge + size);
      pen.lineTo(at + size, edge - size);
      pen.stroke();
    } else {
      const away = y > 0 ? size : -size;
      pen.moveTo(at, edge - away);
      pen.lineTo(at + size, edge + away);
      pen.lineTo(at - size, edge + away);
      pen.fill();
    }
  }
}

export function drawBand(pen: Pen, band: Band, place: Place): void {
  const kept: number[] = [];
  for (let i = 0; i < band.xs.length; i++) {
    const ok = Number.isFinite(band.mean[i]) && !(place.logX && band.xs[i]! <= 0);
    if (ok && !(place.logY && band.low[i]! <= 0)) kept.push(i);
  }
  pen.strokeStyle = pen.fillStyle = colorOf(band.color);
  pen.globalAlpha = 0.18;
  pen.beginPath();
  kept.forEach((i, n) => to(pen, n, place.x(band.xs[i]!), place.y(band.high[i]!)));
  kept.reverse().forEach((i) => pen.lineTo(place.x(band.xs[i]!), place.y(band.low[i]!)));
  pen.fill();
  pen.globalAlpha = 1;
  pen.lineWidth = 1.8 * place.unit;
  pen.setLineDash(dashOf(band.color).map((n) => n * place.unit));
  pen.beginPath();
  kept.reverse().forEach((i, n) => to(pen, n, place.x(band.xs[i]!), place.y(band.mean[i]!)));
  pen.stroke();
  pen.setLineDash([]);
  pen.globalAlpha = 1;
}

function to(pen: Pen, n: number, x: number, y: number): void {
  if (n) pen.lineTo(x, y);
  else pen.moveTo(x, y);
}
