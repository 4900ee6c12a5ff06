/** Which runs a comparison is of: chosen ones (`runs=`), or all that a search finds; followed live. */

import { batch, signal } from "@preact/signals";
import * as api from "./api";
import { ChartData } from "./chartdata";
import { adopt } from "./colors";
import { follow, type PointsEvent } from "./live";
import { Soon } from "./pool";
import { list, param } from "./route";
import { keysOf, mainMetric, quoted } from "./search";
import { sweepOf, type Sweep } from "./sweep";
import type { Run } from "./wire";

export const MOST_CHOSEN = 200;
const FEW = 12;
const PAGE = 1_000;
/** Of a sweep: enough to tell its keys. */
const FIRST = 100;
const MOST_PARAMS = 60;
/** That the server takes. */
const MOST_KEYS = 100;
const SOON_MS = 500;
/** A sweep is read again as a whole. */
const SWEEP_SOON_MS = 10_000;
const MOST_WIDE = 4;
const MOST_CAUGHT_UP = 100;

export class CompareState {
  readonly data = new ChartData();
  readonly runs = signal<Run[]>([]);
  /** The same runs as columns, where the page shows them as a whole; of so many that `runs` are but the first. */
  readonly sweep = signal<Sweep | null>(null);
  /** What runs have beyond the keys that a list of runs carries. */
  readonly moreKeys = signal<string[]>([]);
  readonly total = signal(0);
  readonly loading = signal(true);
  readonly error = signal("");
  private controller = new AbortController();
  private readonly later = new Soon(() => this.fetch(), () => (isSweep() ? SWEEP_SOON_MS : SOON_MS));
  /** Events come, and what was logged before the first of them may be missing. */
  private followed = false;
  private ids = new Set<string>();
  private idsOf: Sweep | null = null;

  open(): () => void {
    let first = true;
    const end = follow(null, () => {
      if (!first) this.data.refresh();
      first = false;
      this.followed = true;
      this.catchUp();
    }, ({ kind, data }) => {
      if (kind === "points") this.data.onPoints(data as unknown as PointsEvent);
      if (kind === "console" || !this.shows(data.run_id ?? "")) return;
      if (kind !== "points" || isSweep() || (data as unknown as PointsEvent).series.some(({ key }) => !this.knows(key))) this.later.ask();
    });
    return () => {
      end();
      this.later.end();
      this.controller.abort();
      this.data.close();
    };
  }

  private catchUp(): void {
    const running = this.runs.value.filter((run) => run.status === "running").map((run) => run.run_id);
    if (!this.followed || !this.runs.value.length) return;
    this.followed = false;
    if (!running.length || isSweep()) return;
    const filter = `attributes.run_id IN (${running.slice(0, MOST_CHOSEN).map(quoted).join(", ")})`;
    const search = { filter, limit: MOST_CHOSEN, total: "false", keys: this.data.wantedKeys().slice(0, MOST_CAUGHT_UP) };
    api.runs(search, this.controller.signal).then(({ runs }) => this.data.catchUp(runs), (error: unknown) => {
      if (!api.isAbort(error)) this.error.value = (error as Error).message;
    });
  }

  private shows(id: string): boolean {
    return this.runs.value.some((run) => run.run_id === id) || (isSweep() && this.sweepIds().has(id));
  }

  private sweepIds(): Set<string> {
    const sweep = this.sweep.value;
    if (this.idsOf !== sweep) {
      this.idsOf = sweep;
      this.ids = new Set(Array.from({ length: sweep?.size ?? 0 }, (_, place) => sweep!.id(place)));
    }
    return this.ids;
  }

  private knows(key: string): boolean {
    return this.runs.value.some((run) => key in run.metrics);
  }

  async fetch(): Promise<void> {
    this.controller.abort();
    this.controller = new AbortController();
    const { signal } = this.controller;
    this.loading.value = true;
    try {
      await api.patiently(() => this.read(), signal, (error) => (this.error.value = error.message));
      this.loading.value = false;
      this.error.value = "";
      this.catchUp();
      await this.readMoreKeys();
    } catch (error) {
      if (!api.isAbort(error)) this.error.value = (error as Error).message;
    }
    if (!signal.aborted) this.loading.value = false;
  }

  private async read(): Promise<void> {
    if (param("runs")) this.runs.value = await this.chosen();
    else if (!isSweep()) this.runs.value = await this.found();
    else await this.foundSweep();
    if (isSweep() && param("runs")) this.sweep.value = sweepOf(this.runs.value);
  }

  private async chosen(): Promise<Run[]> {
    const wanted = chosenIds();
    if (wanted.length > FEW) return this.many(wanted);
    const { signal } = this.controller;
    const found = await Promise.allSettled(wanted.map((id) => api.run(id, signal)));
    signal.throwIfAborted(); // some had come before another read began: they are not all
    const failed = found.flatMap((one) => (one.status === "rejected" ? [one.reason as Error] : []));
    const runs = found.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    if (failed.some(api.isPassing) || (failed.length && !runs.length)) throw failed.find(api.isPassing) ?? failed[0]!;
    this.total.value = runs.length;
    return runs;
  }

  /** A list carries a hundred keys of a run, a run a thousand; some have fifty thousand. */
  private async readMoreKeys(): Promise<void> {
    if (isSweep()) return;
    const { signal } = this.controller;
    const wide = this.runs.value.filter((run) => run.truncated).slice(0, MOST_WIDE);
    const keys = new Set<string>();
    for (const run of wide) {
      for (const key of await api.metricKeys(run.run_id, signal)) keys.add(key);
      this.moreKeys.value = [...keys];
    }
  }

  /** One request for all; a run then carries at most 100 of its keys. */
  private async many(wanted: string[]): Promise<Run[]> {
    const filter = `attributes.run_id IN (${wanted.map(quoted).join(", ")})`;
    const page = await api.runs({ filter, lifecycle: "all", limit: 1000 }, this.controller.signal);
    const places = new Map(wanted.map((id, place) => [id, place]));
    this.total.value = page.runs.length;
    return page.runs.sort((a, b) => places.get(a.run_id)! - places.get(b.run_id)!);
  }

  private search(): api.Search {
    return { experiment_id: param("experiment"), filter: param("q"), lifecycle: param("lifecycle") };
  }

  private async found(): Promise<Run[]> {
    const page = await api.runs({ ...this.search(), limit: PAGE }, this.controller.signal);
    this.total.value = page.total ?? page.runs.length;
    return page.runs;
  }

  /** The newest tell which keys there are; then all at once, each key as one column. */
  private async foundSweep(): Promise<void> {
    const { signal } = this.controller;
    const first = await api.runs({ ...this.search(), limit: FIRST, total: "false" }, signal);
    const sweep = first.next_cursor === null ? sweepOf(first.runs) : await api.sweep({ ...this.search(), keys: neededKeys(first.runs) }, signal);
    batch(() => {
      this.total.value = sweep.total;
      this.runs.value = first.runs;
      this.sweep.value = sweep;
    });
  }
}

/** The runs that the address names; it says their colours too. */
export function chosenIds(): string[] {
  return param("runs").split(",").slice(0, MOST_CHOSEN).flatMap((part) => {
    const [id, color] = part.split("~");
    if (!id || !/^[0-9a-f-]{32,36}$/.test(id)) return [];
    if (color) adopt(id, Number(color));
    return [id.replaceAll("-", "")];
  });
}

const SWEEPS = ["parallel", "scatter"];

/** Whether the page shows runs as a whole. */
export function isSweep(): boolean {
  return SWEEPS.includes(param("tab"));
}

/** What the page's search is made of: another text is another search. */
export function searchText(): string {
  const axes = isSweep() ? ["sweep", ...list("axis"), param("sx"), param("sy")] : [];
  return ["runs", "experiment", "q", "lifecycle"].map((name) => param(name)).concat(axes).join("\0");
}

function neededKeys(runs: Run[]): string[] {
  const { params, metrics } = keysOf(runs);
  const named = [...list("axis"), param("sx"), param("sy")].flatMap((id) => /^(?:params|metrics)\.(.+)$/s.exec(id)?.[1] ?? []);
  return [...new Set([...params.slice(0, MOST_PARAMS), mainMetric(metrics), ...named])].filter(Boolean).slice(0, MOST_KEYS);
}
