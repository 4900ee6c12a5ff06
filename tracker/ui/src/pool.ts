/** Work on many things, a few at a time: a page must not take every connection of its browser. */

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
