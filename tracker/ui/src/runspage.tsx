/** Every run of an experiment, or of the tenant: find, sort, choose, act. */

import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { bestKeys, columnOf, defaults, neededKeys, tableCsv, type Column } from "./cells";
import { BulkBar } from "./bulk";
import { experiments, loadExperiments } from "./catalog";
import { assign } from "./colors";
import { ColumnChooser } from "./columnchooser";
import { Empty } from "./empty";
import { save } from "./export";
import { plural } from "./format";
import { Grid } from "./grid";
import { follow } from "./live";
import { Soon } from "./pool";
import { href, list, param, set, tenant } from "./route";
import { both, filterOf, keysOf, quoted, type Keys } from "./search";
import { Table } from "./table";
import * as api from "./api";
import { say, sayError } from "./ui";
import type { Run } from "./wire";

const RELOAD_MS = 1000;
const MOST_CHOSEN = 10_000;
const MOST_COLORED = 200;
const LEARNT = 60;

export function RunsPage(): JSX.Element {
  const table = useMemo(() => new Table(), []);
  const chosen = useMemo(() => signal(new Map<string, Run>()), []);
  const [keys, setKeys] = useState<Keys | null>(null);
  const [empty, setEmpty] = useState(false);
  const experiment = param("experiment");
  const columns = useColumns(keys, !experiment && severalExperiments());
  const query = {
    experiment, filter: both(filterOf(param("q"), keys?.tags ?? []), hiddenFilter()), order: param("order"),
    lifecycle: param("lifecycle") || "active", status: list("status"), keys: keys ? neededKeys(columns) : [],
  };
  const text = JSON.stringify(query);

  useEffect(() => learn(experiment, setKeys, setEmpty), [experiment]);
  useEffect(() => {
    if (keys) void table.load(query);
  }, [text, keys !== null]);
  const latest = useRef(query);
  latest.current = query;
  useEffect(() => live(table, () => latest.current, () => learn(experiment, setKeys, setEmpty)), [experiment]);
  useEffect(() => {
    document.title = `${experiments.value?.find((one) => one.experiment_id === experiment)?.name ?? "Runs"} · Stepwell`;
  });

  const last = useRef<string | null>(null);
  const choose = async (run: Run, range: boolean): Promise<void> => {
    const from = range ? last.current : null;
    last.current = run.run_id;
    const rows = from ? await table.between(from, run.run_id) : [];
    chosen.value = toggled(chosen.value, run, rows);
    if (chosen.value.size <= MOST_COLORED) assign([...chosen.value.keys()]);
  };
  const chooseAll = (): void => {
    if (chosen.value.size) chosen.value = new Map();
    else table.everyRun(MOST_CHOSEN, ["stepwell.none"]).then((runs) => (chosen.value = new Map(runs.map((run) => [run.run_id, run]))), sayError);
  };
  const reload = (): void => {
    chosen.value = new Map();
    void table.load(latest.current, true);
    void loadExperiments();
  };
  if (empty && !experiment) return <Empty />;
  return (
    <div class="with-side">
      <Experiments current={experiment} />
      <section class="content" aria-label="Runs">
        <h1 class="unseen">Runs</h1>
        <Finder table={table} columns={columns} keys={keys} chosen={chosen.value} onDone={reload} query={query} />
        {table.error.value && <p class="banner" role="alert">{table.error.value}</p>}
        {table.total.value === 0 && !table.error.value && <Nothing />}
        <Grid
          table={table} columns={columns} best={bestKeys(columns)} order={param("order")} onOrder={(order) => set({ order })}
          chosen={chosen.value} onChoose={(run, range) => void choose(run, range).catch(sayError)} onChooseAll={chooseAll}
        />
      </section>
    </div>
  );
}

const FINDERS = ["q", "status", "lifecycle", "hide"];

/** No row, and how to come back to some. */
function Nothing(): JSX.Element {
  const narrowed = FINDERS.some((name) => list(name).length > 0);
  if (!narrowed) return <p class="quiet pad">No runs here yet. They appear as they begin.</p>;
  const all = (): void => set(Object.fromEntries(FINDERS.map((name) => [name, null])));
  return <p class="quiet pad">No run matches. <button type="button" class="link" onClick={all}>Show all runs</button></p>;
}

function severalExperiments(): boolean {
  return (experiments.value ?? []).filter((one) => one.run_count > 0).length > 1;
}

function useColumns(keys: Keys | null, everywhere: boolean): Column[] {
  const wanted = list("col").join("\n");
  return useMemo(() => {
    const ids = wanted ? wanted.split("\n") : defaults(keys ?? { params: [], metrics: [] }, everywhere);
    return ids.flatMap((id) => columnOf(id, keys?.numeric) ?? []);
  }, [wanted, keys, everywhere]);
}

/** Runs that were hidden from this view: their ids are in the address. */
function hiddenFilter(): string {
  const hidden = list("hide");
  return hidden.length ? `not attributes.run_id IN (${hidden.map(quoted).join(", ")})` : "";
}

/** Which keys there are: from the newest runs, and then from the oldest, which may have others. */
function learn(experiment: string, setKeys: (keys: Keys) => void, setEmpty: (empty: boolean) => void): () => void {
  const controller = new AbortController();
  const search = { experiment_id: experiment, limit: LEARNT, total: "false", lifecycle: "all" };
  const read = async (): Promise<void> => {
    const { runs } = await api.runs(search, controller.signal);
    const newest = keysOf(runs);
    setKeys(newest);
    setEmpty(runs.length === 0);
    if (runs.length < LEARNT) return;
    const oldest = await api.runs({ ...search, order_by: "attributes.start_time ASC" }, controller.signal);
    setKeys(joined(newest, keysOf(oldest.runs)));
  };
  api.patiently(read, controller.signal, sayError).catch((error: unknown) => {
    if (!api.isAbort(error)) sayError(error);
  });
  return () => controller.abort();
}

function joined(some: Keys, more: Keys): Keys {
  const both = (a: string[], b: string[]): string[] => [...new Set([...a, ...b])];
  const numeric = new Set(both([...some.numeric], [...more.numeric]).filter((key) => [some, more].every((one) => one.numeric.has(key) || !one.params.includes(key))));
  return { numeric, params: both(some.params, more.params), metrics: both(some.metrics, more.metrics), tags: both(some.tags, more.tags) };
}

function live(table: Table, query: () => Parameters<Table["load"]>[0], relearn: () => () => void): () => void {
  let forget = (): void => undefined;
  const reload = async (): Promise<void> => {
    if (table.total.peek() === 0 || table.total.peek() === null) {
      forget();
      forget = relearn();
    }
    await table.load(query(), true);
  };
  const soon = new Soon(reload, () => RELOAD_MS);
  const all = (): void => {
    table.forget();
    soon.ask();
  };
  const end = follow(null, all, (event) => {
    if (table.on(event)) soon.ask();
  });
  return () => {
    soon.end();
    forget();
    end();
  };
}

/** With all of `rows`, if there are any; otherwise with or without the one run. */
function toggled(before: Map<string, Run>, run: Run, rows: Run[]): Map<string, Run> {
  const after = new Map(before);
  for (const one of rows) after.set(one.run_id, one);
  if (!rows.length && !after.delete(run.run_id)) after.set(run.run_id, run);
  return after;
}

function Experiments({ current }: { current: string }): JSX.Element {
  const [text, setText] = useState("");
  const all = (experiments.value ?? []).filter((one) => one.lifecycle === "active" && (one.number !== 0 || one.run_count > 0));
  const found = all.filter((one) => one.name.toLowerCase().includes(text.toLowerCase()));
  const total = all.reduce((sum, one) => sum + one.run_count, 0);
  return (
    <nav class="side" aria-label="Experiments">
      <h2>Experiments</h2>
      {all.length > 8 && <input type="text" aria-label="Find an experiment" placeholder="Find…" value={text} onInput={(event) => setText(event.currentTarget.value)} />}
      <ul>
        <li><a href={href("/")} aria-current={current ? undefined : "page"}><span>All runs</span> <small>{total.toLocaleString("en-US")}</small></a></li>
        {found.slice(0, 500).map((one) => (
          <li key={one.experiment_id}>
            <a href={href("/", { experiment: one.experiment_id })} aria-current={one.experiment_id === current ? "page" : undefined} title={one.description || one.name}>
              <span>{one.name}</span> <small>{one.run_count.toLocaleString("en-US")}</small>
            </a>
          </li>
        ))}
      </ul>
    </nav>
  );
}

interface FinderProps {
  table: Table;
  columns: Column[];
  keys: Keys | null;
  chosen: Map<string, Run>;
  onDone: () => void;
  query: Parameters<Table["load"]>[0];
}

const STATUSES = ["running", "finished", "failed", "killed"];

function Finder({ table, columns, keys, chosen, onDone, query }: FinderProps): JSX.Element {
  const [text, setText] = useState(param("q"));
  const timer = useRef(0);
  useEffect(() => setText(param("q")), [param("q")]);
  useEffect(() => () => clearTimeout(timer.current), []); // of another page it is no search
  const search = (value: string): void => {
    setText(value);
    clearTimeout(timer.current);
    timer.current = window.setTimeout(() => set({ q: value }, { quietly: true }), 250);
  };
  const total = table.total.value;
  const hidden = list("hide").length;
  const sweep = href("/compare", { experiment: param("experiment"), q: query.filter, lifecycle: param("lifecycle"), tab: "parallel" });
  return (
    <>
      <div class="finder">
        <input type="search" aria-label="Search or filter runs" placeholder="Words, or metrics.loss < 0.3 and params.model = 'mlp'" value={text} onInput={(event) => search(event.currentTarget.value)} spellcheck={false} />
        <select aria-label="Status" value={list("status")[0] ?? ""} onChange={(event) => set({ status: event.currentTarget.value })}>
          <option value="">Any status</option>
          {STATUSES.map((one) => <option key={one}>{one}</option>)}
        </select>
        <select aria-label="Deleted runs" value={param("lifecycle") || "active"} onChange={(event) => set({ lifecycle: event.currentTarget.value === "active" ? null : event.currentTarget.value })}>
          <option value="active">Not deleted</option><option value="deleted">Deleted</option><option value="all">All</option>
        </select>
        {keys && <ColumnChooser keys={keys} columns={columns} />}
        <button type="button" title="Every row that matches, as a file" onClick={() => void saveCsv(table, columns)}>CSV</button>
        <a class="button" href={sweep} title="Parallel coordinates, scatter and importance over all runs found">Sweep</a>
        <span class="quiet count">{total === null ? "" : plural(total, "run")}{hidden > 0 && <> · <button type="button" class="link" onClick={() => set({ hide: null })}>show {hidden} hidden</button></>}</span>
      </div>
      <BulkBar chosen={chosen} onDone={onDone} tenant={tenant.value} />
    </>
  );
}

const MAX_CSV = 100_000;

/** Every row that matches, not only those on screen. */
async function saveCsv(table: Table, columns: Column[]): Promise<void> {
  try {
    const runs = await table.everyRun(MAX_CSV);
    await table.everyBest(runs, bestKeys(columns));
    save("runs.csv", tableCsv(runs, columns, table), "text/csv");
    const total = table.total.peek() ?? 0;
    if (total > runs.length) say(`The first ${runs.length.toLocaleString("en-US")} of ${total.toLocaleString("en-US")} rows`);
  } catch (error) {
    sayError(error);
  }
}
