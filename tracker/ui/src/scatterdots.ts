/** The dots of a scatter: where each run stands, how they are drawn, and which one is near the pointer. */

import type { Axis } from "./axes";
import { Density, packed, rgbOf } from "./density";
import { escaped, fixed } from "./export";
import { ticks } from "./extent";
import { tick } from "./format";
import { inkOf, type Size } from "./sweepchart";

export const [LEFT, RIGHT, TOP, BOTTOM] = [72, 24, 12, 48];
/** Pixels over which the runs of a category are strewn, so that each is seen. */
const JITTER = 64;
const RADIUS = 3.5;
const NEAR = 12;
/** Around the outermost dots. */
const PAD = 0.03;
/** From so many dots on they are laid over each other pixel by pixel. */
const CROWD = 1_000;

export interface Dots {
  runs: Int32Array;
  /** From 0 to 1 across and up; where a category's runs lie within their strip is by chance, but always the same. */
  xs: Float32Array;
  ys: Float32Array;
  strewn: Float32Array;
}

export function dotsOf(x: Axis, y: Axis, size: number): Dots {
  const runs = Int32Array.from({ length: size }, (_, run) => run).filter((run) => Number.isFinite(x.values[run]) && Number.isFinite(y.values[run]));
  return {
    runs, xs: Float32Array.from(runs, (run) => shareOf(x, x.values[run]!)), ys: Float32Array.from(runs, (run) => shareOf(y, y.values[run]!)),
    strewn: Float32Array.from(runs, (run) => (x.categories ? (Math.imul(run + 1, 0x9e3779b1) >>> 8) / 2 ** 24 - 0.5 : 0)),
  };
}

/** Categories stand in the middle of equal strips, numbers reach from edge to edge but for a margin. */
export function shareOf(axis: Axis, value: number): number {
  return axis.categories ? (value + 0.5) / axis.categories.length : PAD + axis.share(value) * (1 - 2 * PAD);
}

export function across(share: number, { width }: Size): number {
  return LEFT + share * (width - LEFT - RIGHT);
}

export function up(share: number, { height }: Size): number {
  return height - BOTTOM - share * (height - TOP - BOTTOM);
}

function jitter(x: Axis, { width }: Size): number {
  return x.categories ? Math.min(JITTER, ((width - LEFT - RIGHT) / x.categories.length) * 0.7) : 0;
}

export function ticksOf(axis: Axis, pixels: number, apart: number): { text: string; share: number }[] {
  if (axis.categories) {
    const every = Math.ceil((axis.categories.length * apart) / pixels);
    return axis.categories.flatMap((text, i) => (i % every ? [] : [{ text, share: shareOf(axis, i) }]));
  }
  return ticks(axis.range, Math.max(2, Math.floor(pixels / apart)), axis.log).map((value) => ({ text: tick(value), share: shareOf(axis, value) }));
}

export function paintDots(pen: CanvasRenderingContext2D, size: Size, x: Axis, y: Axis, { runs, xs, ys, strewn }: Dots): void {
  const { grid, accent, ground } = inkOf();
  const { width, height } = size;
  pen.strokeStyle = grid;
  pen.beginPath();
  for (const { share } of ticksOf(y, height - TOP - BOTTOM, 48)) line(pen, LEFT, up(share, size), width - RIGHT, up(share, size));
  for (const { share } of ticksOf(x, width - LEFT - RIGHT, 80)) line(pen, across(share, size), TOP, across(share, size), height - BOTTOM);
  pen.stroke();
  const wide = jitter(x, size);
  const opacity = Math.max(0.2, Math.min(0.8, 300 / Math.max(1, runs.length)));
  if (runs.length > CROWD) {
    const unit = devicePixelRatio;
    const density = new Density(Math.round(width * unit), Math.round(height * unit), rgbOf(ground));
    const color = packed(rgbOf(accent));
    for (let i = 0; i < runs.length; i++) {
      density.dot((across(xs[i]!, size) + strewn[i]! * wide) * unit, up(ys[i]!, size) * unit, RADIUS * unit, color, Math.round(opacity * 256));
    }
    density.onto(pen);
    return;
  }
  pen.fillStyle = accent;
  pen.globalAlpha = opacity;
  for (let i = 0; i < runs.length; i++) disc(pen, across(xs[i]!, size) + strewn[i]! * wide, up(ys[i]!, size), RADIUS);
  pen.globalAlpha = 1;
}

function line(pen: CanvasRenderingContext2D, x0: number, y0: number, x1: number, y1: number): void {
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
}

function disc(pen: CanvasRenderingContext2D, x: number, y: number, radius: number): void {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}

/** One dot stands out. */
export function markDot(pen: CanvasRenderingContext2D, size: Size, x: Axis, dots: Dots, place: number): void {
  const { ground, text } = inkOf();
  const [left, top] = [across(dots.xs[place]!, size) + dots.strewn[place]! * jitter(x, size), up(dots.ys[place]!, size)];
  pen.fillStyle = ground;
  disc(pen, left, top, RADIUS + 4);
  pen.fillStyle = text;
  disc(pen, left, top, RADIUS + 2);
}

/** The place among the dots of the one that is nearest to the pointer; -1: none is near. */
export function dotNear(x: Axis, { xs, ys, strewn }: Dots, size: Size, left: number, top: number): number {
  const wide = jitter(x, size);
  let [best, distance] = [-1, NEAR * NEAR];
  for (let i = 0; i < xs.length; i++) {
    const dx = across(xs[i]!, size) + strewn[i]! * wide - left;
    const dy = up(ys[i]!, size) - top;
    const away = dx * dx + dy * dy;
    if (away < distance) [best, distance] = [i, away];
  }
  return best;
}

export function svgOf(size: Size, x: Axis, y: Axis, dots: Dots): string {
  const { width, height } = size;
  const wide = jitter(x, size);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="system-ui, sans-serif" font-size="11" fill="#333">`,
    '<rect width="100%" height="100%" fill="#fff"/>',
  ];
  for (const { text, share } of ticksOf(y, height - TOP - BOTTOM, 48)) {
    parts.push(`<path d="M${LEFT} ${fixed(up(share, size))}H${width - RIGHT}" stroke="#ddd"/><text x="${LEFT - 6}" y="${fixed(up(share, size) + 4)}" text-anchor="end">${escaped(text)}</text>`);
  }
  for (const { text, share } of ticksOf(x, width - LEFT - RIGHT, 80)) {
    parts.push(`<path d="M${fixed(across(share, size))} ${TOP}V${height - BOTTOM}" stroke="#ddd"/><text x="${fixed(across(share, size))}" y="${height - BOTTOM + 15}" text-anchor="middle">${escaped(text)}</text>`);
  }
  const circles = Array.from(dots.runs, (_, i) => `<circle cx="${fixed(across(dots.xs[i]!, size) + dots.strewn[i]! * wide)}" cy="${fixed(up(dots.ys[i]!, size))}" r="${RADIUS}"/>`);
  parts.push(`<g fill="#3b6fb5" fill-opacity="0.5">${circles.join("")}</g>`);
  parts.push(`<text x="${(LEFT + width - RIGHT) / 2}" y="${height - 10}" text-anchor="middle" font-size="12">${escaped(x.title)}${x.log ? " (log)" : ""}</text>`);
  parts.push(`<text transform="translate(14 ${(TOP + height - BOTTOM) / 2}) rotate(-90)" text-anchor="middle" font-size="12">${escaped(y.title)}${y.log ? " (log)" : ""}</text>`);
  return `${parts.join("\n")}</svg>`;
}
