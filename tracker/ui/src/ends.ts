/** Where the series of a table's runs end. An event tells the end of a batch, which may lie before that of its series. */

import * as api from "./api";
import type { PointsEvent } from "./live";
import type { Run, Value } from "./wire";
import { toNumber } from "./wire";

type End = PointsEvent["series"][number]["last"];
const MOST_PAIRS = 2_000;

export class Ends {
  private readonly known = new Map<string, Map<string, End>>();
  private unsure = new Set<string>();
  private asking = false;
  private life = 0;

  /** `keys` are those that are shown; `changed` is called with the runs of which more is known. */
  constructor(private readonly keys: () => string[], private readonly changed: (runIds: string[]) => void) {}

  /** Events may have been missed: what is known, and an answer on its way, may be older than the next read. */
  forget(): void {
    this.life++;
    this.known.clear();
  }

  /** What a run's row shows: never an older value than was told, whenever it was read. */
  of(run: Run): Run["metrics"] {
    const ends = this.known.get(run.run_id);
    if (!ends) return run.metrics;
    return { ...run.metrics, ...Object.fromEntries([...ends].map(([key, end]) => [key, end.value as Value])) };
  }

  /** A batch goes on from what is known; where nothing is, that is read first. */
  hear({ run_id, series }: PointsEvent): void {
    const shown = new Set(this.keys());
    const news = series.filter(({ key }) => shown.has(key));
    const ends = this.known.get(run_id);
    const some = news.filter(({ key, last }) => ends?.has(key) && this.extend(run_id, key, last));
    if (some.length) this.changed([run_id]);
    if (news.every(({ key }) => ends?.has(key))) return;
    this.unsure.add(run_id);
    void this.ask();
  }

  private extend(runId: string, key: string, end: End): boolean {
    let ends = this.known.get(runId);
    if (!ends) this.known.set(runId, ends = new Map());
    const before = ends.get(key);
    if (before && isBefore(end, before)) return false;
    ends.set(key, end);
    return true;
  }

  private async ask(): Promise<void> {
    if (this.asking) return;
    this.asking = true;
    try {
      while (this.unsure.size) {
        const keys = this.keys();
        const ids = [...this.unsure].slice(0, Math.max(1, Math.floor(MOST_PAIRS / keys.length)));
        for (const id of ids) this.unsure.delete(id);
        const { life } = this;
        const found = await api.series({ run_ids: ids, keys, max_points: 4 });
        if (life !== this.life) {
          for (const id of ids) this.unsure.add(id);
          continue;
        }
        for (const one of found) {
          const at = one.values.length - 1;
          this.extend(one.runId, one.key, { step: one.steps[at]!, timestamp: one.times[at]!, value: one.values[at]! });
        }
        this.changed(ids);
      }
    } catch { // the next event asks again
      this.unsure.clear();
    } finally {
      this.asking = false;
    }
  }
}

/** The order of a series: by step, then time, then value. */
function isBefore(one: End, other: End): boolean {
  if (one.step !== other.step) return one.step < other.step;
  if (one.timestamp !== other.timestamp) return one.timestamp < other.timestamp;
  return toNumber(one.value as Value)! < toNumber(other.value as Value)!;
}
