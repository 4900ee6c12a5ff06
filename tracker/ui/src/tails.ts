/** Series that grow at their end: what is new is put behind what is known.  Pure. */

import type { Columns } from "./columns";
import { lowerBound } from "./lines";

export interface Fresh {
  step: number;
  timestamp: number;
  value: number;
}

export function nameOf(runId: string, key: string): string {
  return `${runId} ${key}`;
}

export function partsOf(name: string): [string, string] {
  const at = name.indexOf(" ");
  return [name.slice(0, at), name.slice(at + 1)];
}

export function emptyColumns(name: string): Columns {
  const [runId, key] = partsOf(name);
  const none = new Float64Array();
  return { runId, key, steps: none, times: none, values: none, counts: null, next: null };
}

export function lastStep(columns: Columns | undefined): number {
  return columns?.steps.length ? columns.steps[columns.steps.length - 1]! : -Infinity;
}

/** How many rows at the beginning are those of buckets. */
export function bucketed(columns: Columns): number {
  return (columns.counts?.length ?? 0) * 4;
}

/** How many points stand behind the buckets. */
export function tailLength(columns: Columns): number {
  return columns.steps.length - bucketed(columns);
}

/** The points with steps above `after` and up to `end`; undefined where some of them may be in buckets. */
export function newer(columns: Columns, after: number, end = Infinity): Columns | undefined {
  const first = bucketed(columns);
  if (first && columns.steps[first - 1]! > after) return undefined;
  const steps = columns.steps.subarray(first);
  let from = lowerBound(steps, after);
  while (from < steps.length && steps[from]! <= after) from++;
  let to = lowerBound(steps, end);
  while (to < steps.length && steps[to]! <= end) to++;
  const cut = (column: Float64Array): Float64Array => column.subarray(first + from, first + Math.max(from, to));
  return { ...columns, steps: cut(columns.steps), times: cut(columns.times), values: cut(columns.values), counts: null };
}

export function appended(known: Columns, points: Fresh[]): Columns {
  points.sort((a, b) => a.step - b.step || a.timestamp - b.timestamp);
  return joined(known, {
    steps: Float64Array.from(points, (point) => point.step),
    times: Float64Array.from(points, (point) => point.timestamp),
    values: Float64Array.from(points, (point) => point.value),
  });
}

export function joined(known: Columns, tail: Pick<Columns, "steps" | "times" | "values">): Columns {
  return {
    ...known,
    steps: concat(known.steps, tail.steps),
    times: concat(known.times, tail.times),
    values: concat(known.values, tail.values),
  };
}

function concat(a: Float64Array, b: Float64Array): Float64Array {
  const out = new Float64Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}
