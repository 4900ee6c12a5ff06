/** What a page knows of its run, followed live. */

import { signal } from "@preact/signals";
import * as api from "./api";
import type { ChartData } from "./chartdata";
import type { Columns } from "./columns";
import { follow, type LiveEvent, type PointsEvent } from "./live";
import { Soon } from "./pool";
import { param } from "./route";
import { foremost } from "./search";
import type { Run, SeriesSummary } from "./wire";
import { toNumber } from "./wire";

const FIRST = 1_000;
const SOON_MS = 200;
/** The names of very many series are a megabyte. */
const LESS_SOON_MS = 3_000;
/** Drawing a tree of very many holds up the first charts, which are on their way: it takes no longer after them. */
const CHARTS_FIRST_MS = 150;
/** Of a run's last values, shown above everything. */
export const LATEST = 8;

export class RunState {
  readonly run = signal<Run | null>(null);
  readonly error = signal<Error | null>(null);
  readonly series = signal<SeriesSummary[]>([]);
  readonly keys = signal<string[]>([]);
  readonly total = signal(0);
  readonly consoleTold = signal(0);
  readonly artifactsTold = signal(0);
  private controller = new AbortController();
  private readonly later = new Soon(() => this.fetch(), () => SOON_MS);
  private readonly laterKeys = new Soon(() => this.fetch(), () => (this.keys.value.length > FIRST ? LESS_SOON_MS : SOON_MS));
  private known = new Set<string>();
  /** What was logged while the series are read: their answer may be older.  Null: nothing is read. */
  private told: PointsEvent[] | null = null;

  constructor(private readonly id: string, private readonly data: ChartData) {}

  open(): () => void {
    void this.fetch();
    this.data.setRuns([this.id]);
    let first = true;
    const end = follow([this.id], () => {
      if (!first) this.data.refresh();
      void this.fetch().then(() => {
        if (this.run.value) this.data.catchUp([this.run.value]);
      });
      first = false;
      this.consoleTold.value++;
    }, (event) => this.on(event));
    return () => {
      end();
      this.later.end();
      this.laterKeys.end();
      this.controller.abort();
      this.data.close();
    };
  }

  async fetch(): Promise<void> {
    this.controller.abort();
    this.controller = new AbortController();
    const { signal } = this.controller;
    this.told = [];
    try {
      await api.patiently(async () => {
        this.run.value = await api.run(this.id, signal);
        this.error.value = null;
        await this.fetchSeries(signal);
      }, signal, (error) => (this.error.value = error));
    } catch (error) {
      if (!api.isAbort(error)) this.error.value = error as Error;
    }
    if (!signal.aborted) this.told = null;
  }

  /** The first series at once; of very many then all names, which make the tree, and of the others what is asked for. */
  private async fetchSeries(signal: AbortSignal): Promise<void> {
    const page = await api.seriesPage(this.id, { limit: FIRST }, signal);
    const isWhole = page.next_cursor === null;
    this.total.value = page.total;
    if (isWhole || !this.series.value.length) this.put(page.series);
    if (isWhole || !this.keys.value.length) this.show(page.series.map((one) => one.key));
    if (isWhole) return;
    if (this.known.size <= FIRST) await new Promise((resolve) => setTimeout(resolve, CHARTS_FIRST_MS));
    const keys = await api.metricKeys(this.id, signal);
    this.show(keys);
    this.put(param("tab") === "details"
      ? await api.seriesFrom(this.id, page, signal)
      : [...page.series, ...await this.watched(keys, page.series, signal)]);
  }

  private put(series: SeriesSummary[]): void {
    this.series.value = (this.told ?? []).reduce(caughtUp, series);
  }

  /** What people look at first, where it is not among the first. */
  private async watched(keys: string[], known: SeriesSummary[], signal: AbortSignal): Promise<SeriesSummary[]> {
    const here = new Set(known.map((one) => one.key));
    const wanted = foremost(keys, LATEST).filter((key) => !here.has(key));
    if (!wanted.length) return [];
    return (await api.series({ run_ids: [this.id], keys: wanted, max_points: 4 }, signal)).map(summaryOf);
  }

  private show(keys: string[]): void {
    this.known = new Set(keys);
    if (keys.length !== this.keys.value.length || this.keys.value.some((key) => !this.known.has(key))) {
      this.keys.value = keys;
    }
  }

  private on({ kind, data }: LiveEvent): void {
    const run = this.run.value;
    if (kind === "points") {
      const points = data as unknown as PointsEvent;
      this.data.onPoints(points);
      this.told?.push(points);
      if (run) this.run.value = { ...run, heartbeat_at: Date.now() };
      if (points.series.some(({ key }) => !this.known.has(key))) this.laterKeys.ask();
      if (this.series.value.length < 2000) this.series.value = updated(this.series.value, points);
    } else if (kind === "console") this.consoleTold.value++;
    else if (kind === "artifact") this.artifactsTold.value++;
    else this.later.ask(); // everything about the run again
  }
}

/** With what an event tells, unless they know it. */
function caughtUp(series: SeriesSummary[], event: PointsEvent): SeriesSummary[] {
  const ends = new Map(series.map((one) => [one.key, one.last_step]));
  return updated(series, { ...event, series: event.series.filter(({ key, last }) => last.step > (ends.get(key) ?? Infinity)) });
}

function updated(series: SeriesSummary[], event: PointsEvent): SeriesSummary[] {
  const news = new Map(event.series.map((one) => [one.key, one]));
  return series.map((one) => {
    const told = news.get(one.key);
    if (!told) return one;
    const value = toNumber(told.last.value as number)!;
    const low = toNumber(one.min) ?? Infinity;
    const high = toNumber(one.max) ?? -Infinity;
    return {
      ...one, count: one.count + told.count,
      ...(told.last.step >= one.last_step ? { last: told.last.value as SeriesSummary["last"], last_step: told.last.step, last_timestamp: told.last.timestamp } : {}),
      ...(value < low ? { min: value, min_step: told.last.step } : {}),
      ...(value > high ? { max: value, max_step: told.last.step } : {}),
    };
  });
}

/** A few points with the extremes among them, or all there are, tell the same. */
function summaryOf({ key, steps, times, values, counts }: Columns): SeriesSummary {
  const end = values.length - 1;
  const numbers = [...values].filter((value) => !Number.isNaN(value));
  const [min, max] = numbers.length ? [Math.min(...numbers), Math.max(...numbers)] : [null, null];
  const stepOf = (value: number | null): number | null => (value === null ? null : steps[values.indexOf(value)]!);
  return {
    key, count: counts ? counts.reduce((sum, one) => sum + one, 0) : values.length, exact: true,
    last: values[end]!, last_step: steps[end]!, last_timestamp: times[end]!,
    min, min_step: stepOf(min), max, max_step: stepOf(max),
  };
}
