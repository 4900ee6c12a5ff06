/** Which steps are within a stretch of the x axis: the server pages by steps alone. */

import type { Columns } from "./columns";
import type { Range } from "./extent";
import { isSystem } from "./search";

const MARGIN = 0.02;

/** A stretch of an axis; its upper end is Infinity where it goes on to the newest point, whatever comes. */
export interface Zoom {
  x: string;
  range: Range;
  /** When each run started, ms: where relative time begins. */
  starts: Map<string, number>;
}

/** The machine's metrics count seconds, the training's its own steps; null where steps do not tell. */
export interface ZoomedSteps {
  training: Range | null;
  system: Range | null;
}

/** With a margin, so that lines run on to the edges.  Times are looked up in what is known of the series. */
export function stepsWithin(series: Iterable<Columns>, { x, range: [low, high], starts }: Zoom): ZoomedSteps {
  const margin = Number.isFinite(high) ? (high - low) * MARGIN : 0;
  const range: Range = [low - margin, high + margin];
  if (x === "step") return { training: range, system: null };
  if (x !== "time" && x !== "relative") return { training: null, system: null };
  const all = [...series];
  const startOf = (runId: string): number => (x === "relative" ? (starts.get(runId) ?? 0) : 0);
  return { training: within(all, startOf, range, false), system: within(all, startOf, range, true) };
}

/** Up to Infinity where a series ends within the stretch: what comes next may belong to it. */
function within(series: Columns[], startOf: (runId: string) => number, [low, high]: Range, system: boolean): Range | null {
  let [first, last] = [Infinity, -Infinity];
  for (const { runId, key, steps, times } of series) {
    if (isSystem(key) !== system || !steps.length) continue;
    const start = startOf(runId);
    for (let i = 0; i < steps.length; i++) {
      const next = Math.min(i + 4, steps.length - 1);
      const before = Math.max(i - 4, 0);
      if ((times[next]! - start) / 1000 < low || (times[before]! - start) / 1000 > high) continue;
      first = Math.min(first, steps[i]!);
      last = Math.max(last, steps[i]!);
    }
    if ((times[times.length - 1]! - start) / 1000 <= high) last = Infinity;
  }
  return first <= last && first < Infinity ? [first, last] : null;
}
