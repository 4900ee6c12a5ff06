/** Parameters, tags, notes and the sizes of a run's series. */

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import * as api from "./api";
import { exact, moment, rounded } from "./format";
import { collate } from "./lines";
import { modelHref } from "./models";
import { versionsFrom, type Version } from "./registry";
import { href } from "./route";
import { copy, Editable, sayError } from "./ui";
import type { Run, SeriesSummary } from "./wire";
import { toNumber } from "./wire";

interface Props {
  run: Run;
  series: SeriesSummary[];
  onChange: (run: Run) => void;
}

const ROWS = 500;

export function Details({ run, series, onChange }: Props): JSX.Element {
  const [text, setText] = useState("");
  const change = async (body: unknown): Promise<void> => onChange(await api.changeRun(run.run_id, body));
  const matches = (key: string): boolean => key.toLowerCase().includes(text.toLowerCase());
  const params = Object.entries(run.params).filter(([key]) => matches(key)).sort(([a], [b]) => collate(a, b));
  const found = series.filter((one) => matches(one.key));
  return (
    <div class="details">
      <div class="finder"><input type="search" aria-label="Find a key" placeholder="Find a key" value={text} onInput={(event) => setText(event.currentTarget.value)} /></div>
      <div class="columns">
        <section aria-label="Parameters">
          <h2>Parameters <small>{Object.keys(run.params).length}</small></h2>
          <table><tbody>
            {params.map(([key, value]) => <tr key={key}><th scope="row">{key}</th><td class="value">{value}</td></tr>)}
          </tbody></table>
          {!params.length && <p class="quiet">None</p>}
        </section>
        <section aria-label="Notes and tags">
          <h2>Notes</h2>
          <div class="notes"><Editable multiline value={run.description} label="notes" onSave={(description) => change({ description })} /></div>
          <h2>Tags</h2>
          <Tags run={run} change={change} />
          <h2>About</h2>
          <table><tbody>
            <tr><th scope="row">id</th><td><button type="button" class="link" title="Copy" onClick={() => void copy(run.run_id)}>{run.run_id}</button></td></tr>
            <tr><th scope="row">started</th><td>{moment(run.start_time)}</td></tr>
            {run.end_time !== null && <tr><th scope="row">ended</th><td>{moment(run.end_time)}</td></tr>}
            <Registered runId={run.run_id} />
            {run.user_id && <tr><th scope="row">user</th><td>{run.user_id}</td></tr>}
            {run.parent_run_id && <tr><th scope="row">parent</th><td><a href={href(`/runs/${run.parent_run_id}`)}>{run.parent_run_id}</a></td></tr>}
          </tbody></table>
        </section>
        <section aria-label="Metrics" class="wide">
          <h2>Metrics <small>{series.length.toLocaleString("en-US")}</small></h2>
          <table>
            <thead><tr><th scope="col">key</th><th scope="col" class="number">last</th><th scope="col" class="number">lowest</th><th scope="col" class="number">highest</th><th scope="col" class="number">points</th></tr></thead>
            <tbody>{found.slice(0, ROWS).map((one) => <SeriesRow key={one.key} one={one} />)}</tbody>
          </table>
          {found.length > ROWS && <p class="quiet">and {(found.length - ROWS).toLocaleString("en-US")} more; find narrows it down</p>}
        </section>
      </div>
    </div>
  );
}

/** The versions of models that came from this run. */
function Registered({ runId }: { runId: string }): JSX.Element | null {
  const [found, setFound] = useState<Version[]>([]);
  useEffect(() => {
    const controller = new AbortController();
    versionsFrom(runId, controller.signal).then(setFound, (error: unknown) => {
      if (!api.isAbort(error)) sayError(error);
    });
    return () => controller.abort();
  }, [runId]);
  if (!found.length) return null;
  return (
    <tr>
      <th scope="row">models</th>
      <td>{found.map(({ name, version, aliases = [] }) => <div key={`${name} ${version}`}><a href={modelHref(name)}>{name} v{version}</a> <span class="quiet">{aliases.join(", ")}</span></div>)}</td>
    </tr>
  );
}

function SeriesRow({ one }: { one: SeriesSummary }): JSX.Element {
  const cell = (value: SeriesSummary["last"] | null, step: number | null): JSX.Element => {
    const number = toNumber(value);
    return <td class="number" title={number === null ? "" : `${exact(number)} at step ${step}`}>{rounded(number)}</td>;
  };
  return (
    <tr>
      <th scope="row">{one.key}</th>
      {cell(one.last, one.last_step)}{cell(one.min, one.min_step)}{cell(one.max, one.max_step)}
      <td class="number" title={one.exact ? "" : "At most: some may be repetitions that have not been merged yet"}>{one.exact ? "" : "≤ "}{one.count.toLocaleString("en-US")}</td>
    </tr>
  );
}

function Tags({ run, change }: { run: Run; change: (body: unknown) => Promise<void> }): JSX.Element {
  const [key, setKey] = useState("");
  const [value, setValue] = useState("");
  const add = (event: Event): void => {
    event.preventDefault();
    if (!key) return;
    change({ tags: { [key]: value } }).then(() => {
      setKey("");
      setValue("");
    }, sayError);
  };
  return (
    <>
      <table><tbody>
        {Object.entries(run.tags).sort(([a], [b]) => collate(a, b)).map(([name, text]) => (
          <tr key={name}>
            <th scope="row">{name}</th>
            <td><Editable value={text} label={`tag ${name}`} onSave={(next) => change({ tags: { [name]: next } })} /></td>
            <td class="narrow"><button type="button" class="link" aria-label={`Remove the tag ${name}`} onClick={() => change({ tags: { [name]: null } }).catch(sayError)}>✕</button></td>
          </tr>
        ))}
      </tbody></table>
      <form class="row" onSubmit={add}>
        <input aria-label="New tag" placeholder="tag" value={key} onInput={(event) => setKey(event.currentTarget.value)} />
        <input aria-label="Its value" placeholder="value" value={value} onInput={(event) => setValue(event.currentTarget.value)} />
        <button type="submit" disabled={!key}>Add</button>
      </form>
    </>
  );
}
