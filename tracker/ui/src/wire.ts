/** What the server answers; stepwell.wire and stepwell_tracker.schema are the originals. */

export type Value = number | "NaN" | "Infinity" | "-Infinity";
export type Status = "running" | "finished" | "failed" | "killed" | "scheduled";

export interface Experiment {
  experiment_id: string;
  number: number;
  name: string;
  description: string;
  tags: Record<string, string>;
  lifecycle: "active" | "deleted";
  run_count: number;
}

export interface Run {
  run_id: string;
  experiment_id: string;
  name: string;
  description: string;
  user_id: string | null;
  parent_run_id: string | null;
  status: Status;
  tags: Record<string, string>;
  params: Record<string, string>;
  metrics: Record<string, Value>;
  start_time: number;
  end_time: number | null;
  duration_seconds: number | null;
  heartbeat_at: number;
  lifecycle: "active" | "deleted";
  stop_requested?: boolean;
  truncated?: boolean;
}

export interface RunPage {
  runs: Run[];
  limit: number;
  offset: number;
  next_cursor: string | null;
  total?: number;
}

export interface SeriesSummary {
  key: string;
  count: number;
  exact: boolean;
  last: Value;
  last_step: number;
  last_timestamp: number;
  min: Value | null;
  min_step: number | null;
  max: Value | null;
  max_step: number | null;
}

export interface SeriesPage {
  series: SeriesSummary[];
  total: number;
  next_cursor: string | null;
}

export interface Artifact {
  path: string;
  is_dir: boolean;
  size: number | null;
  modified_at: number | null;
  media_type: string | null;
}

export interface ConsoleEntry {
  number: number;
  stream: string;
  timestamp: number;
  text: string;
}

export interface ConsolePage {
  lines: ConsoleEntry[];
  total: number;
  next_cursor: string | null;
}

export interface Problem {
  title: string;
  status: number;
  detail: string;
  errors?: { path: string; detail: string }[];
}

export const COLUMNS = "application/vnd.stepwell.columns+msgpack";

export function toNumber(value: Value | null | undefined): number | null {
  return value === null || value === undefined ? null : Number(value);
}
