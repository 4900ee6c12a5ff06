/** The lines of parallel coordinates: which are drawn, where, in what colours, and which one is near the pointer. */

import type { Axis } from "./axes";
import { ramp } from "./colors";
import { Density, packed, rgbOf } from "./density";
import { escaped, fixed } from "./export";
import { rounded } from "./format";
import { inkOf, type Size } from "./sweepchart";

export const [LEFT, RIGHT, TOP, BOTTOM] = [70, 90, 44, 22];
const SHADES = 24;
/** From so many lines on they are laid over each other pixel by pixel. */
const CROWD = 1_000;
const NEAR = 8;

/** `keep=<axis>~<low>~<high>`, in values of the axis; of a category, its place in order. */
export type Kept = Map<string, [number, number]>;

export function keptOf(text: string): Kept {
  return new Map(text.split("\n").filter(Boolean).flatMap((part) => {
    const [low, high] = part.split("~").slice(-2).map(Number);
    const id = part.split("~").slice(0, -2).join("~");
    return Number.isFinite(low) && Number.isFinite(high) ? [[id, [low, high] as [number, number]] as const] : [];
  }));
}

/** What the address says when another range is kept on an axis, or none. */
export function keep(kept: Kept, id: string, range: [number, number] | null): string[] {
  const next = new Map(kept);
  if (range) next.set(id, [Math.min(...range), Math.max(...range)]);
  else next.delete(id);
  return [...next].map(([axis, [low, high]]) => `${axis}~${Number(low.toPrecision(6))}~${Number(high.toPrecision(6))}`);
}

/** The runs that have a value on every axis. */
export function whole(axes: Axis[], size: number): Int32Array {
  return Int32Array.from({ length: size }, (_, run) => run).filter((run) => axes.every((axis) => Number.isFinite(axis.values[run])));
}

/** Of these the ones within every range that is kept. */
export function inside(axes: Axis[], runs: Int32Array, kept: Kept): Int32Array {
  const ranges = axes.flatMap(({ id, values }) => {
    const range = kept.get(id);
    return range ? [{ values, low: range[0], high: range[1] }] : [];
  });
  return ranges.length ? runs.filter((run) => ranges.every(({ values, low, high }) => values[run]! >= low && values[run]! <= high)) : runs;
}

export function axisX(at: number, of: number, { width }: Size): number {
  return of === 1 ? width / 2 : LEFT + (at * (width - LEFT - RIGHT)) / (of - 1);
}

export function axisY(axis: Axis, value: number, { height }: Size): number {
  return height - BOTTOM - axis.share(value) * (height - TOP - BOTTOM);
}

/** The value at a height, no further than the axis goes. */
export function valueAt(axis: Axis, y: number, { height }: Size): number {
  return axis.value(Math.min(1, Math.max(0, (height - BOTTOM - y) / (height - TOP - BOTTOM))));
}

/** From an axis's lower end to its upper. */
export function shades(): string[] {
  return Array.from({ length: SHADES }, (_, i) => ramp(i / (SHADES - 1)));
}

function shadeOf(axis: Axis, run: number): number {
  return Math.min(SHADES - 1, Math.max(0, Math.round(axis.share(axis.values[run]!) * (SHADES - 1))));
}

function opacity(lines: number): number {
  return Math.max(0.1, Math.min(0.85, 150 / Math.max(1, lines)));
}

/** Every line's heights, axis by axis. */
function heights(axes: Axis[], runs: Int32Array, size: Size): Float32Array[] {
  return axes.map((axis) => Float32Array.from(runs, (run) => axisY(axis, axis.values[run]!, size)));
}

export function paintLines(pen: CanvasRenderingContext2D, size: Size, axes: Axis[], drawn: Int32Array, kin: Int32Array): void {
  const last = axes[axes.length - 1];
  if (!last || axes.length < 2) return;
  const others = kin.length === drawn.length ? new Int32Array() : drawn;
  if (others.length + kin.length > CROWD) {
    const unit = devicePixelRatio;
    const density = new Density(Math.round(size.width * unit), Math.round(size.height * unit), rgbOf(inkOf().ground));
    const gray = packed(rgbOf(inkOf().quiet));
    lay(density, axes, others, size, () => gray, 0.04);
    const colors = shades().map((color) => packed(rgbOf(color)));
    lay(density, axes, kin, size, (run) => colors[shadeOf(last, run)]!, opacity(kin.length));
    density.onto(pen);
    return;
  }
  pen.lineJoin = "round";
  stroke(pen, axes, others, size, () => inkOf().quiet, 0.14);
  const colors = shades();
  stroke(pen, axes, kin, size, (run) => colors[shadeOf(last, run)]!, opacity(kin.length));
}

function lay(density: Density, axes: Axis[], runs: Int32Array, size: Size, color: (run: number) => number, share: number): void {
  const unit = devicePixelRatio;
  const alpha = Math.max(1, Math.round(share * 256));
  const ys = heights(axes, runs, size);
  for (let at = 0; at + 1 < axes.length; at++) {
    const [x0, x1] = [axisX(at, axes.length, size) * unit, axisX(at + 1, axes.length, size) * unit];
    const [from, to] = [ys[at]!, ys[at + 1]!];
    for (let i = 0; i < runs.length; i++) density.line(x0, from[i]! * unit, x1, to[i]! * unit, color(runs[i]!), alpha);
  }
}

function stroke(pen: CanvasRenderingContext2D, axes: Axis[], runs: Int32Array, size: Size, color: (run: number) => string, share: number): void {
  pen.globalAlpha = share;
  pen.lineWidth = 1.2;
  for (const run of runs) {
    pen.strokeStyle = color(run);
    trace(pen, size, axes, run);
  }
  pen.globalAlpha = 1;
}

function trace(pen: CanvasRenderingContext2D, size: Size, axes: Axis[], run: number): void {
  pen.beginPath();
  axes.forEach((axis, at) => pen.lineTo(axisX(at, axes.length, size), axisY(axis, axis.values[run]!, size)));
  pen.stroke();
}

/** The line of one run among all others, which fade. */
export function within(pen: CanvasRenderingContext2D, size: Size, axes: Axis[], run: number): void {
  const { ground, text } = inkOf();
  const last = axes[axes.length - 1]!;
  pen.globalAlpha = 0.6;
  pen.fillStyle = ground;
  pen.fillRect(0, 0, size.width, size.height);
  pen.globalAlpha = 1;
  pen.lineJoin = "round";
  [pen.strokeStyle, pen.lineWidth] = [ground, 6];
  trace(pen, size, axes, run);
  [pen.strokeStyle, pen.lineWidth] = [shades()[shadeOf(last, run)]!, 3];
  trace(pen, size, axes, run);
  pen.fillStyle = text;
  axes.forEach((axis, at) => {
    pen.beginPath();
    pen.arc(axisX(at, axes.length, size), axisY(axis, axis.values[run]!, size), 3.5, 0, 2 * Math.PI);
    pen.fill();
  });
}

/** The run whose line passes the pointer within a few pixels; -1: none does. */
export function lineNear(axes: Axis[], runs: Int32Array, size: Size, x: number, y: number): number {
  if (axes.length < 2) return -1;
  const apart = (size.width - LEFT - RIGHT) / (axes.length - 1);
  const place = (x - LEFT) / apart;
  if (place < -0.1 || place > axes.length - 0.9) return -1;
  const at = Math.min(axes.length - 2, Math.max(0, Math.floor(place)));
  const share = Math.min(1, Math.max(0, place - at));
  const [left, right] = [axes[at]!, axes[at + 1]!];
  let [best, distance] = [-1, Infinity];
  for (const run of runs) {
    const [y0, y1] = [axisY(left, left.values[run]!, size), axisY(right, right.values[run]!, size)];
    const slope = (y1 - y0) / apart;
    const away = Math.abs(y0 + (y1 - y0) * share - y) / Math.sqrt(1 + slope * slope);
    if (away < distance) [best, distance] = [run, away];
  }
  return distance <= NEAR ? best : -1;
}

export function svgOf(size: Size, axes: Axis[], drawn: Int32Array, kin: Int32Array): string {
  const last = axes[axes.length - 1]!;
  const colors = shades();
  const { width, height } = size;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="system-ui, sans-serif" font-size="11" fill="#333">`,
    '<rect width="100%" height="100%" fill="#fff"/>',
  ];
  const line = (run: number): string => axes.map((axis, at) => `${at ? "L" : "M"}${fixed(axisX(at, axes.length, size))} ${fixed(axisY(axis, axis.values[run]!, size))}`).join("");
  if (kin.length < drawn.length) parts.push(`<g fill="none" stroke="#888" stroke-opacity="0.06">${Array.from(drawn, (run) => `<path d="${line(run)}"/>`).join("")}</g>`);
  parts.push(`<g fill="none" stroke-opacity="${opacity(kin.length).toFixed(2)}">${Array.from(kin, (run) => `<path d="${line(run)}" stroke="${colors[shadeOf(last, run)]}"/>`).join("")}</g>`);
  axes.forEach((axis, at) => {
    const x = axisX(at, axes.length, size);
    parts.push(`<path d="M${fixed(x)} ${TOP}V${height - BOTTOM}" stroke="#555"/>`);
    parts.push(`<text x="${fixed(x)}" y="${TOP - 16}" text-anchor="middle" font-weight="600">${escaped(axis.title)}${axis.log ? " (log)" : ""}</text>`);
    const ends: [number, number][] = [[axis.range[0], height - BOTTOM], [axis.range[1], TOP + 8]];
    const marks = axis.categories ? axis.categories.slice(0, 40).map((text, i): [string, number] => [text, axisY(axis, i, size) + 4]) : ends.map(([value, y]): [string, number] => [rounded(value), y]);
    for (const [text, y] of marks) parts.push(`<text x="${fixed(x - 6)}" y="${fixed(y)}" text-anchor="end">${escaped(text)}</text>`);
  });
  return `${parts.join("\n")}</svg>`;
}
