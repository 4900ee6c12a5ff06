/** Work on many things, a few at a time: a page must not take every connection of its browser; and work that is asked for again and again. */

/** In the order of the items.  Ends with the first failure; what has begun then goes on. */
export async function pooled<T>(items: T[], atOnce: number, work: (item: T) => Promise<unknown>): Promise<void> {
  const waiting = items.slice();
  let failed = false;
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, async () => {
    while (waiting.length && !failed) {
      try {
        await work(waiting.shift()!);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  }));
}

export function parts<T>(items: T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => items.slice(i * size, (i + 1) * size));
}

/** Does something a moment after it was asked for, once for many calls, and not before it has ended the last time: what is
 * asked for more often than it can be answered would never be answered if each call ended the one before. */
export class Soon {
  private timer = 0;
  private ended = false;
  private running: Promise<unknown> = Promise.resolve();

  constructor(private readonly act: () => Promise<unknown>, private readonly ms: () => number) {}

  ask(): void {
    this.timer ||= window.setTimeout(() => void this.run(), this.ms());
  }

  end(): void {
    this.ended = true;
    clearTimeout(this.timer);
  }

  private async run(): Promise<void> {
    await this.running.catch(() => undefined);
    if (this.ended) return;
    this.timer = 0;
    this.running = this.act();
  }
}
