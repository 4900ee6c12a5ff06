/**
 * The points that a page's charts show: fetched for what is in view, a few requests at a time,
 * followed live by tails, and again in full detail where somebody zooms in.
 */

import { signal, type Signal } from "@preact/signals";
import * as api from "./api";
import type { Columns } from "./columns";
import { lowerBound } from "./lines";
import type { PointsEvent } from "./live";
import { isSystem } from "./search";
import { type Run, toNumber } from "./wire";
import type { ZoomedSteps } from "./zoom";

const PAIRS = 2_000;
/** Of a request: 26 bytes each, so that a hundred lines come in less than 2 MB. */
const POINTS = 72_000;
const TAIL_MS = 100;
const REFETCH_MS = 1_000;
const RETRY_MS = 2_000;

/** What is to be read of a series: what comes after its last point, or all of it again. */
interface Stale {
  all: boolean;
  /** How many points events told of: a tail with fewer lacks some that lie further back. */
  told: number;
}

interface Fresh {
  step: number;
  timestamp: number;
  value: number;
}

export class ChartData {
  /** Grows when a key has other points than before. */
  private readonly versions = new Map<string, Signal<number>>();
  private readonly columns = new Map<string, Columns>();
  private readonly detail = new Map<string, Columns>();
  private readonly wanted = new Map<string, number>();
  private readonly missing = new Set<string>();
  private readonly fresh = new Map<string, Fresh[]>();
  private readonly stale = new Map<string, Stale>();
  private controller = new AbortController();
  private detailController = new AbortController();
  private zoom: ZoomedSteps | null = null;
  private scheduled = false;
  private timer = 0;
  private retryTimer = 0;
  readonly error = signal("");
  readonly loading = signal(0);
  runIds: string[] = [];

  version(key: string): Signal<number> {
    let found = this.versions.get(key);
    if (!found) this.versions.set(key, (found = signal(0)));
    return found;
  }

  get(runId: string, key: string): Columns | undefined {
    const name = nameOf(runId, key);
    return (this.zoom && this.detail.get(name)) || this.columns.get(name);
  }

  all(): Iterable<Columns> {
    return this.columns.values();
  }

  /** A chart of this width is in view. */
  want(key: string, width: number): void {
    const before = this.wanted.get(key);
    this.wanted.set(key, Math.max(width, before ?? 0));
    if (before === undefined || width > before * 1.5) {
      this.missing.add(key);
      this.schedule();
    }
  }

  setRuns(runIds: string[]): void {
    if (runIds.join() === this.runIds.join()) return;
    this.runIds = runIds;
    this.refresh();
  }

  /** Everything that is wanted, again. */
  refresh(): void {
    this.controller.abort();
    this.controller = new AbortController();
    for (const key of this.wanted.keys()) this.missing.add(key);
    this.fresh.clear();
    this.stale.clear();
    this.schedule();
  }

  close(): void {
    this.controller.abort();
    this.detailController.abort();
    clearTimeout(this.timer);
    clearTimeout(this.retryTimer);
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      const keys = [...this.missing];
      this.missing.clear();
      if (!this.runIds.length) return;
      const size = Math.max(1, Math.floor(PAIRS / this.runIds.length));
      for (let at = 0; at < keys.length; at += size) void this.load(keys.slice(at, at + size));
    });
  }

  /** Four points for every two pixels, less where very many lines share a request. */
  private maxPoints(keys: string[], runs: number): number {
    const width = Math.max(...keys.map((key) => this.wanted.get(key) ?? 0), 200);
    const share = Math.floor(POINTS / Math.max(1, keys.length * runs));
    return Math.max(80, Math.min(Math.round(width) * 2, share));
  }

  private async load(keys: string[]): Promise<void> {
    const { signal } = this.controller;
    this.loading.value++;
    try {
      const max_points = this.maxPoints(keys, this.runIds.length);
      const found = await api.series({ run_ids: this.runIds, keys, max_points }, signal);
      for (const one of found) this.columns.set(nameOf(one.runId, one.key), one);
      this.error.value = "";
      this.bump(keys);
      if (this.zoom) void this.loadDetail(keys);
    } catch (error) {
      if (this.failed(error)) for (const key of keys) this.missing.add(key);
    } finally {
      this.loading.value--;
    }
  }

  /** Says what went wrong; true where the same will be tried again in a moment. */
  private failed(error: unknown): boolean {
    if (api.isAbort(error)) return false;
    this.error.value = (error as Error).message;
    const passing = !(error instanceof api.ApiError) || error.problem.status >= 500 || error.problem.status === 429;
    if (passing) {
      this.retryTimer ||= window.setTimeout(() => {
        this.retryTimer = 0;
        this.schedule();
        this.later(TAIL_MS);
      }, RETRY_MS);
    }
    return passing;
  }

  /** Show the points between two steps as exactly as the pixels allow; null: all of them. */
  setZoom(zoom: ZoomedSteps | null): void {
    if (JSON.stringify(this.zoom) === JSON.stringify(zoom)) return;
    this.zoom = zoom;
    this.detailController.abort();
    this.detailController = new AbortController();
    const shown = new Set([...this.detail.values()].map((one) => one.key));
    this.detail.clear();
    this.bump(shown);
    if (zoom) void this.loadDetail([...this.wanted.keys()]);
  }

  private async loadDetail(keys: string[]): Promise<void> {
    await Promise.all([
      this.loadWithin(keys.filter((key) => !isSystem(key)), this.zoom?.training),
      this.loadWithin(keys.filter(isSystem), this.zoom?.system),
    ]);
  }

  private async loadWithin(keys: string[], steps: [number, number] | null | undefined): Promise<void> {
    if (!steps || !keys.length || !this.runIds.length) return;
    const { signal } = this.detailController;
    const [start_step, end_step] = [Math.floor(steps[0]), Math.ceil(steps[1])];
    const max_points = this.maxPoints(keys, this.runIds.length);
    const wanted = { run_ids: this.runIds, keys, max_points, start_step, end_step };
    try {
      const found = await api.series(wanted, signal);
      for (const one of found) this.detail.set(nameOf(one.runId, one.key), one);
      this.bump(keys);
    } catch (error) {
      if (!api.isAbort(error)) this.error.value = String((error as Error).message);
    }
  }

  private bump(keys: Iterable<string>): void {
    for (const key of keys) this.version(key).value++;
  }

  /** What a `points` event tells is drawn at once; where it tells too little, the tail is read. */
  onPoints(event: PointsEvent): void {
    for (const { key, count, last } of event.series) {
      if (!this.wanted.has(key) || !this.runIds.includes(event.run_id)) continue;
      const name = nameOf(event.run_id, key);
      if (last.step <= lastStep(this.columns.get(name))) this.spoil(name, true, 0);
      else if (count > 1 || this.loading.value || this.stale.has(name)) this.spoil(name, false, count);
      else {
        const points = this.fresh.get(name) ?? [];
        points.push({ step: last.step, timestamp: last.timestamp, value: toNumber(last.value as number)! });
        this.fresh.set(name, points);
      }
    }
    if (this.fresh.size) requestAnimationFrame(() => this.appendFresh());
    this.later(TAIL_MS);
  }

  wantedKeys(): string[] {
    return [...this.wanted.keys()];
  }

  /** What was logged between the first read and the first event is told by nobody, but by the last values of runs. */
  catchUp(runs: Run[]): void {
    for (const { run_id, metrics } of runs) for (const key of this.wanted.keys()) {
      const [told, known] = [toNumber(metrics[key]), this.columns.get(nameOf(run_id, key))?.values.at(-1)];
      if (told !== null && !Object.is(told, known)) this.spoil(nameOf(run_id, key), false, 0);
    }
    this.later(TAIL_MS);
  }

  private spoil(name: string, all: boolean, told: number): void {
    const before = this.stale.get(name);
    this.stale.set(name, { all: all || (before?.all ?? false), told: (before?.told ?? 0) + told });
  }

  private appendFresh(): void {
    const touched = new Set<string>();
    for (const [name, points] of this.fresh) {
      const known = this.columns.get(name) ?? emptyColumns(name);
      if (points.some((point) => point.step <= lastStep(known))) this.spoil(name, true, 0);
      else this.put(name, appended(known, points));
      touched.add(known.key);
    }
    this.fresh.clear();
    this.bump(touched);
    this.later(REFETCH_MS);
  }

  /** A tail that has grown long is made buckets again. */
  private put(name: string, columns: Columns): void {
    this.columns.set(name, columns);
    const tail = columns.steps.length - (columns.counts?.length ?? 0) * 4;
    if (tail > (this.wanted.get(columns.key) ?? 500) * 4) this.spoil(name, true, 0);
  }

  private later(ms: number): void {
    if (this.stale.size && !this.retryTimer) this.timer ||= window.setTimeout(() => void this.readStale(), ms);
  }

  /** Never beside another read of charts: the older answer could come last. */
  private async readStale(): Promise<void> {
    this.timer = 0;
    if (this.loading.value) {
      this.later(TAIL_MS);
      return;
    }
    const found = [...this.stale];
    this.stale.clear();
    const byRun = new Map<string, [string, Stale][]>();
    for (const [name, stale] of found) {
      const [runId, key] = partsOf(name);
      byRun.set(runId, [...(byRun.get(runId) ?? []), [key, stale]]);
    }
    this.loading.value++;
    try {
      await Promise.all([...byRun].map(([runId, keys]) => this.readTails(runId, new Map(keys))));
    } catch (error) {
      if (this.failed(error)) for (const [name] of found) this.spoil(name, true, 0);
    } finally {
      this.loading.value--;
    }
    this.later(REFETCH_MS);
  }

  /** Two requests at most: what is read from its end on, and what is read as a whole. */
  private async readTails(runId: string, keys: Map<string, Stale>): Promise<void> {
    const ends = new Map<string, number>();
    for (const [key, { all }] of keys) {
      const end = lastStep(this.columns.get(nameOf(runId, key)));
      if (!all && end !== -Infinity) ends.set(key, end);
    }
    const whole = [...keys.keys()].filter((key) => !ends.has(key));
    if (ends.size) {
      const start_step = Math.min(...ends.values()) + 1;
      const tails = new Map((await this.read(runId, [...ends.keys()], start_step)).map((one) => [one.key, one]));
      for (const [key, end] of ends) {
        const tail = after(tails.get(key), end);
        if (!tail || tail.steps.length < keys.get(key)!.told) whole.push(key);
        else if (tail.steps.length) this.put(nameOf(runId, key), joined(this.columns.get(nameOf(runId, key))!, tail));
      }
    }
    if (whole.length) {
      for (const one of await this.read(runId, whole, null)) this.columns.set(nameOf(runId, one.key), one);
    }
    this.bump(keys.keys());
  }

  private read(runId: string, keys: string[], start_step: number | null): Promise<Columns[]> {
    const wanted = { run_ids: [runId], keys, max_points: this.maxPoints(keys, 1), start_step };
    return api.series(wanted, this.controller.signal);
  }
}

function lastStep(columns: Columns | undefined): number {
  return columns?.steps.length ? columns.steps[columns.steps.length - 1]! : -Infinity;
}

function nameOf(runId: string, key: string): string {
  return `${runId} ${key}`;
}

function partsOf(name: string): [string, string] {
  const at = name.indexOf(" ");
  return [name.slice(0, at), name.slice(at + 1)];
}

function emptyColumns(name: string): Columns {
  const [runId, key] = partsOf(name);
  const none = new Float64Array();
  return { runId, key, steps: none, times: none, values: none, counts: null, next: null };
}

function appended(known: Columns, points: Fresh[]): Columns {
  points.sort((a, b) => a.step - b.step || a.timestamp - b.timestamp);
  const add = (before: Float64Array, of: (point: Fresh) => number): Float64Array =>
    concat(before, Float64Array.from(points, of));
  return {
    ...known,
    steps: add(known.steps, (point) => point.step),
    times: add(known.times, (point) => point.timestamp),
    values: add(known.values, (point) => point.value),
  };
}

/** The points of a tail that come after a step; undefined where it came in buckets. */
function after(tail: Columns | undefined, step: number): Columns | undefined {
  if (!tail) return emptyColumns(" ");
  if (tail.counts) return undefined;
  const from = lowerBound(tail.steps, step + 1);
  return { ...tail, steps: tail.steps.subarray(from), times: tail.times.subarray(from), values: tail.values.subarray(from) };
}

function joined(known: Columns, tail: Columns): Columns {
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
