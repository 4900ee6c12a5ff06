/** Many runs at once: chosen ones (`runs=`), or all that a search finds. */

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo } from "preact/hooks";
import * as api from "./api";
import { pythonOf } from "./bulk";
import { ChartData } from "./chartdata";
import { type ChartRun, Focused } from "./chart";
import { highlighted, settings } from "./chartstate";
import { adopt, assign, colorIndex, colorOf } from "./colors";
import { Difference } from "./difference";
import { plural } from "./format";
import { follow, type PointsEvent } from "./live";
import { collate } from "./lines";
import { MetricGrid } from "./metricgrid";
import { Parallel } from "./parallel";
import { href, list, param, query, set, tenant } from "./route";
import { Scatter } from "./scatter";
import { keysOf } from "./search";
import { stepsWithin } from "./zoom";
import { copy, Status } from "./ui";
import type { Run } from "./wire";

const TABS: [string, string][] = [["", "Charts"], ["params", "Parameters"], ["parallel", "Parallel coordinates"], ["scatter", "Scatter and importance"]];
const MOST_CHOSEN = 200;
const MOST_FOUND = 5_000;
const MOST_CHARTED = 100;

export function Compare(): JSX.Element {
  const state = useMemo(() => new CompareState(), []);
  const text = ["runs", "experiment", "q", "lifecycle"].map((name) => param(name)).join("\0");
  useEffect(() => void state.fetch(), [text]);
  useEffect(() => state.open(), []);
  const off = new Set(list("off"));
  const all = state.runs.value;
  const shown = useMemo(() => all.filter((run) => !off.has(run.run_id)), [all, [...off].join()]);
  const charted = useMemo(() => chartRuns(shown.slice(0, MOST_CHARTED), param("group")), [shown, param("group")]);
  useEffect(() => state.data.setRuns(charted.map((run) => run.runId)), [charted]);
  const { zoom, x } = settings.value;
  useEffect(() => state.data.setZoom(zoom && stepsWithin(state.data, charted, x, zoom)), [zoom?.join(), x, charted]);
  useEffect(() => {
    document.title = `${plural(all.length, "run")} compared · Stepwell`;
  }, [all.length]);
  const metrics = useMemo(() => [...new Set(shown.slice(0, MOST_CHARTED).flatMap((run) => Object.keys(run.metrics)))].sort(collate), [shown]);
  const tab = param("tab");
  const ids = all.map((run) => run.run_id);
  return (
    <section class="compare" aria-label="Compare runs">
      <div class="row wrap head-line">
        <h1>{state.loading.value && !all.length ? "Reading runs…" : plural(all.length, "run")}</h1>
        {state.total.value > all.length && <span class="warning">the first {all.length.toLocaleString("en-US")} of {state.total.value.toLocaleString("en-US")}</span>}
        {tab === "" && shown.length > MOST_CHARTED && <span class="warning">the first {MOST_CHARTED} are drawn</span>}
        {state.error.value && <span class="warning" role="alert">{state.error.value}</span>}
        <span class="space" />
        <button type="button" onClick={() => void copy(pythonOf(ids.slice(0, MOST_CHOSEN), tenant.value), "Copied the Python lines")}>Copy Python</button>
        <button type="button" onClick={() => void copy(location.href, "Copied the link to this view")}>Copy link</button>
      </div>
      <nav class="tabs" aria-label="Ways to compare">
        {TABS.map(([name, label]) => <a key={name} href={tabHref(name)} aria-current={tab === name ? "page" : undefined}>{label}</a>)}
      </nav>
      {tab === "" && <Legend runs={all.slice(0, MOST_CHARTED)} off={off} />}
      {tab === "" && <MetricGrid metrics={metrics} data={state.data} runs={charted} extra={<Grouping runs={all} />} />}
      {tab === "params" && <Difference runs={shown} />}
      {tab === "parallel" && <Parallel runs={shown} />}
      {tab === "scatter" && <Scatter runs={shown} />}
      <Focused data={state.data} runs={charted} />
    </section>
  );
}

function tabHref(tab: string): string {
  const search = new URLSearchParams(query.value);
  search.delete("tab");
  search.delete("focus");
  if (tab) search.set("tab", tab);
  return `${location.pathname}?${search.toString().replace(/%(2F|3A|2C|7E)/g, decodeURIComponent)}`;
}

function chartRuns(runs: Run[], group: string): ChartRun[] {
  assign(runs.map((run) => run.run_id));
  return runs.map((run) => ({
    runId: run.run_id, label: run.name || run.run_id.slice(-8), color: colorIndex(run.run_id), start: run.start_time,
    ...(group ? { group: groupOf(run, group) } : {}),
  }));
}

function groupOf(run: Run, group: string): string {
  const [, entity, key] = /^(params|tags)\.(.+)$/s.exec(group) ?? [];
  const value = (entity === "tags" ? run.tags : run.params)[key ?? ""];
  return value === undefined ? `no ${key}` : `${key} = ${value}`;
}

class CompareState {
  readonly data = new ChartData();
  readonly runs = signal<Run[]>([]);
  readonly total = signal(0);
  readonly loading = signal(false);
  readonly error = signal("");
  private controller = new AbortController();
  private timer = 0;

  open(): () => void {
    let first = true;
    const end = follow(null, () => {
      if (!first) this.data.refresh();
      first = false;
    }, ({ kind, data }) => {
      if (kind === "points") this.data.onPoints(data as unknown as PointsEvent);
      const ours = this.runs.value.some((run) => run.run_id === data.run_id);
      if (ours && kind !== "points" && kind !== "console") this.soon();
      if (ours && kind === "points" && (data as unknown as PointsEvent).series.some(({ key }) => !this.knows(key))) this.soon();
    });
    return () => {
      end();
      clearTimeout(this.timer);
      this.controller.abort();
      this.data.close();
    };
  }

  private knows(key: string): boolean {
    return this.runs.value.some((run) => key in run.metrics);
  }

  private soon(): void {
    this.timer ||= window.setTimeout(() => {
      this.timer = 0;
      void this.fetch();
    }, 500);
  }

  async fetch(): Promise<void> {
    this.controller.abort();
    this.controller = new AbortController();
    this.loading.value = true;
    try {
      this.runs.value = param("runs") ? await this.chosen() : await this.found();
      this.error.value = "";
    } catch (error) {
      if (!api.isAbort(error)) this.error.value = (error as Error).message;
    }
    this.loading.value = false;
  }

  private async chosen(): Promise<Run[]> {
    const wanted = param("runs").split(",").slice(0, MOST_CHOSEN).flatMap((part) => {
      const [id, color] = part.split("~");
      if (!id || !/^[0-9a-f-]{32,36}$/.test(id)) return [];
      if (color) adopt(id, Number(color));
      return [id.replaceAll("-", "")];
    });
    const found = await Promise.allSettled(wanted.map((id) => api.run(id, this.controller.signal)));
    const failed = found.find((one) => one.status === "rejected");
    const runs = found.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    if (failed && !runs.length) throw failed.reason;
    this.total.value = runs.length;
    return runs;
  }

  private async found(): Promise<Run[]> {
    const runs: Run[] = [];
    let cursor: string | null = "";
    while (cursor !== null && runs.length < MOST_FOUND) {
      const search = { experiment_id: param("experiment"), filter: param("q"), lifecycle: param("lifecycle"), limit: 1000, cursor, total: cursor ? "false" : "true" };
      const page: Awaited<ReturnType<typeof api.runs>> = await api.runs(search, this.controller.signal);
      runs.push(...page.runs);
      if (page.total !== undefined) this.total.value = page.total;
      cursor = page.next_cursor;
    }
    return runs;
  }
}

function Legend({ runs, off }: { runs: Run[]; off: Set<string> }): JSX.Element {
  const toggle = (id: string): void => set({ off: off.has(id) ? [...off].filter((one) => one !== id) : [...off, id] }, { quietly: true });
  return (
    <ul class="legend" aria-label="Runs">
      {runs.map((run) => (
        <li key={run.run_id} class={off.has(run.run_id) ? "off" : ""} onMouseEnter={() => (highlighted.value = run.run_id)} onMouseLeave={() => (highlighted.value = null)}>
          <button type="button" aria-pressed={!off.has(run.run_id)} title={off.has(run.run_id) ? "Show" : "Hide"} aria-label={`Show ${run.name}`} onClick={() => toggle(run.run_id)}>
            <svg width="10" height="10" aria-hidden="true"><rect width="10" height="10" rx="2" fill={colorOf(colorIndex(run.run_id))} /></svg>
          </button>
          <a href={href(`/runs/${run.run_id}`)}>{run.name || run.run_id}</a>
          {run.status !== "finished" && <Status run={run} />}
        </li>
      ))}
    </ul>
  );
}

function Grouping({ runs }: { runs: Run[] }): JSX.Element {
  const keys = useMemo(() => keysOf(runs), [runs]);
  return (
    <label>
      Group by{" "}
      <select value={param("group")} onChange={(event) => set({ group: event.currentTarget.value })}>
        <option value="">nothing</option>
        <optgroup label="Parameters">{keys.params.slice(0, 200).map((key) => <option key={key} value={`params.${key}`}>{key}</option>)}</optgroup>
        <optgroup label="Tags">{keys.tags.slice(0, 200).map((key) => <option key={key} value={`tags.${key}`}>{key}</option>)}</optgroup>
      </select>
    </label>
  );
}
