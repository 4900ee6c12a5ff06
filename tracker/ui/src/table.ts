/** The rows of the runs table: pages of a search, fetched as they are scrolled to. */

import { signal } from "@preact/signals";
import * as api from "./api";
import type { Columns } from "./columns";
import { Ends } from "./ends";
import type { LiveEvent, PointsEvent } from "./live";
import type { Run, RunPage } from "./wire";
import { toNumber } from "./wire";

export const PAGE = 100;
const MOST_PAGE = 1_000;
const BEST_PAIRS = 2_000;

export interface Query {
  experiment: string;
  filter: string;
  order: string;
  lifecycle: string;
  status: string[];
  keys: string[];
}

export interface Extremes {
  low: number;
  high: number;
}

export class Table {
  readonly version = signal(0);
  readonly total = signal<number | null>(null);
  readonly error = signal("");
  private rows = new Map<number, Run>();
  private places = new Map<string, number>();
  private pages = new Map<number, "loading" | "done">();
  private cursors = new Map<number, string>();
  private best = new Map<string, Extremes>();
  private controller = new AbortController();
  /** Of a load that has not ended: until then what is scrolled to would be of another search, or twice. */
  private loading: AbortController | null = null;
  /** The first and the last row on screen. */
  private seen: [number, number] = [0, 0];
  private reads = 0;
  private readonly ends = new Ends(() => this.query?.keys ?? [], (runIds) => this.refresh(runIds));
  private query: Query | null = null;
  private text = "";

  /** Another search, or the same again; rows stay on screen until the new ones are there. */
  async load(query: Query, again = false): Promise<void> {
    const text = JSON.stringify(query);
    if (text === this.text && !again) return;
    this.text = text;
    this.query = query;
    this.controller.abort();
    const controller = this.controller = this.loading = new AbortController();
    const { signal } = controller;
    const pages = again ? [...new Set([0, ...pagesOf(this.seen)])] : [0];
    this.reads++;
    try {
      const found = await Promise.all(pages.map((page) => this.read(page, signal, true)));
      this.rows.clear();
      this.places.clear();
      this.pages.clear();
      this.cursors.clear();
      this.total.value = found[0]!.total ?? found[0]!.runs.length;
      pages.forEach((page, i) => this.take(page, found[i]!));
    } catch (error) {
      if (!api.isAbort(error)) this.error.value = (error as Error).message;
    } finally {
      if (this.loading === controller) this.loading = null;
      this.reads--;
    }
  }

  /** Every run that the search finds from row `offset` on, up to `most`: with no parameter or metric but those of the table. */
  async everyRun(most: number, keys = this.query?.keys, offset = 0): Promise<Run[]> {
    const { experiment, filter, order, lifecycle, status } = this.query!;
    const found: Run[] = [];
    let cursor: string | null = "";
    while (cursor !== null && found.length < most) {
      const place = cursor ? { cursor } : { offset };
      const page: Awaited<ReturnType<typeof api.runs>> = await api.runs({
        experiment_id: experiment, filter, order_by: order, lifecycle, status, keys, limit: Math.min(MOST_PAGE, most - found.length), total: "false", ...place,
      });
      found.push(...page.runs);
      cursor = page.next_cursor;
    }
    return found;
  }

  row(index: number): Run | undefined {
    return this.rows.get(index);
  }

  /**
   * The runs from one to another, either way, in the list as it was at the call. They are read apart from the table's pages,
   * which another load may clear at any time, with a page more on both sides: the list may have moved since it was read.
   * None where one is not listed.
   */
  async between(one: string, other: string): Promise<Run[]> {
    const [a, b] = [this.places.get(one), this.places.get(other)];
    if (a === undefined || b === undefined) return [];
    const runs = await this.everyRun(Math.abs(a - b) + 1 + 2 * PAGE, undefined, Math.max(0, Math.min(a, b) - PAGE));
    const ends = [one, other].map((id) => runs.findIndex((run) => run.run_id === id)).sort((x, y) => x - y);
    return ends[0]! < 0 ? [] : runs.slice(ends[0], ends[1]! + 1);
  }

  extremes(runId: string, key: string): Extremes | undefined {
    return this.best.get(`${runId} ${key}`);
  }

  /** Rows from `first` to `last` are on screen: have their pages fetched. */
  show(first: number, last: number, bestOf: string[]): void {
    this.seen = [first, last];
    if (this.loading) return; // its end is told
    const total = this.total.peek() ?? 0;
    for (const page of pagesOf(this.seen)) {
      if (page * PAGE < total && !this.pages.has(page)) void this.fetch(page);
    }
    if (bestOf.length) void this.fetchBest(first, last, bestOf);
  }

  /** `anew`: cursors of pages that have been read before are of no use. */
  private search(page: number, anew: boolean): api.Search {
    const { experiment, filter, order, lifecycle, status, keys } = this.query!;
    const cursor = anew ? undefined : this.cursors.get(page);
    const place = cursor ? { cursor } : { offset: page * PAGE };
    return {
      experiment_id: experiment, filter, order_by: order, lifecycle, status, keys, limit: PAGE,
      total: page === 0 ? "true" : "false", ...place,
    };
  }

  private async fetch(page: number): Promise<void> {
    this.pages.set(page, "loading");
    const { signal } = this.controller;
    this.reads++;
    try {
      this.take(page, await this.read(page, signal));
    } catch (error) {
      if (!signal.aborted) this.pages.delete(page);
      if (!api.isAbort(error)) this.error.value = (error as Error).message;
    } finally {
      this.reads--;
    }
  }

  private read(page: number, signal: AbortSignal, anew = false): Promise<RunPage> {
    const search = this.search(page, anew);
    return api.patiently(() => api.runs(search, signal), signal, (error) => (this.error.value = error.message));
  }

  private take(page: number, found: { runs: Run[]; next_cursor: string | null }): void {
    found.runs.forEach((run, i) => {
      this.rows.set(page * PAGE + i, { ...run, metrics: this.ends.of(run) });
      this.places.set(run.run_id, page * PAGE + i);
    });
    this.pages.set(page, "done");
    this.error.value = "";
    if (found.next_cursor) this.cursors.set(page + 1, found.next_cursor);
    this.version.value++;
  }

  /** Lowest and highest value of each key in the rows on screen: one bucket of each series. */
  private async fetchBest(first: number, last: number, keys: string[]): Promise<void> {
    const ids: string[] = [];
    for (let i = first; i <= last; i++) {
      const run = this.rows.get(i);
      if (run && keys.some((key) => key in run.metrics && !this.best.has(`${run.run_id} ${key}`))) ids.push(run.run_id);
    }
    if (!ids.length) return;
    for (const id of ids) for (const key of keys) this.best.set(`${id} ${key}`, { low: NaN, high: NaN });
    try {
      await this.readBest(ids, keys, this.controller.signal);
      this.version.value++;
    } catch (error) {
      for (const id of ids) for (const key of keys) this.best.delete(`${id} ${key}`);
      if (!api.isAbort(error)) this.error.value = (error as Error).message;
    }
  }

  private async readBest(ids: string[], keys: string[], signal?: AbortSignal): Promise<void> {
    const found = await api.series({ run_ids: ids, keys, max_points: 4 }, signal);
    for (const one of found) this.best.set(`${one.runId} ${one.key}`, extremesOf(one));
  }

  /** The extremes of these keys in runs that may never have been on screen. */
  async everyBest(runs: Run[], keys: string[]): Promise<void> {
    const size = Math.floor(BEST_PAIRS / Math.max(1, keys.length));
    for (let at = 0; keys.length && at < runs.length; at += size) {
      await this.readBest(runs.slice(at, at + size).map((run) => run.run_id), keys);
    }
  }

  /** Events may have been missed. */
  forget(): void {
    this.ends.forget();
  }

  /** More is known of the ends of these runs' series. */
  private refresh(runIds: string[]): void {
    for (const id of runIds) {
      const index = this.places.get(id);
      const run = index === undefined ? undefined : this.rows.get(index);
      if (run) this.rows.set(index!, { ...run, metrics: this.ends.of(run) });
    }
    this.version.value++;
  }

  private hear(points: PointsEvent): void {
    const index = this.places.get(points.run_id);
    if (index !== undefined) this.rows.set(index, { ...this.rows.get(index)!, heartbeat_at: Date.now() });
    for (const { key } of points.series) this.best.delete(`${points.run_id} ${key}`);
    this.ends.hear(points);
    this.version.value++;
  }

  /** What happened to a run; true where the list itself may be another now. */
  on(event: LiveEvent): boolean {
    const index = this.places.get(event.data.run_id ?? "");
    const run = index === undefined ? undefined : this.rows.get(index);
    if (event.kind === "created" || event.kind === "deleted" || event.kind === "restored") return true;
    if (event.kind === "points" && (run || this.reads)) this.hear(event.data as unknown as PointsEvent);
    if (!run || event.kind === "points") return false;
    return event.kind === "status" || event.kind === "changed" || event.kind === "tags" || event.kind === "params";
  }
}

/** The pages of the rows from the first to the last. */
function pagesOf([first, last]: [number, number]): number[] {
  const page = Math.floor(first / PAGE);
  return Array.from({ length: Math.floor(last / PAGE) - page + 1 }, (_, i) => page + i);
}

function extremesOf({ values }: Columns): Extremes {
  let [low, high] = [NaN, NaN];
  for (const value of values) {
    if (Number.isNaN(value)) continue;
    if (!(low <= value)) low = value;
    if (!(high >= value)) high = value;
  }
  return { low, high };
}

export function metricOf(run: Run, key: string): number | null {
  return toNumber(run.metrics[key]);
}
