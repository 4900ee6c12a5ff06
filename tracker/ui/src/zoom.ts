/** Which steps are within a stretch of the x axis: the server pages by steps alone. */

import type { ChartRun } from "./chart";
import type { ChartData } from "./chartdata";
import type { Range } from "./extent";
import { isSystem } from "./search";

const MARGIN = 0.02;

/** The machine's metrics count seconds, the training's its own steps; null where steps do not tell. */
export interface ZoomedSteps {
  training: Range | null;
  system: Range | null;
}

/** With a margin, so that lines run on to the edges. */
export function stepsWithin(data: ChartData, runs: ChartRun[], x: string, zoom: Range): ZoomedSteps | null {
  const margin = (zoom[1] - zoom[0]) * MARGIN;
  const range: Range = [zoom[0] - margin, zoom[1] + margin];
  if (x === "step") return { training: range, system: null };
  if (x !== "time" && x !== "relative") return null;
  const starts = new Map(runs.map((run) => [run.runId, x === "relative" ? run.start : 0]));
  return { training: within(data, starts, range, false), system: within(data, starts, range, true) };
}

function within(data: ChartData, starts: Map<string, number>, [low, high]: Range, system: boolean): Range | null {
  let [first, last] = [Infinity, -Infinity];
  for (const { runId, key, steps, times } of data.all()) {
    if (isSystem(key) !== system) continue;
    const start = starts.get(runId) ?? 0;
    for (let i = 0; i < steps.length; i++) {
      const next = Math.min(i + 4, steps.length - 1);
      const before = Math.max(i - 4, 0);
      if ((times[next]! - start) / 1000 < low || (times[before]! - start) / 1000 > high) continue;
      first = Math.min(first, steps[i]!);
      last = Math.max(last, steps[i]!);
    }
  }
  return first <= last ? [first, last] : null;
}
