/**
 * Server-sent events over fetch: one connection a page, which carries the tenant's header and goes on
 * after the last event that was seen.  A hidden page lets go of its connection (a browser has six)
 * and takes up again where it was.
 */

import { API, ApiError, request, searchOf, isAbort } from "./api";
import { signal } from "@preact/signals";

export interface PointsEvent {
  run_id: string;
  series: {
    key: string;
    count: number;
    last: { step: number; timestamp: number; value: number | string };
  }[];
}

export interface LiveEvent {
  kind: string;
  data: Record<string, unknown> & { run_id?: string };
}

export const connected = signal<"live" | "connecting" | "lost" | "paused" | "off">("off");
const RETRY_MS = 2000;
/** The server says something every 15 s; after three times that the connection is a dead one. */
const SILENT_MS = 45_000;

/**
 * Calls `fetchAll` whenever everything must be read again (at first, and after a reset), and `onEvent`
 * for what happens after.  Returns what ends it.
 */
export function follow(
  runIds: string[] | null,
  fetchAll: () => void,
  onEvent: (event: LiveEvent) => void,
): () => void {
  let ended = false;
  let last: string | null = null;
  let current: AbortController | null = null;

  async function loop(): Promise<void> {
    while (!ended) {
      if (document.hidden) await shown();
      if (ended) return;
      current = new AbortController();
      const begun = Date.now();
      if (connected.value !== "lost") connected.value = "connecting";
      try {
        const search = searchOf({ run_id: runIds ?? [], last_event_id: last });
        const accept = "text/event-stream";
        const url = `${API}/runs/events?${search}`;
        const answer = await request(url, { accept, signal: current.signal });
        connected.value = "live";
        await read(answer);
      } catch (error) {
        if (error instanceof ApiError && error.problem.status < 500 && error.problem.status !== 429) {
          connected.value = "off"; // there is no such run, or not for us: asking again changes nothing
          return;
        }
        if (!isAbort(error)) connected.value = "lost";
      }
      if (!ended && !document.hidden) await pause(Math.max(RETRY_MS - (Date.now() - begun), 0));
    }
  }

  async function read(answer: Response): Promise<void> {
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
    const connection = current;
    let rest = "";
    for (;;) {
      const silence = setTimeout(() => connection?.abort(), SILENT_MS);
      const { done, value } = await reader.read().finally(() => clearTimeout(silence));
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) take(block);
    }
  }

  function take(block: string): void {
    let [kind, data] = ["", ""];
    for (const line of block.split("\n")) {
      if (line.startsWith("id: ")) last = line.slice(4);
      else if (line.startsWith("event: ")) kind = line.slice(7);
      else if (line.startsWith("data: ")) data = line.slice(6);
    }
    if (!kind || ended) return;
    if (kind === "state") {
      if (!fetched) fetchAll();
      fetched = true;
    } else if (kind === "reset") fetchAll();
    else onEvent({ kind, data: JSON.parse(data) as LiveEvent["data"] });
  }

  let fetched = false;
  const onVisibility = (): void => {
    if (document.hidden) {
      connected.value = "paused";
      current?.abort();
    }
  };
  document.addEventListener("visibilitychange", onVisibility);
  void loop();
  return () => {
    ended = true;
    document.removeEventListener("visibilitychange", onVisibility);
    current?.abort();
    connected.value = "off";
  };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function shown(): Promise<void> {
  return new Promise((resolve) => {
    const check = (): void => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", check);
      resolve();
    };
    document.addEventListener("visibilitychange", check);
  });
}

/** The time, for what says "2 min ago"; it moves every 5 seconds. */
export const now = signal(Date.now());
setInterval(() => (now.value = Date.now()), 5000);
