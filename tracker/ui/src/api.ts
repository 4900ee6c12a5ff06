/** Calls of the API, in the tenant of the address. */

import { ROOT, tenant } from "./route";
import { type Columns, decodeColumns } from "./columns";
import { decodeSweep, type Sweep } from "./sweep";
import {
  COLUMNS, type Artifact, type ConsolePage, type Experiment, type Problem, type Run, type RunPage,
  type SeriesPage, type SeriesSummary,
} from "./wire";

export const API = `${ROOT}/api/v1/experiments`;

export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    const fields = (problem.errors ?? []).map((e) => e.detail).filter((d) => d !== problem.detail);
    super([problem.detail || problem.title, ...fields].join("; "));
  }
}

/** Nobody answered at all: the server is down, or the network is. */
export class Unreachable extends Error {
  constructor() {
    super("The server does not answer");
  }
}

interface Options {
  method?: string;
  body?: unknown;
  accept?: string;
  signal?: AbortSignal | undefined;
  headers?: Record<string, string>;
}

export async function request(url: string, options: Options = {}): Promise<Response> {
  const headers: Record<string, string> = { "X-Tenant-ID": tenant.value, ...options.headers };
  if (options.accept) headers["Accept"] = options.accept;
  if (options.body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(url, {
    method: options.method ?? "GET",
    headers,
    ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
    ...(options.signal ? { signal: options.signal } : {}),
  }).catch((error: unknown) => {
    throw isAbort(error) ? error : new Unreachable();
  });
  if (!answer.ok) throw new ApiError(await problemOf(answer));
  return answer;
}

async function problemOf(answer: Response): Promise<Problem> {
  try {
    return (await answer.json()) as Problem;
  } catch {
    return { title: answer.statusText, status: answer.status, detail: `HTTP ${answer.status}` };
  }
}

async function json<T>(url: string, options: Options = {}): Promise<T> {
  return (await (await request(url, options)).json()) as T;
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/** Whether the same may succeed in a moment: nobody answered, or the server was busy or going down. */
export function isPassing(error: unknown): boolean {
  if (error instanceof ApiError) return error.problem.status >= 500 || error.problem.status === 429;
  return error instanceof Unreachable;
}

const RETRY_MS = 2_000;

/** Reads again and again while what goes wrong may pass, and tells it each time; otherwise rejects as `read` does. */
export async function patiently<T>(read: () => Promise<T>, signal: AbortSignal, tell: (error: Error) => void): Promise<T> {
  for (;;) {
    try {
      return await read();
    } catch (error) {
      if (!isPassing(error) || signal.aborted) throw error;
      tell(error as Error);
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    signal.throwIfAborted();
  }
}

export type Search = Record<string, string | string[] | number | null | undefined>;

export function searchOf(search: Search): string {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(search)) {
    if (Array.isArray(value)) for (const one of value) found.append(name, one);
    else if (value !== null && value !== undefined && value !== "") found.set(name, String(value));
  }
  return found.toString();
}

/** A key or path within an address; `/` stands as it is. */
export function encoded(name: string): string {
  return name.split("/").map(encodeURIComponent).join("/");
}

export const runUrl = (id: string, rest = ""): string => `${API}/runs/${id}${rest}`;

export async function tenants(): Promise<string[]> {
  return (await json<{ tenants: string[] }>(`${ROOT}/api/v1/tenants`)).tenants;
}

/** The names of all series of a run: of very many, long before their sizes and extremes. */
export const metricKeys = async (id: string, signal: AbortSignal): Promise<string[]> =>
  (await json<{ keys: string[] }>(runUrl(id, "/metric-keys"), { signal })).keys;

/** Every series of a run from a page on. */
export async function seriesFrom(id: string, first: SeriesPage, signal: AbortSignal): Promise<SeriesSummary[]> {
  const found = [...first.series];
  for (let cursor = first.next_cursor; cursor !== null;) {
    const page = await seriesPage(id, { limit: 10_000, cursor }, signal);
    found.push(...page.series);
    cursor = page.next_cursor;
  }
  return found;
}

export async function experiments(lifecycle = "active"): Promise<Experiment[]> {
  const found: Experiment[] = [];
  let cursor: string | null = "";
  while (cursor !== null) {
    const search: string = searchOf({ lifecycle, limit: 1000, cursor });
    const page: { experiments: Experiment[]; next_cursor: string | null } = await json(
      `${API}?${search}`,
    );
    found.push(...page.experiments);
    cursor = page.next_cursor;
  }
  return found;
}

export const changeExperiment = (id: string, body: unknown): Promise<Experiment> =>
  json(`${API}/${id}`, { method: "PATCH", body });

export const runs = (search: Search, signal?: AbortSignal): Promise<RunPage> =>
  json(`${API}/runs?${searchOf(search)}`, { signal });

/** Every run that a search finds, up to ten thousand, with the parameters and metrics that it names. */
export async function sweep(search: Search, signal: AbortSignal): Promise<Sweep> {
  const answer = await request(`${API}/runs/columns?${searchOf(search)}`, { accept: COLUMNS, signal });
  return decodeSweep(await answer.arrayBuffer());
}

export const run = (id: string, signal?: AbortSignal): Promise<Run> => json(runUrl(id), { signal });

export const changeRun = (id: string, body: unknown): Promise<Run> =>
  json(runUrl(id), { method: "PATCH", body });

export const deleteRun = (id: string): Promise<Run> => json(runUrl(id), { method: "DELETE" });
export const restoreRun = (id: string): Promise<Run> =>
  json(runUrl(id, "/restore"), { method: "POST" });
export const stopRun = (id: string): Promise<unknown> =>
  json(runUrl(id, "/stop"), { method: "POST" });

export const seriesPage = (
  id: string, search: Search, signal?: AbortSignal,
): Promise<SeriesPage> => json(`${runUrl(id, "/metrics")}?${searchOf(search)}`, { signal });

export interface Wanted {
  run_ids: string[];
  keys: string[];
  max_points?: number | null;
  start_step?: number | null;
  end_step?: number | null;
}

export async function series(body: Wanted, signal?: AbortSignal): Promise<Columns[]> {
  const options = { method: "POST", body, accept: COLUMNS, signal };
  const answer = await request(`${API}/runs/series`, options);
  return decodeColumns(await answer.arrayBuffer());
}

const PAGE_POINTS = 100_000;

/** Every point of a series, a page at a time. */
export async function* history(id: string, key: string): AsyncGenerator<Columns> {
  if (/(^|\/)\.\.?(\/|$)/.test(key)) { // in a path a browser would resolve it
    yield* await series({ run_ids: [id], keys: [key] });
    return;
  }
  let cursor: string | null = "";
  while (cursor !== null) {
    const search: string = searchOf({ limit: PAGE_POINTS, cursor });
    const answer = await request(`${runUrl(id, `/metrics/${encoded(key)}`)}?${search}`, { accept: COLUMNS });
    const [page] = decodeColumns(await answer.arrayBuffer());
    if (page?.steps.length) yield page;
    cursor = page?.next ?? null;
  }
}

export const console_ = (
  id: string, search: Search, signal?: AbortSignal,
): Promise<ConsolePage> => json(`${runUrl(id, "/console")}?${searchOf(search)}`, { signal });

export const artifacts = (
  id: string, search: Search, signal?: AbortSignal,
): Promise<{ artifacts: Artifact[]; next_cursor: string | null }> =>
  json(`${runUrl(id, "/artifacts")}?${searchOf(search)}`, { signal });

export const artifactUrl = (id: string, path: string): string =>
  runUrl(id, `/artifacts/${encoded(path)}`);
