/**
 * The points that a page's charts show: fetched for what is in view, a few requests at a time,
 * followed live by tails, and again in full detail where somebody zooms in.
 */

import { signal, type Signal } from "@preact/signals";
import * as api from "./api";
import type { Columns } from "./columns";
import { Detail, type Host } from "./detail";
import type { Range } from "./extent";
import type { PointsEvent } from "./live";
import { parts, pooled } from "./pool";
import { appended, emptyColumns, type Fresh, joined, lastStep, nameOf, newer, partsOf, tailLength } from "./tails";
import { type Run, toNumber } from "./wire";
import type { Zoom } from "./zoom";

const PAIRS = 2_000;
/** Of a request: 26 bytes each, so that a hundred lines come in less than 2 MB. */
const POINTS = 72_000;
/** Runs of one request: of many lines the first are on the screen while the server reads the others. */
const RUNS = 25;
const AT_ONCE = 2;
const TAILS_AT_ONCE = 4;
const TAIL_MS = 100;
const REFETCH_MS = 1_000;
const RETRY_MS = 2_000;
/** From so many lines on, live points are drawn a few times a second, not with every frame. */
const CROWD = 20;
const CROWD_MS = 400;

/** What is to be read of a series: what comes after its last point, or all of it again. */
interface Stale {
  all: boolean;
  /** How many points events told of: a tail with fewer lacks some that lie further back. */
  told: number;
}

export class ChartData implements Host {
  /** Grows when a key has other points than before. */
  private readonly versions = new Map<string, Signal<number>>();
  private readonly columns = new Map<string, Columns>();
  private readonly detail = new Detail(this);
  private readonly wanted = new Map<string, number>();
  private readonly missing = new Set<string>();
  private readonly fresh = new Map<string, Fresh[]>();
  private readonly stale = new Map<string, Stale>();
  private controller = new AbortController();
  private scheduled = false;
  private appending = false;
  /** Runs whose last values are to be compared with what is shown, once that has come. */
  private behind: Run[] = [];
  private timer = 0;
  private retryTimer = 0;
  readonly error = signal("");
  readonly loading = signal(0);
  /** Of these reads, the ones that charts wait for. */
  readonly reading = signal(0);
  runIds: string[] = [];

  version(key: string): Signal<number> {
    let found = this.versions.get(key);
    if (!found) this.versions.set(key, (found = signal(0)));
    return found;
  }

  get(runId: string, key: string): Columns | undefined {
    const name = nameOf(runId, key);
    return this.detail.get(name) ?? this.columns.get(name);
  }

  whole(name: string): Columns | undefined {
    return this.columns.get(name);
  }

  widthOf(key: string): number {
    return this.wanted.get(key) ?? 500;
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
    this.detail.close();
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
      await this.inParts({ keys, run_ids: this.runIds }, signal, (found) => {
        for (const one of found) this.columns.set(nameOf(one.runId, one.key), one);
        this.bump(keys);
      });
      this.detail.load(keys);
    } catch (error) {
      if (this.failed(error)) for (const key of keys) this.missing.add(key);
    } finally {
      this.loading.value--;
    }
    this.compare();
  }

  private async inParts(wanted: api.Wanted, signal: AbortSignal, take: (found: Columns[]) => void): Promise<void> {
    const max_points = this.maxPoints(wanted.keys, wanted.run_ids.length);
    this.reading.value++;
    try {
      await pooled(parts(wanted.run_ids, RUNS), AT_ONCE, async (run_ids) => {
        const found = await this.series({ ...wanted, max_points, run_ids }, signal);
        if (!signal.aborted) take(found);
      });
    } finally {
      this.reading.value--;
    }
  }

  readWithin(keys: string[], [start, end]: Range, signal: AbortSignal, take: (found: Columns[]) => void): Promise<void> {
    const steps = { start_step: Math.floor(start), ...(Number.isFinite(end) ? { end_step: Math.ceil(end) } : {}) };
    return this.inParts({ keys, run_ids: this.runIds, ...steps }, signal, take);
  }

  /** Says what went wrong; true where the same will be tried again in a moment. */
  failed(error: unknown): boolean {
    if (api.isAbort(error)) return false;
    this.error.value = (error as Error).message;
    const passing = api.isPassing(error);
    if (passing) {
      this.retryTimer ||= window.setTimeout(() => {
        this.retryTimer = 0;
        this.schedule();
        this.later(TAIL_MS);
      }, RETRY_MS);
    }
    return passing;
  }

  /** Show a stretch as exactly as the pixels allow; null: all there is. */
  setZoom(zoom: Zoom | null): void {
    this.detail.show(zoom);
  }

  bump(keys: Iterable<string>): void {
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
    if (this.fresh.size && !this.appending) {
      this.appending = true;
      if (this.runIds.length > CROWD) setTimeout(() => this.appendFresh(), CROWD_MS);
      else requestAnimationFrame(() => this.appendFresh());
    }
    this.later(TAIL_MS);
  }

  wantedKeys(): string[] {
    return [...this.wanted.keys()];
  }

  /** What was logged between the first read and the first event is told by nobody, but by the last values of runs. */
  catchUp(runs: Run[]): void {
    this.behind = runs;
    this.compare();
  }

  /** Not before everything that is on its way has come: else all of it would be asked for once more. */
  private compare(): void {
    if (this.loading.value || this.scheduled || this.missing.size) return;
    for (const { run_id, metrics } of this.behind) for (const key of this.wanted.keys()) {
      const [told, known] = [toNumber(metrics[key]), this.columns.get(nameOf(run_id, key))?.values.at(-1)];
      if (told !== null && !Object.is(told, known)) this.spoil(nameOf(run_id, key), false, 0);
    }
    this.behind = [];
    this.later(TAIL_MS);
  }

  private spoil(name: string, all: boolean, told: number): void {
    const before = this.stale.get(name);
    this.stale.set(name, { all: all || (before?.all ?? false), told: (before?.told ?? 0) + told });
  }

  private appendFresh(): void {
    this.appending = false;
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
    this.detail.follow(name);
    if (tailLength(columns) > this.widthOf(columns.key) * 4) this.spoil(name, true, 0);
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
      await pooled([...byRun], TAILS_AT_ONCE, ([runId, keys]) => this.readTails(runId, new Map(keys)));
    } catch (error) {
      if (this.failed(error)) for (const [name] of found) this.spoil(name, true, 0);
    } finally {
      this.loading.value--;
    }
    this.compare();
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
    const grown = new Set<string>();
    if (ends.size) {
      const start_step = Math.min(...ends.values()) + 1;
      const tails = new Map((await this.read(runId, [...ends.keys()], start_step)).map((one) => [one.key, one]));
      for (const [key, end] of ends) {
        const name = nameOf(runId, key);
        const tail = newer(tails.get(key) ?? emptyColumns(name), end);
        if (!tail || tail.steps.length < keys.get(key)!.told) whole.push(key);
        else if (tail.steps.length) {
          const known = this.columns.get(name)!; // an event may have told some of it meanwhile
          this.put(name, joined(known, newer(tail, lastStep(known))!));
          grown.add(key);
        }
      }
    }
    if (whole.length) {
      for (const one of await this.read(runId, whole, null)) {
        this.columns.set(nameOf(runId, one.key), one);
        this.detail.again(one.key);
        grown.add(one.key);
      }
    }
    this.bump(grown);
  }

  private read(runId: string, keys: string[], start_step: number | null): Promise<Columns[]> {
    const wanted = { run_ids: [runId], keys, max_points: this.maxPoints(keys, 1), start_step };
    return this.series(wanted, this.controller.signal);
  }

  private async series(wanted: api.Wanted, signal: AbortSignal): Promise<Columns[]> {
    const found = await api.series(wanted, signal);
    this.error.value = "";
    return found;
  }
}
