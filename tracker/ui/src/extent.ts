/** What range of values an axis shows. */

import type { Band, Path } from "./lines";

export type Range = [number, number];

export function xExtent(paths: Path[]): Range {
  let [low, high] = [Infinity, -Infinity];
  for (const path of paths) {
    low = Math.min(low, path.low);
    high = Math.max(high, path.high);
  }
  if (low > high) return [0, 1];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

/** All finite values between two x, padded; the extremes of every bucket are among them. */
export function yExtent(paths: Path[], bands: Band[], x: Range, log: boolean): Range {
  let [low, high] = [Infinity, -Infinity];
  const take = (at: number, y: number): void => {
    if (at < x[0] || at > x[1] || !Number.isFinite(y) || (log && y <= 0)) return;
    if (y < low) low = y;
    if (y > high) high = y;
  };
  if (bands.length) {
    for (const band of bands) {
      band.xs.forEach((at, i) => {
        take(at, band.low[i]!);
        take(at, band.high[i]!);
      });
    }
  } else for (const path of paths) path.ys.forEach((y, i) => take(path.xs[i]!, y));
  if (low > high) return log ? [0.1, 1] : [0, 1];
  return log ? paddedLog(low, high) : padded(low, high);
}

function padded(low: number, high: number): Range {
  const size = high - low || Math.abs(high) || 1;
  return [low - size * 0.05, high + size * 0.05];
}

function paddedLog(low: number, high: number): Range {
  const factor = low === high ? 2 : (high / low) ** 0.05;
  return [low / factor, high * factor];
}

/** About `count` round numbers within a range, ascending. */
export function ticks([low, high]: Range, count: number, log = false): number[] {
  if (log) return logTicks(low, high, count);
  const raw = (high - low) / Math.max(1, count);
  if (!(raw > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw) ?? raw;
  const found: number[] = [];
  for (let n = Math.ceil(low / step); n * step <= high + step * 1e-9; n++) {
    found.push(Number((n * step).toPrecision(12)));
  }
  return found;
}

function logTicks(low: number, high: number, count: number): number[] {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const every = Math.max(1, Math.ceil((last - first) / count));
  const found: number[] = [];
  for (let n = first; n <= last; n += every) {
    for (const digit of last - first <= 2 ? [1, 2, 5] : [1]) {
      const value = Number(`${digit}e${n}`);
      if (value >= low && value <= high) found.push(value);
    }
  }
  const few = high / low > 10 ? 1 : 2; // within a decade even steps tell more than two labels
  return found.length > few ? found : ticks([low, high], count);
}

/** From a value to its place on an axis of `size`, which may run backwards from its start. */
export function scale([low, high]: Range, start: number, size: number, log: boolean): (value: number) => number {
  if (log) {
    const by = size / Math.log(high / low);
    return (value) => start + Math.log(value / low) * by;
  }
  const by = size / (high - low);
  return (value) => start + (value - low) * by;
}
