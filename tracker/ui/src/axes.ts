/** Parameters and metrics of runs as numbers or categories: what a sweep's charts are made of. */

import type { Range } from "./extent";
import { collate } from "./lines";
import { keysOf } from "./search";
import { toNumber, type Run } from "./wire";

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
}

const FEW = 8;
const EIGHTHS = 8;

export function axisIds(runs: Run[]): { params: string[]; metrics: string[] } {
  const keys = keysOf(runs);
  const varied = keys.params.filter((key) => new Set(runs.map((run) => run.params[key])).size > 1);
  return { params: varied, metrics: keys.metrics };
}

export function axisOf(id: string, runs: Run[]): Axis {
  const [, entity, key] = /^(params|metrics)\.(.+)$/s.exec(id) ?? ["", "params", id];
  if (entity === "metrics") {
    return numeric(id, key!, true, Float64Array.from(runs, (run) => toNumber(run.metrics[key!]) ?? NaN));
  }
  const texts = runs.map((run) => run.params[key!]);
  const given = texts.filter((text): text is string => text !== undefined);
  const numbers = given.every((text) => text.trim() !== "" && !Number.isNaN(Number(text)));
  if (numbers && given.length) {
    return numeric(id, key!, false, Float64Array.from(texts, (text) => (text === undefined ? NaN : Number(text))));
  }
  return categorical(id, key!, texts, given);
}

/** Logarithmic where values are positive and span over a hundredfold. */
function numeric(id: string, title: string, isMetric: boolean, values: Float64Array): Axis {
  const finite = values.filter((value) => Number.isFinite(value));
  let [low, high] = [Infinity, -Infinity];
  for (const value of finite) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) [low, high] = [0, 1];
  const log = low > 0 && high / low > 100;
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const of = log ? Math.log : (value: number): number => value;
  const share = (value: number): number => (of(value) - of(low)) / (of(high) - of(low));
  const few = [...new Set(finite)];
  return { id, title, isMetric, values, range: [low, high], log, categories: null, few: few.length <= FEW ? few : null, share };
}

function categorical(id: string, title: string, texts: (string | undefined)[], given: string[]): Axis {
  const categories = [...new Set(given)].sort(collate);
  const place = new Map(categories.map((text, i) => [text, i]));
  const values = Float64Array.from(texts, (text) => (text === undefined ? NaN : place.get(text)!));
  const last = Math.max(1, categories.length - 1);
  const share = (value: number): number => (categories.length === 1 ? 0.5 : value / last);
  return { id, title, isMetric: false, values, range: [0, last], log: false, categories, few: null, share };
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
  const kept: number[] = [];
  axis.values.forEach((value, i) => {
    if (Number.isFinite(value) && Number.isFinite(metric.values[i])) kept.push(i);
  });
  const ys = ranks(kept.map((i) => metric.values[i]!));
  if (kept.length < 3) return { axis, strength: 0, correlation: null, runs: kept.length };
  const xs = kept.map((i) => axis.values[i]!);
  if (axis.categories) return { axis, strength: ratio(xs, ys), correlation: null, runs: kept.length };
  const placed = ranks(xs);
  const found = pearson(placed, ys);
  const eighths = placed.map((rank) => Math.floor((rank / kept.length) * EIGHTHS));
  return { axis, strength: Math.max(Math.abs(found), ratio(eighths, ys)), correlation: found, runs: kept.length };
}

function ranks(values: number[]): number[] {
  const order = values.map((_, i) => i).sort((a, b) => values[a]! - values[b]!);
  const out = new Array<number>(values.length).fill(0);
  for (let i = 0; i < order.length; ) {
    let j = i;
    while (j < order.length && values[order[j]!] === values[order[i]!]) j++;
    for (let k = i; k < j; k++) out[order[k]!] = (i + j - 1) / 2;
    i = j;
  }
  return out;
}

function pearson(xs: number[], ys: number[]): number {
  const [mx, my] = [mean(xs), mean(ys)];
  let [xy, xx, yy] = [0, 0, 0];
  xs.forEach((x, i) => {
    xy += (x - mx) * (ys[i]! - my);
    xx += (x - mx) ** 2;
    yy += (ys[i]! - my) ** 2;
  });
  return xx && yy ? xy / Math.sqrt(xx * yy) : 0;
}

function ratio(xs: number[], ys: number[]): number {
  const groups = new Map<number, number[]>();
  xs.forEach((x, i) => groups.set(x, [...(groups.get(x) ?? []), ys[i]!]));
  const all = mean(ys);
  const between = [...groups.values()].reduce((sum, group) => sum + group.length * (mean(group) - all) ** 2, 0);
  const total = ys.reduce((sum, y) => sum + (y - all) ** 2, 0);
  const free = xs.length - groups.size;
  if (!total || free <= 0) return 0;
  return Math.sqrt(Math.max(0, 1 - ((1 - between / total) * (xs.length - 1)) / free));
}

function mean(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
