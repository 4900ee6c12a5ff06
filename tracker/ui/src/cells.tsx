/** The columns that a runs table may have: what each shows and how the server sorts by it. */

import type { JSX } from "preact";
import { experimentName } from "./catalog";
import { csv, ago, duration, exact, moment, rounded, shown, utc } from "./format";
import { now } from "./live";
import { href } from "./route";
import { isJudged, keyed } from "./search";
import type { Table } from "./table";
import { metricOf } from "./table";
import { Status } from "./ui";
import type { Run } from "./wire";

export interface Column {
  /** As the address has it. */
  id: string;
  title: string;
  kind: "" | "param" | "metric" | "tag";
  width: number;
  numeric: boolean;
  /** The expression to order by. */
  order: string;
  cell: (run: Run, table: Table) => JSX.Element | string;
  text: (run: Run, table: Table) => string | number | null;
}

const FIXED: Record<string, Column> = {
  status: plain("status", "Status", 86, "attributes.status", (run) => <Status run={run} />, (run) => run.status),
  started: plain("started", "Started", 98, "attributes.start_time",
    (run) => <span title={moment(run.start_time)}>{ago(run.start_time, now.value)}</span>, (run) => utc(run.start_time)),
  duration: plain("duration", "Duration", 100, "attributes.duration", (run) => {
    const seconds = run.duration_seconds ?? (run.status === "running" ? (Math.max(now.value, run.heartbeat_at) - run.start_time) / 1000 : null);
    return <span title={seconds === null ? "" : `${seconds} s`}>{duration(seconds)}</span>;
  }, (run) => run.duration_seconds),
  user: plain("user", "User", 120, "attributes.user_id", (run) => run.user_id ?? "", (run) => run.user_id),
  experiment: plain("experiment", "Experiment", 130, "attributes.experiment", (run) => experimentName(run.experiment_id), (run) => experimentName(run.experiment_id)),
  notes: plain("notes", "Notes", 200, "attributes.description", (run) => <span title={run.description}>{run.description}</span>, (run) => run.description),
};
export const FIXED_IDS = Object.keys(FIXED);

function plain(
  id: string, title: string, width: number, order: string,
  cell: (run: Run) => JSX.Element | string, text: (run: Run) => string | number | null,
): Column {
  return { id, title, kind: "", width, numeric: false, order, cell, text };
}

/** Pixels: a phone's width. */
const NARROW = 600;

export const NAME: Column = {
  ...plain("name", "Name", innerWidth < NARROW ? 150 : 220, "attributes.name", (run) => (
    <a href={href(`/runs/${run.run_id}`)} title={run.description ? `${run.name}\n${run.description}` : run.name} tabIndex={-1}>{run.name || run.run_id}</a>
  ), (run) => run.name),
};

/** Pixels: the longest rounded number fits. */
const ROUNDED = 100;

/** `loss`, and `min metrics.loss` where the lowest value is meant rather than the last.  `numeric`: parameters that are numbers. */
export function columnOf(id: string, numeric?: Set<string>): Column | null {
  if (FIXED[id]) return FIXED[id];
  const found = /^(?:(min|max) )?(params|metrics|tags)\.(.+)$/s.exec(id);
  if (!found) return null;
  const [, extreme, entity, key] = found as unknown as [string, "min" | "max" | undefined, string, string];
  const order = extreme ? `${extreme}(${keyed(entity, key)})` : keyed(entity, key);
  if (entity === "metrics") return metric(id, key, extreme, order);
  const of = (run: Run): string => (entity === "params" ? run.params[key] : run.tags[key]) ?? "";
  return {
    id, title: key, kind: entity === "params" ? "param" : "tag", width: Math.min(140, Math.max(entity === "params" ? ROUNDED : 72, 20 + key.length * 7)), order,
    numeric: entity === "params" && numeric?.has(key) === true,
    cell: (run) => <span title={of(run)}>{shown(of(run))}</span>, text: of,
  };
}

function metric(id: string, key: string, extreme: "min" | "max" | undefined, order: string): Column {
  const of = (run: Run, table: Table): number | null => {
    if (!extreme) return metricOf(run, key);
    const found = table.extremes(run.run_id, key);
    return found ? (extreme === "min" ? found.low : found.high) : null;
  };
  return {
    id, title: extreme ? `${extreme} ${key}` : key, kind: "metric", width: 100, numeric: true, order,
    cell: (run, table) => <span title={exact(of(run, table))}>{rounded(of(run, table))}</span>, text: of,
  };
}

const [JUDGED, PARAMS, METRICS] = [4, 6, 6];

/** What a table shows while nobody has chosen: what came out, what was put in, and what else there is. */
export function defaults(keys: { params: string[]; metrics: string[] }, everywhere: boolean): string[] {
  const judged = keys.metrics.filter(isJudged).slice(0, JUDGED);
  const others = keys.metrics.filter((key) => !judged.includes(key)).slice(0, METRICS - judged.length);
  const when = ["started", "duration", ...(everywhere ? ["experiment"] : [])];
  const isNarrow = innerWidth < NARROW; // there is room for two columns beside the name
  return [
    "status", ...(isNarrow ? [] : when),
    ...judged.map((key) => `metrics.${key}`),
    ...keys.params.slice(0, PARAMS).map((key) => `params.${key}`),
    ...others.map((key) => `metrics.${key}`),
    ...(isNarrow ? when : []),
  ];
}

/** The keys that rows must carry for these columns; one that no run has, where none is needed. */
export function neededKeys(columns: Column[]): string[] {
  const found = columns.flatMap((column) => {
    const key = /^(?:(?:min|max) )?(?:params|metrics)\.(.+)$/s.exec(column.id)?.[1];
    return key ? [key] : [];
  });
  return found.length ? [...new Set(found)] : ["stepwell.none"];
}

export function bestKeys(columns: Column[]): string[] {
  return columns.flatMap((column) => /^(?:min|max) metrics\.(.+)$/s.exec(column.id)?.[1] ?? []);
}

export function tableCsv(runs: Run[], columns: Column[], table: Table): string {
  const head = ["run_id", "name", ...columns.map((column) => column.id)].map(csv).join(",");
  const lines = runs.map((run) =>
    [csv(run.run_id), csv(run.name), ...columns.map((column) => csv(column.text(run, table)))].join(","));
  return `${[head, ...lines].join("\n")}\n`;
}
