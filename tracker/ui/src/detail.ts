/**
 * What is drawn while somebody looks at a stretch of the charts: its points as exactly as the pixels allow, and
 * those that are logged into it meanwhile.  What is logged outside of it changes nothing.
 */

import type { Columns } from "./columns";
import type { Range } from "./extent";
import { isSystem } from "./search";
import { emptyColumns, joined, lastStep, nameOf, newer, partsOf, tailLength } from "./tails";
import { stepsWithin, type Zoom, type ZoomedSteps } from "./zoom";

const AGAIN_MS = 1_000;

/** The charts' data, of which this is a part. */
export interface Host {
  readonly runIds: string[];
  all(): Iterable<Columns>;
  /** A series as a whole, which is followed live. */
  whole(name: string): Columns | undefined;
  wantedKeys(): string[];
  widthOf(key: string): number;
  readWithin(keys: string[], steps: Range, signal: AbortSignal, take: (found: Columns[]) => void): Promise<void>;
  bump(keys: Iterable<string>): void;
  /** Says what went wrong; true where it is worth another try. */
  failed(error: unknown): boolean;
}

export class Detail {
  private readonly columns = new Map<string, Columns>();
  /** Up to which step each series is known to be here, or to have nothing that belongs here. */
  private readonly reach = new Map<string, number>();
  private readonly stale = new Set<string>();
  /** Which read of a key was begun last: an older answer that comes later is of no use. */
  private readonly turns = new Map<string, number>();
  private turn = 0;
  private zoom: Zoom | null = null;
  private steps: ZoomedSteps | null = null;
  private controller = new AbortController();
  private timer = 0;

  constructor(private readonly host: Host) {}

  get(name: string): Columns | undefined {
    return this.zoom ? this.columns.get(name) : undefined;
  }

  /** Another stretch; null: everything. */
  show(zoom: Zoom | null): void {
    if (textOf(zoom) === textOf(this.zoom)) return;
    this.close();
    this.controller = new AbortController();
    const shown = new Set([...this.columns.values()].map((one) => one.key));
    this.zoom = zoom;
    this.steps = null;
    this.columns.clear();
    this.reach.clear();
    this.host.bump(shown);
    if (zoom) this.load(this.host.wantedKeys());
  }

  close(): void {
    this.controller.abort();
    clearTimeout(this.timer);
    this.timer = 0;
    this.stale.clear();
  }

  /** The keys' series as a whole have come, or come again. */
  load(keys: string[]): void {
    if (!this.zoom || !keys.length) return;
    this.steps = stepsWithin(this.host.all(), this.zoom); // times are known only with the points
    const { training, system } = this.steps;
    void this.read(keys.filter((key) => !isSystem(key)), training);
    void this.read(keys.filter(isSystem), system);
  }

  private async read(keys: string[], steps: Range | null): Promise<void> {
    const { signal } = this.controller;
    if (!steps || !keys.length || !this.host.runIds.length) return;
    const names = this.host.runIds.flatMap((id) => keys.map((key) => nameOf(id, key)));
    const before = new Map(names.map((name) => [name, lastStep(this.host.whole(name))]));
    const turn = ++this.turn;
    for (const key of keys) this.turns.set(key, turn);
    const isLatest = (key: string): boolean => this.turns.get(key) === turn;
    try {
      await this.host.readWithin(keys, steps, signal, (found) => {
        for (const one of found) if (isLatest(one.key)) this.columns.set(nameOf(one.runId, one.key), one);
        this.host.bump(keys);
      });
      if (signal.aborted) return;
      const grown = new Set<string>();
      for (const name of names.filter((one) => isLatest(partsOf(one)[1]))) {
        this.reach.set(name, Math.max(before.get(name)!, lastStep(this.columns.get(name))));
        if (this.follow(name)) grown.add(partsOf(name)[1]);
      }
      this.host.bump(grown);
    } catch (error) {
      if (!signal.aborted && this.host.failed(error)) for (const key of keys) this.again(key);
    }
  }

  /** A series has grown at its end: so does what is shown of it, if that is where it grew; then true. */
  follow(name: string): boolean {
    const reach = this.reach.get(name);
    const whole = this.host.whole(name);
    const key = partsOf(name)[1];
    const steps = isSystem(key) ? this.steps?.system : this.steps?.training;
    if (reach === undefined || !whole || !steps) return false;
    const end = lastStep(whole);
    if (end <= reach || reach >= steps[1]) return false;
    const tail = newer(whole, reach, steps[1]);
    if (!tail) {
      this.again(key);
      return false;
    }
    this.reach.set(name, end);
    const from = newer(tail, Math.floor(steps[0]) - 1)!;
    if (!from.steps.length) return false;
    const known = joined(this.columns.get(name) ?? emptyColumns(name), from);
    this.columns.set(name, known);
    if (tailLength(known) > this.host.widthOf(key) * 4) this.again(key);
    return true;
  }

  /** Points came that are not at the end, or too many: the stretch is read again, soon. */
  again(key: string): void {
    if (!this.zoom) return;
    this.stale.add(key);
    this.timer ||= window.setTimeout(() => {
      this.timer = 0;
      const keys = [...this.stale];
      this.stale.clear();
      this.load(keys);
    }, AGAIN_MS);
  }
}

function textOf(zoom: Zoom | null): string {
  return zoom ? [zoom.x, ...zoom.range, ...[...zoom.starts].flat()].join() : "";
}
