/**
 * The points that a page's charts show: fetched for what is in view, a few requests at a time,
 * followed live by tails, and again in full detail where somebody zooms in.
 */

import { signal, type Signal } from "@preact/signals";
import * as api from "./api";
import type { Columns } from "./columns";
import { inOrder } from "./lines";
import type { PointsEvent } from "./live";
import { isSystem } from "./search";
import { toNumber } from "./wire";
import type { ZoomedSteps } from "./zoom";

const PAIRS = 2_000;
/** Of a request: 26 bytes each, so that a hundred lines come in less than 2 MB. */
const POINTS = 72_000;
const REFETCH_MS = 1_000;

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
  private readonly stale = new Map<string, number>();
  private controller = new AbortController();
  private detailController = new AbortController();
  private zoom: ZoomedSteps | null = null;
  private scheduled = false;
  private timer = 0;
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
    this.schedule();
  }

  close(): void {
    this.controller.abort();
    this.detailController.abort();
    clearTimeout(this.timer);
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
      if (!api.isAbort(error)) this.error.value = String((error as Error).message);
    } finally {
      this.loading.value--;
    }
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
      if (count === 1) {
        const points = this.fresh.get(name) ?? [];
        points.push({ step: last.step, timestamp: last.timestamp, value: toNumber(last.value as number)! });
        this.fresh.set(name, points);
      } else {
        const known = this.columns.get(name);
        const from = known?.steps.length ? known.steps[known.steps.length - 1]! : -Infinity;
        this.stale.set(name, Math.min(this.stale.get(name) ?? Infinity, from));
      }
    }
    if (this.fresh.size) requestAnimationFrame(() => this.appendFresh());
    if (this.stale.size && !this.timer) {
      this.timer = window.setTimeout(() => void this.readTails(), 100);
    }
  }

  private appendFresh(): void {
    const touched = new Set<string>();
    for (const [name, points] of this.fresh) {
      const known = this.columns.get(name) ?? emptyColumns(name);
      const last = known.steps.length ? known.steps[known.steps.length - 1]! : -Infinity;
      if (points.some((point) => point.step <= last)) this.stale.set(name, -Infinity);
      else this.columns.set(name, appended(known, points));
      touched.add(known.key);
      const tail = known.steps.length - (known.counts?.length ?? 0) * 4;
      if (tail > (this.wanted.get(known.key) ?? 500) * 4) this.stale.set(name, -Infinity);
    }
    this.fresh.clear();
    this.bump(touched);
    if (this.stale.size && !this.timer) {
      this.timer = window.setTimeout(() => void this.readTails(), REFETCH_MS);
    }
  }

  /** One request for each run: the keys from their last known step on (-Infinity: all). */
  private async readTails(): Promise<void> {
    const byRun = new Map<string, [string, number][]>();
    for (const [name, from] of this.stale) {
      const [runId, key] = partsOf(name);
      byRun.set(runId, [...(byRun.get(runId) ?? []), [key, from]]);
    }
    this.stale.clear();
    try {
      await Promise.all([...byRun].flatMap(([runId, keys]) => [
        this.readTail(runId, keys.filter(([, from]) => from === -Infinity).map(([key]) => key), null),
        this.readTail(
          runId,
          keys.filter(([, from]) => from !== -Infinity).map(([key]) => key),
          Math.min(...keys.map(([, from]) => from).filter((from) => from !== -Infinity)),
        ),
      ]));
    } catch (error) {
      if (!api.isAbort(error)) this.error.value = String((error as Error).message);
    }
    this.timer = 0;
    if (this.stale.size) this.timer = window.setTimeout(() => void this.readTails(), REFETCH_MS);
  }

  private async readTail(runId: string, keys: string[], start_step: number | null): Promise<void> {
    if (!keys.length) return;
    const max_points = this.maxPoints(keys, 1);
    const wanted = { run_ids: [runId], keys, max_points, start_step };
    for (const one of await api.series(wanted, this.controller.signal)) {
      const name = nameOf(runId, one.key);
      const known = this.columns.get(name);
      this.columns.set(name, known && start_step !== null ? joined(known, one, start_step) : one);
    }
    this.bump(keys);
  }
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
  return { runId, key, steps: none, times: none, values: none, counts: null };
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

/** What is known before a step, and the tail from there.  A bucket is never cut: of its last point,
 * which the tail repeats, there are two then. */
function joined(known: Columns, tail: Columns, from: number): Columns {
  const bucketed = (known.counts?.length ?? 0) * 4;
  let kept = known.steps.length;
  while (kept > bucketed && known.steps[kept - 1]! >= from) kept--;
  const rows = inOrder(tail);
  const join = (a: Float64Array, b: Float64Array): Float64Array =>
    concat(a.subarray(0, kept), Float64Array.from(rows, (row) => b[row]!));
  return {
    ...known,
    steps: join(known.steps, tail.steps),
    times: join(known.times, tail.times),
    values: join(known.values, tail.values),
  };
}

function concat(a: Float64Array, b: Float64Array): Float64Array {
  const out = new Float64Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}
