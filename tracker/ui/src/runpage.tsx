/** One run: is it alive, is it falling, what was it made with, what did it say and leave. */

import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import * as api from "./api";
import { Artifacts } from "./artifacts";
import { compareHref, pythonOf } from "./bulk";
import { experimentName } from "./catalog";
import { ChartData } from "./chartdata";
import { settings } from "./chartstate";
import { Focused, zoomOf, type ChartRun } from "./chart";
import { colorIndex } from "./colors";
import { Console } from "./console";
import { Details } from "./details";
import { ago, duration, exact, moment, rounded } from "./format";
import { now } from "./live";
import { MetricGrid } from "./metricgrid";
import { go, href, param, tenant } from "./route";
import { LATEST, RunState } from "./runstate";
import { foremost, keyed, lessIsBetter, mainMetric } from "./search";
import { copy, Editable, isStale, Menu, say, sayError, Status, Swatch, useKeys } from "./ui";
import type { Run, SeriesSummary } from "./wire";
import { toNumber } from "./wire";

const TABS: [string, string][] = [["", "Charts"], ["details", "Details"], ["console", "Console"], ["artifacts", "Artifacts"]];

export function RunPage({ id }: { id: string }): JSX.Element {
  const data = useMemo(() => new ChartData(), [id]);
  const state = useMemo(() => new RunState(id, data), [id]);
  useEffect(() => state.open(), [id]);
  const run = state.run.value;
  const failed = state.error.value;
  const tab = param("tab");
  const runs = useMemo<ChartRun[]>(
    () => (run ? [{ runId: id, label: run.name, color: colorIndex(id), start: run.start_time }] : []),
    [id, run?.name, run?.start_time],
  );
  const { zoom, x } = settings.value;
  useEffect(() => data.setZoom(zoom && zoomOf(runs, x, zoom)), [zoom?.join(), x, runs]);
  useEffect(() => {
    document.title = `${run?.name ?? "Run"} · Stepwell`;
  }, [run?.name]);
  const { series, total } = state;
  useEffect(() => {
    if (tab === "details" && series.peek().length < total.peek()) void state.fetch(); // of very many not all have been read
  }, [tab]);
  useKeys({ "[": () => void neighbour(run, true), "]": () => void neighbour(run, false) });
  if (!run) return failed ? <Failed id={id} error={failed} retry={() => void state.fetch()} /> : <p class="quiet pad" role="status">Reading the run…</p>;
  const metrics = state.keys.value;
  return (
    <section class="run" aria-label={run.name}>
      <Head run={run} state={state} />
      {failed && <p class="banner" role="alert">{failed.message}</p>}
      <nav class="tabs" aria-label="Parts of the run">
        {TABS.map(([name, label]) => (
          <a key={name} href={tabHref(name)} aria-current={tab === name ? "page" : undefined}>
            {label}{name === "" && <small> {state.total.value.toLocaleString("en-US")}</small>}
          </a>
        ))}
      </nav>
      {tab === "" && <MetricGrid metrics={metrics} data={data} runs={runs} />}
      {tab === "details" && <Details run={run} onChange={(changed) => (state.run.value = changed)} series={state.series.value} />}
      {tab === "console" && <Console id={id} told={state.consoleTold.value} />}
      {tab === "artifacts" && <Artifacts id={id} told={state.artifactsTold.value} />}
      <Focused data={data} runs={runs} />
    </section>
  );
}

/** Why there is no run to show, and where to go from here. */
function Failed({ id, error, retry }: { id: string; error: Error; retry: () => void }): JSX.Element {
  const missing = error instanceof api.ApiError && error.problem.status === 404;
  return (
    <section class="empty" role="alert">
      <h1>{missing ? "No such run" : "The run cannot be read"}</h1>
      <p>{missing ? <>Tenant <b>{tenant.value}</b> has no run <code>{id}</code>. It may be another tenant's, or gone for good.</> : error.message}</p>
      <p class="row">
        {!missing && <button type="button" class="main" onClick={retry}>Try again</button>}
        <a class="button" href={href("/")}>All runs</a>
      </p>
    </section>
  );
}

function tabHref(tab: string): string {
  const search = new URLSearchParams(location.search);
  search.delete("tab");
  search.delete("focus");
  if (tab) search.set("tab", tab);
  return `${location.pathname}${search.size ? `?${search.toString()}` : ""}`;
}

/** The run above or below in the list of the newest first, where runs of one start time stand by their ids. */
async function neighbour(run: Run | null, newer: boolean): Promise<void> {
  if (!run) return;
  const [time, id] = newer ? [">", "<"] : ["<", ">"];
  const [start, own] = ["attributes.start_time", "attributes.run_id"];
  const filter = `${start} ${time} ${run.start_time} or (${start} = ${run.start_time} and ${own} ${id} '${run.run_id}')`;
  const order_by = newer ? [`${start} ASC`, `${own} DESC`] : [`${start} DESC`];
  try {
    const page = await api.runs({ experiment_id: run.experiment_id, filter, order_by, limit: 1, total: "false", keys: ["stepwell.none"] });
    const found = page.runs[0];
    if (found) go(href(`/runs/${found.run_id}`, { tab: param("tab") }));
    else say(newer ? "This is the newest run" : "This is the oldest run");
  } catch (error) {
    sayError(error);
  }
}

function Head({ run, state }: { run: Run; state: RunState }): JSX.Element {
  const end = run.end_time ?? (run.status === "running" ? now.value : null);
  const change = async (body: unknown): Promise<void> => {
    state.run.value = await api.changeRun(run.run_id, body);
  };
  return (
    <header class="run-head">
      <div class="row wrap">
        <h1><Swatch color={colorIndex(run.run_id)} /><Editable value={run.name} label="name" onSave={(name) => change({ name })} /></h1>
        <Status run={run} />
        {run.stop_requested && run.status === "running" && <span class="warning">asked to stop</span>}
        <span class="quiet">
          <a href={href("/", { experiment: run.experiment_id })}>{experimentName(run.experiment_id) || "experiment"}</a>
          {" · "}<span title={moment(run.start_time)}>started {ago(run.start_time, now.value)}</span>
          {end !== null && ` · ${duration((end - run.start_time) / 1000)}`}
          {run.status === "running" && <span class={isStale(run) ? "warning" : ""}> · heard {ago(run.heartbeat_at, now.value)}</span>}
          {run.user_id && ` · ${run.user_id}`}
        </span>
        <Actions run={run} state={state} />
      </div>
      <Latest series={state.series.value} />
    </header>
  );
}

/** What can be done with the run. */
function Actions({ run, state }: { run: Run; state: RunState }): JSX.Element {
  const act = (what: string, call: Promise<unknown>): void => {
    call.then(() => state.fetch()).then(() => say(what), sayError);
  };
  const keys = state.keys.value;
  const metric = useMemo(() => mainMetric(keys), [keys]);
  return (
    <span class="row actions">
      {metric && <BestMenu run={run} keys={keys} main={metric} />}
      {run.lifecycle === "deleted" && <button type="button" class="main" title="A deleted run takes no more data" onClick={() => act("Restored", api.restoreRun(run.run_id))}>Restore</button>}
      {run.status === "running" && run.lifecycle === "active" && !run.stop_requested && <button type="button" title="The run is told with its next acknowledgement" onClick={() => act("Asked the run to stop", api.stopRun(run.run_id))}>Stop</button>}
      <Menu label="⋯" title="More for this run" align="right">
        <button type="button" data-closes onClick={() => void copy(pythonOf([run.run_id], tenant.value, metric), "Copied the Python lines")}>Copy Python that reads this run</button>
        <button type="button" data-closes onClick={() => void copy(run.run_id, "Copied the run's id")}>Copy id</button>
        <button type="button" data-closes onClick={() => void copy(location.href, "Copied the link to this view")}>Copy link</button>
        <button type="button" data-closes onClick={() => void neighbour(run, true)}>Newer run ( [ )</button>
        <button type="button" data-closes onClick={() => void neighbour(run, false)}>Older run ( ] )</button>
        {run.lifecycle === "active" && <button type="button" data-closes onClick={() => act("Deleted; it can be restored", api.deleteRun(run.run_id))}>Delete</button>}
      </Menu>
    </span>
  );
}

/** The last values, where everybody looks first. */
function Latest({ series }: { series: SeriesSummary[] }): JSX.Element | null {
  const main = useMemo(() => { // the page is drawn anew every second
    const byKey = new Map(series.map((one) => [one.key, one]));
    return foremost([...byKey.keys()], LATEST).map((key) => byKey.get(key)!);
  }, [series]);
  if (!main.length) return null;
  return (
    <dl class="latest" tabIndex={matchMedia("(max-width: 760px)").matches ? 0 : undefined}>
      {main.map((one) => {
        const value = toNumber(one.last);
        return (
          <div key={one.key}>
            <dt title={one.key}>{one.key}</dt>
            <dd title={`${exact(value)} at step ${one.last_step}; lowest ${exact(toNumber(one.min))}, highest ${exact(toNumber(one.max))}`}>{rounded(value)}</dd>
          </div>
        );
      })}
    </dl>
  );
}

/** Beside the best other run of the experiment, by a metric. */
function BestMenu({ run, keys, main }: { run: Run; keys: string[]; main: string }): JSX.Element {
  const [key, setKey] = useState(main);
  const overlay = async (metric: string, less: boolean): Promise<void> => {
    const order_by = `${less ? "min" : "max"}(${keyed("metrics", metric)}) ${less ? "ASC" : "DESC"}`;
    const filter = `not attributes.run_id = '${run.run_id}' and ${keyed("metrics", metric)} IS NOT NULL`;
    try {
      const page = await api.runs({ experiment_id: run.experiment_id, filter, order_by, limit: 1, total: "false", keys: ["stepwell.none"] });
      const best = page.runs[0];
      if (best) go(compareHref([run.run_id, best.run_id], { q: "" }));
      else say("No other run of this experiment has that metric");
    } catch (error) {
      sayError(error);
    }
  };
  return (
    <>
      <button type="button" onClick={() => void overlay(main, lessIsBetter(main))} title={`Beside the best other run by ${lessIsBetter(main) ? "lowest" : "highest"} ${main}`}>Overlay best</button>
      <Menu label="▾" title="Overlay the best by another metric" align="right">
        <select aria-label="Metric" value={key} onChange={(event) => setKey(event.currentTarget.value)}>
          {keys.slice(0, 300).map((one) => <option key={one}>{one}</option>)}
        </select>
        <button type="button" data-closes onClick={() => void overlay(key, true)}>Lowest is best</button>
        <button type="button" data-closes onClick={() => void overlay(key, false)}>Highest is best</button>
      </Menu>
    </>
  );
}

