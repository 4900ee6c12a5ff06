/** What a page knows of its run, followed live. */

import { signal } from "@preact/signals";
import * as api from "./api";
import type { ChartData } from "./chartdata";
import { follow, type LiveEvent, type PointsEvent } from "./live";
import type { Run, SeriesSummary } from "./wire";
import { toNumber } from "./wire";

export class RunState {
  readonly run = signal<Run | null>(null);
  readonly error = signal<Error | null>(null);
  readonly series = signal<SeriesSummary[]>([]);
  readonly keys = signal<string[]>([]);
  readonly total = signal(0);
  readonly consoleTold = signal(0);
  readonly artifactsTold = signal(0);
  private controller = new AbortController();
  private timer = 0;
  private known = new Set<string>();

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
      clearTimeout(this.timer);
      this.controller.abort();
      this.data.close();
    };
  }

  async fetch(): Promise<void> {
    this.controller.abort();
    this.controller = new AbortController();
    const { signal } = this.controller;
    try {
      await api.patiently(async () => {
        this.run.value = await api.run(this.id, signal);
        this.error.value = null;
        await this.fetchSeries(signal);
      }, signal, (error) => (this.error.value = error));
    } catch (error) {
      if (!api.isAbort(error)) this.error.value = error as Error;
    }
  }

  private fetchSeries(signal: AbortSignal): Promise<void> {
    return api.allSeries(this.id, (found, total) => {
      this.total.value = total;
      this.series.value = [...found];
      this.known = new Set(found.map((one) => one.key));
      if (this.known.size !== this.keys.value.length || this.keys.value.some((key) => !this.known.has(key))) {
        this.keys.value = [...this.known];
      }
    }, signal);
  }

  private on({ kind, data }: LiveEvent): void {
    const run = this.run.value;
    if (kind === "points") {
      const points = data as unknown as PointsEvent;
      this.data.onPoints(points);
      if (run) this.run.value = { ...run, heartbeat_at: Date.now() };
      if (points.series.some(({ key }) => !this.known.has(key))) this.soon();
      if (this.series.value.length < 2000) this.series.value = updated(this.series.value, points);
    } else if (kind === "console") this.consoleTold.value++;
    else if (kind === "artifact") this.artifactsTold.value++;
    else this.soon();
  }

  /** Everything about the run again, soon, and once for many events. */
  private soon(): void {
    this.timer ||= window.setTimeout(() => {
      this.timer = 0;
      void this.fetch();
    }, 200);
  }
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

