/** Registered models and their versions, by the calls of MLflow's API. */

import { request, searchOf } from "./api";
import { ROOT } from "./route";
import { quoted } from "./search";

const BASE = `${ROOT}/api/2.0/mlflow`;

interface Pair {
  key: string;
  value: string;
}

export interface Version {
  name: string;
  version: string;
  creation_timestamp: number;
  current_stage: string;
  description: string;
  source: string;
  run_id: string;
  model_id?: string;
  tags?: Pair[];
  aliases?: string[];
}

export interface Model {
  name: string;
  creation_timestamp: number;
  last_updated_timestamp: number;
  description?: string;
  tags?: Pair[];
  aliases?: { alias: string; version: string }[];
  latest_versions?: Version[];
}

async function get<T>(path: string, search: Record<string, string | number>, signal: AbortSignal): Promise<T> {
  return (await (await request(`${BASE}/${path}?${searchOf(search)}`, { signal })).json()) as T;
}

const PAGE = 1_000;

/** By name; `onPage` is told after each page. */
export async function models(onPage: (found: Model[]) => void, signal: AbortSignal): Promise<void> {
  const found: Model[] = [];
  let token = "";
  do {
    const page: { registered_models?: Model[]; next_page_token?: string } =
      await get("registered-models/search", { max_results: PAGE, page_token: token }, signal);
    found.push(...(page.registered_models ?? []));
    token = page.next_page_token ?? "";
    onPage([...found]);
  } while (token);
}

export async function model(name: string, signal: AbortSignal): Promise<Model> {
  return (await get<{ registered_model: Model }>("registered-models/get", { name }, signal)).registered_model;
}

/** The newest first. */
export const versionsOf = (name: string, signal: AbortSignal): Promise<Version[]> => versions(`name = ${quoted(name)}`, signal);

export const versionsFrom = (runId: string, signal: AbortSignal): Promise<Version[]> => versions(`run_id = ${quoted(runId)}`, signal);

async function versions(filter: string, signal: AbortSignal): Promise<Version[]> {
  const page = await get<{ model_versions?: Version[] }>("model-versions/search", { filter, max_results: PAGE }, signal);
  return (page.model_versions ?? []).sort((a, b) => Number(b.version) - Number(a.version));
}
