/** Parameters and metrics of a sweep as numbers or categories: what its charts are made of. */

import type { Range } from "./extent";
import { collate } from "./lines";
import type { Sweep, Texts } from "./sweep";

export interface Axis {
  id: string;
  title: string;
  isMetric: boolean;
  /** One for each run; NaN where it has none. */
  values: Float64Array;
  range: Range;
  log: boolean;
  categories: string[] | null;
  /** Every value, where there are but a few numbers. */
  few: number[] | null;
  /** From 0 to 1. */
  share(value: number): number;
  /** The value at a share. */
  value(share: number): number;
}

const FEW = 8;
const EIGHTHS = 8;

export function axisOf(id: string, sweep: Sweep): Axis {
  const [, entity, key] = /^(params|metrics)\.(.+)$/s.exec(id) ?? ["", "params", id];
  if (entity === "metrics") return numeric(id, key!, true, sweep.metrics.get(key!) ?? new Float64Array(sweep.size).fill(NaN));
  const texts = sweep.params.get(key!) ?? { words: [], places: new Int32Array(sweep.size).fill(-1) };
  const numbers = texts.words.map((text) => (text.trim() === "" ? NaN : Number(text)));
  if (!numbers.length || numbers.some(Number.isNaN)) return categorical(id, key!, texts);
  return numeric(id, key!, false, Float64Array.from(texts.places, (place) => (place < 0 ? NaN : numbers[place]!)));
}

/** Logarithmic where values are positive and span over a hundredfold. */
function numeric(id: string, title: string, isMetric: boolean, values: Float64Array): Axis {
  let [low, high] = [Infinity, -Infinity];
  const few = new Set<number>();
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
    if (few.size <= FEW) few.add(value);
  }
  if (low > high) [low, high] = [0, 1];
  const log = low > 0 && high / low > 100;
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const [to, from] = log ? [Math.log, Math.exp] : [same, same];
  const [first, size] = [to(low), to(high) - to(low)];
  return {
    id, title, isMetric, values, range: [low, high], log, categories: null, few: few.size <= FEW ? [...few].sort((a, b) => a - b) : null,
    share: (value) => (to(value) - first) / size, value: (share) => from(first + share * size),
  };
}

function same(value: number): number {
  return value;
}

function categorical(id: string, title: string, { words, places }: Texts): Axis {
  const categories = [...words].sort(collate);
  const order = new Map(categories.map((text, i) => [text, i]));
  const ranks = words.map((text) => order.get(text)!);
  const values = Float64Array.from(places, (place) => (place < 0 ? NaN : ranks[place]!));
  const last = Math.max(1, categories.length - 1);
  const alone = categories.length === 1;
  return {
    id, title, isMetric: false, values, range: [0, last], log: false, categories, few: null,
    share: (value) => (alone ? 0.5 : value / last), value: (share) => share * last,
  };
}

export interface Importance {
  axis: Axis;
  /** From 0 to 1: how much of the metric's order the parameter tells. */
  strength: number;
  /** -1 to 1 for numbers; null for categories, which have no direction. */
  correlation: number | null;
  runs: number;
}

/** How much of the metric's ranks is told by the parameter: by its categories, or for numbers by
 * eighths of them, so that a best value in the middle counts too.  Without the part that chance tells. */
export function importance(axis: Axis, metric: Axis): Importance {
  const kept = Int32Array.from(axis.values.keys()).filter((i) => Number.isFinite(axis.values[i]) && Number.isFinite(metric.values[i]));
  if (kept.length < 3) return { axis, strength: 0, correlation: null, runs: kept.length };
  const ys = ranks(Float64Array.from(kept, (i) => metric.values[i]!));
  const xs = Float64Array.from(kept, (i) => axis.values[i]!);
  if (axis.categories) return { axis, strength: ratio(xs, ys), correlation: null, runs: kept.length };
  const placed = ranks(xs);
  const found = pearson(placed, ys);
  const eighths = placed.map((rank) => Math.floor((rank / kept.length) * EIGHTHS));
  return { axis, strength: Math.max(Math.abs(found), ratio(eighths, ys)), correlation: found, runs: kept.length };
}

/** The place of each among all in order; equal ones share the middle of theirs. */
function ranks(values: Float64Array): Float64Array {
  const sorted = values.slice().sort();
  const middles = new Map<number, number>();
  for (let from = 0, to = 0; from < sorted.length; from = to) {
    while (to < sorted.length && sorted[to] === sorted[from]) to++;
    middles.set(sorted[from]!, (from + to - 1) / 2);
  }
  return values.map((value) => middles.get(value)!);
}

function pearson(xs: Float64Array, ys: Float64Array): number {
  const [mx, my] = [mean(xs), mean(ys)];
  let [xy, xx, yy] = [0, 0, 0];
  for (let i = 0; i < xs.length; i++) {
    const [x, y] = [xs[i]! - mx, ys[i]! - my];
    xy += x * y;
    xx += x * x;
    yy += y * y;
  }
  return xx && yy ? xy / Math.sqrt(xx * yy) : 0;
}

/** The share of the variance that lies between groups of equal x, as a correlation. */
function ratio(xs: Float64Array, ys: Float64Array): number {
  const groups = new Map<number, { sum: number; size: number }>();
  for (let i = 0; i < xs.length; i++) {
    const group = groups.get(xs[i]!);
    if (group) {
      group.sum += ys[i]!;
      group.size++;
    } else groups.set(xs[i]!, { sum: ys[i]!, size: 1 });
  }
  const all = mean(ys);
  let [between, total] = [0, 0];
  for (const { sum, size } of groups.values()) between += size * (sum / size - all) ** 2;
  for (const y of ys) total += (y - all) ** 2;
  const free = xs.length - groups.size;
  if (!total || free <= 0) return 0;
  return Math.sqrt(Math.max(0, 1 - ((1 - between / total) * (xs.length - 1)) / free));
}

function mean(values: Float64Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}
