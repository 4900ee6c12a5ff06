/** Which steps are within a stretch of the x axis: the server pages by steps alone. */

import type { ChartRun } from "./chart";
import type { ChartData } from "./chartdata";
import type { Range } from "./extent";

const MARGIN = 0.02;

/** With a margin, so that lines run on to the edges; null where steps do not tell. */
export function stepsWithin(data: ChartData, runs: ChartRun[], x: string, zoom: Range): Range | null {
  const margin = (zoom[1] - zoom[0]) * MARGIN;
  const [low, high] = [zoom[0] - margin, zoom[1] + margin];
  if (x === "step") return [low, high];
  if (x !== "time" && x !== "relative") return null;
  const starts = new Map(runs.map((run) => [run.runId, run.start]));
  let [first, last] = [Infinity, -Infinity];
  for (const { runId, steps, times } of data.all()) {
    const start = x === "relative" ? (starts.get(runId) ?? 0) : 0;
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
