/** Many runs at once: chosen ones (`runs=`), or all that a search finds. */

import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useMemo } from "preact/hooks";
import { pythonOf } from "./bulk";
import { type ChartRun, Focused, zoomOf } from "./chart";
import { settings } from "./chartstate";
import { assign, colorIndex } from "./colors";
import { chosenIds, CompareState, isSweep, MOST_CHOSEN, searchText } from "./comparestate";
import { Difference } from "./difference";
import { plural } from "./format";
import { collate } from "./lines";
import { GroupLegend, groupsOf, Legend } from "./legend";
import { MetricGrid } from "./metricgrid";
import { Parallel } from "./parallel";
import { href, list, param, query, set, tenant } from "./route";
import { Scatter } from "./scatter";
import { byInterest, keysOf } from "./search";
import { sweepOf } from "./sweep";
import { copy } from "./ui";
import type { Run } from "./wire";

const TABS: [string, string][] = [["", "Charts"], ["params", "Parameters"], ["parallel", "Parallel coordinates"], ["scatter", "Scatter and importance"]];
const MOST_CHARTED = 100;

export function Compare(): JSX.Element {
  const state = useMemo(() => new CompareState(), []);
  const text = searchText();
  useEffect(() => void state.fetch(), [text]);
  useEffect(() => state.open(), []);
  useEffect(() => ahead(state), []);
  const off = new Set(list("off"));
  const all = state.runs.value;
  const shown = useMemo(() => all.filter((run) => !off.has(run.run_id)), [all, [...off].join()]);
  const charted = useMemo(() => chartRuns(shown.slice(0, MOST_CHARTED), param("group")), [shown, param("group")]);
  useLayoutEffect(() => {
    if (charted.length) state.data.setRuns(charted.map((run) => run.runId));
  }, [charted]);
  const { zoom, x } = settings.value;
  useEffect(() => state.data.setZoom(zoom && zoomOf(charted, x, zoom)), [zoom?.join(), x, charted]);
  const found = state.sweep.value;
  const sweep = useMemo(() => (param("runs") && off.size ? sweepOf(shown) : found), [found, shown]);
  const size = isSweep() ? (sweep?.size ?? 0) : all.length;
  useEffect(() => {
    document.title = `${plural(size, "run")} compared · Stepwell`;
  }, [size]);
  const metrics = useMemo(() => [...new Set(shown.slice(0, MOST_CHARTED).flatMap((run) => Object.keys(run.metrics)).concat(state.moreKeys.value))].sort(collate), [shown, state.moreKeys.value]);
  const tab = param("tab");
  const legend = param("group") ? <GroupLegend runs={charted} /> : <Legend runs={all.slice(0, MOST_CHARTED)} off={off} />;
  const ids = isSweep() && sweep ? Array.from({ length: Math.min(size, MOST_CHOSEN) }, (_, place) => sweep.id(place)) : all.map((run) => run.run_id);
  return (
    <section class="compare" aria-label="Compare runs">
      <div class="row wrap head-line">
        <h1>{state.loading.value && !size ? "Reading runs…" : plural(size, "run")}</h1>
        {size > 0 && state.total.value > size && <span class="warning">the first {size.toLocaleString("en-US")} of {state.total.value.toLocaleString("en-US")}</span>}
        {tab === "" && shown.length > MOST_CHARTED && <span class="warning">the first {MOST_CHARTED} are drawn</span>}
        {state.error.value && <span class="warning" role="alert">{state.error.value}</span>}
        <span class="space" />
        <button type="button" onClick={() => void copy(pythonOf(ids.slice(0, MOST_CHOSEN), tenant.value), "Copied the Python lines")}>Copy Python</button>
        <button type="button" onClick={() => void copy(location.href, "Copied the link to this view")}>Copy link</button>
      </div>
      <nav class="tabs" aria-label="Ways to compare">
        {TABS.map(([name, label]) => <a key={name} href={tabHref(name)} aria-current={tab === name ? "page" : undefined}>{label}</a>)}
      </nav>
      {tab === "" && legend}
      {tab === "" && <MetricGrid metrics={metrics} data={state.data} runs={charted} extra={<Grouping runs={all} />} />}
      {!size && !state.loading.value && <p class="quiet pad">No run matches. <a href={href("/")}>All runs</a></p>}
      {tab === "params" && shown.length > 0 && <Difference runs={shown} />}
      {tab === "parallel" && sweep && size > 0 && <Parallel sweep={sweep} metrics={byInterest([...metrics])} loading={state.loading.value} />}
      {tab === "scatter" && sweep && size > 0 && <Scatter sweep={sweep} metrics={byInterest([...metrics])} loading={state.loading.value} />}
      <Focused data={state.data} runs={charted}>{legend}</Focused>
    </section>
  );
}

/** What the address names is asked for before the runs are known. */
function ahead(state: CompareState): void {
  const off = new Set(list("off"));
  const ids = chosenIds().filter((id) => !off.has(id)).slice(0, MOST_CHARTED);
  const metric = param("focus");
  if (!metric || !ids.length) return;
  state.data.setRuns(ids);
  state.data.want(metric, innerWidth);
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
  const groups = group ? groupsOf(runs, group) : null;
  return runs.map((run) => ({
    runId: run.run_id, label: run.name || run.run_id.slice(-8), color: colorIndex(run.run_id), start: run.start_time,
    ...(groups ? { group: groups.get(run.run_id) } : {}),
  }));
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
