/** From the columns of a series to a path on a chart: order, axis, smoothing, groups. */

import type { Columns } from "./columns";

/** `step`, `time`, `relative`, or the key of another metric. */
export type XAxis = string;

export interface Line {
  id: string;
  runId: string;
  key: string;
  label: string;
  color: number;
  columns: Columns;
  /** Of the run, ms: where relative time begins. */
  start: number;
  /** The series that is the x axis, if that is a metric. */
  along?: Columns | undefined;
  group?: Group | undefined;
}

/** Runs that are drawn as one: their mean and range. */
export interface Group {
  name: string;
  color: number;
}

export interface Path {
  line: Line;
  xs: Float64Array;
  ys: Float64Array;
  /** Where each point stands in the columns. */
  rows: Int32Array;
  /** 1 where a point says something about the mean; 0 for the extremes of a bucket. */
  weights: Float64Array;
  /** 1 where the pen is lifted before a point: the steps went back there. */
  lifts: Uint8Array;
  ascending: boolean;
  smooth: Float64Array | null;
  low: number;
  high: number;
}

export function pathOf(line: Line, x: XAxis, logX: boolean): Path {
  let rows = inOrder(line.columns);
  const { steps, times, values } = line.columns;
  const byTime = x === "time" || x === "relative";
  if ((byTime || x === "step") && wentBack(rows, times)) {
    rows = rows.slice().sort((a, b) => times[a]! - times[b]! || steps[a]! - steps[b]!);
  }
  const size = rows.length;
  const [xs, ys] = [new Float64Array(size), new Float64Array(size)];
  const [weights, lifts] = [new Float64Array(size), new Uint8Array(size)];
  const bucketed = (line.columns.counts?.length ?? 0) * 4;
  const at = xOf(line, x);
  let [ascending, low, high, before] = [true, Infinity, -Infinity, -Infinity];
  for (let i = 0; i < size; i++) { // a hundred long lines are here at once: no iterators
    const row = rows[i]!;
    const here = (xs[i] = at(row));
    ys[i] = values[row]!;
    weights[i] = weight(line.columns, row, bucketed);
    if (here < before) {
      ascending = false;
      if (x === "step") lifts[i] = 1;
    }
    before = here;
    if (!Number.isFinite(here) || (logX && here <= 0)) continue;
    if (here < low) low = here;
    if (here > high) high = here;
  }
  return { line, xs, ys, rows, weights, lifts, ascending, smooth: null, low, high };
}

function weight(columns: Columns, row: number, bucketed: number): number {
  if (row >= bucketed) return 1;
  const place = row % 4;
  return place === 0 || place === 3 ? columns.counts![row >> 2]! / 2 : 0;
}

/** Rows in the order of steps: within a bucket the lowest may come after the highest. */
export function inOrder({ steps, times, values, counts }: Columns): Int32Array {
  const rows = new Int32Array(steps.length);
  const bucketed = (counts?.length ?? 0) * 4;
  let size = 0;
  for (let at = 0; at < bucketed; at += 4) {
    const swap = Number(steps[at + 1]! > steps[at + 2]! ||
      (steps[at + 1]! === steps[at + 2]! && times[at + 1]! > times[at + 2]!));
    for (let place = 0; place < 4; place++) {
      const row = place === 1 ? at + 1 + swap : place === 2 ? at + 2 - swap : at + place;
      const before = place ? rows[size - 1]! : -1;
      const again = before >= at && steps[before] === steps[row] &&
        times[before] === times[row] && Object.is(values[before], values[row]);
      if (!again) rows[size++] = row;
    }
  }
  for (let row = bucketed; row < steps.length; row++) rows[size++] = row;
  return rows.subarray(0, size);
}

function wentBack(rows: Int32Array, times: Float64Array): boolean {
  for (let i = 1; i < rows.length; i++) if (times[rows[i]!]! < times[rows[i - 1]!]!) return true;
  return false;
}

function xOf(line: Line, x: XAxis): (row: number) => number {
  const { steps, times } = line.columns;
  if (x === "step") return (row) => steps[row]!;
  if (x === "time") return (row) => times[row]! / 1000;
  if (x === "relative") return (row) => (times[row]! - line.start) / 1000;
  const along = line.along;
  if (!along) return () => NaN;
  const order = inOrder(along);
  const known = Float64Array.from(order, (row) => along.steps[row]!);
  const found = Float64Array.from(order, (row) => along.values[row]!);
  return (row) => interpolated(known, found, steps[row]!);
}

/** The first place whose value is not below `wanted`, in an ascending array. */
export function lowerBound(values: Float64Array, wanted: number): number {
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle]! < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function interpolated(xs: Float64Array, ys: Float64Array, at: number): number {
  const right = lowerBound(xs, at);
  if (right < xs.length && xs[right] === at) return ys[right]!;
  if (right === 0 || right === xs.length) return NaN;
  const [x0, x1] = [xs[right - 1]!, xs[right]!];
  const [y0, y1] = [ys[right - 1]!, ys[right]!];
  return y0 + ((y1 - y0) * (at - x0)) / (x1 - x0);
}

/**
 * An exponential mean along x, `share` of the whole axis being its half-life; without the bias
 * towards zero at the beginning.  Points that are not finite leave it as it was.
 */
export function smoothed(path: Path, share: number): Float64Array | null {
  if (share <= 0) return null;
  const half = (path.high - path.low) * share;
  if (!(half > 0)) return null;
  const out = new Float64Array(path.ys.length).fill(NaN);
  let [sum, total, before] = [0, 0, NaN];
  for (let i = 0; i < out.length; i++) {
    const [x, y, w] = [path.xs[i]!, path.ys[i]!, path.weights[i]!];
    if (path.lifts[i]) [sum, total, before] = [0, 0, NaN];
    if (w === 0 || !Number.isFinite(y) || !Number.isFinite(x)) continue;
    const decay = Number.isNaN(before) ? 0 : 0.5 ** (Math.max(0, x - before) / half);
    sum = sum * decay + y * w;
    total = total * decay + w;
    before = x;
    out[i] = sum / total;
  }
  return out;
}

export interface Band {
  label: string;
  color: number;
  runs: number;
  runIds: string[];
  xs: Float64Array;
  mean: Float64Array;
  low: Float64Array;
  high: Float64Array;
  sizes: Uint16Array;
}

const GRID = 400;

/** Mean and range of each group of paths, on a common grid; between points lines are straight. */
export function bandsOf(paths: Path[]): Band[] {
  const groups = new Map<string, Path[]>();
  for (const path of paths) {
    const name = path.line.group?.name ?? "";
    groups.set(name, [...(groups.get(name) ?? []), path]);
  }
  return [...groups].sort(([a], [b]) => collate(a, b)).map(([label, members]) =>
    bandOf(label, members[0]!.line.group?.color ?? 0, members));
}

/** Made once: `localeCompare` makes one for each comparison, and 50,000 keys need a million. */
const collator = new Intl.Collator("en", { numeric: true });

export function collate(a: string, b: string): number {
  return collator.compare(a, b);
}

function bandOf(label: string, color: number, members: Path[]): Band {
  const low = Math.min(...members.map((path) => path.low));
  const high = Math.max(...members.map((path) => path.high));
  const size = high > low ? GRID : 1;
  const xs = Float64Array.from({ length: size }, (_, i) =>
    low + ((high - low) * i) / Math.max(1, size - 1));
  const band: Band = {
    label, color, runs: members.length, runIds: members.map((path) => path.line.runId), xs,
    mean: new Float64Array(size).fill(NaN), low: new Float64Array(size).fill(Infinity),
    high: new Float64Array(size).fill(-Infinity), sizes: new Uint16Array(size),
  };
  for (const path of members) addTo(band, path);
  for (let i = 0; i < size; i++) band.mean[i] = band.mean[i]! / band.sizes[i]!;
  return band;
}

function addTo(band: Band, path: Path): void {
  const [px, py] = finite(path);
  for (let i = 0; i < band.xs.length; i++) {
    const y = interpolated(px, py, band.xs[i]!);
    if (Number.isNaN(y)) continue;
    band.mean[i] = (band.sizes[i] ? band.mean[i]! : 0) + y;
    band.low[i] = Math.min(band.low[i]!, y);
    band.high[i] = Math.max(band.high[i]!, y);
    band.sizes[i]!++;
  }
}

/** What a mean can be made of, ascending: smoothed if that is wished, finite points otherwise. */
function finite(path: Path): [Float64Array, Float64Array] {
  const ys = path.smooth ?? path.ys;
  const kept: number[] = [];
  for (let i = 0; i < ys.length; i++) {
    if (path.weights[i] && Number.isFinite(ys[i]) && Number.isFinite(path.xs[i])) kept.push(i);
  }
  if (!path.ascending) kept.sort((a, b) => path.xs[a]! - path.xs[b]!);
  return [Float64Array.from(kept, (i) => path.xs[i]!), Float64Array.from(kept, (i) => ys[i]!)];
}

/** The point of a path that is nearest to an x, if any is at all near: [place, distance in x]. */
export function nearest(path: Path, x: number): [number, number] | null {
  if (path.ascending) {
    const right = lowerBound(path.xs, x);
    const left = right - 1;
    const near = right === path.xs.length ||
      (left >= 0 && x - path.xs[left]! < path.xs[right]! - x) ? left : right;
    return near < 0 ? null : [near, Math.abs(path.xs[near]! - x)];
  }
  let [best, distance] = [-1, Infinity];
  for (let i = 0; i < path.xs.length; i++) {
    const away = Math.abs(path.xs[i]! - x);
    if (away < distance) [best, distance] = [i, away];
  }
  return best < 0 ? null : [best, distance];
}
