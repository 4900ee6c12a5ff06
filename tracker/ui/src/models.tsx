/** The model registry: which models there are, their versions, and the run that each came from. */

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import * as api from "./api";
import { colorIndex } from "./colors";
import { ago, moment, plural } from "./format";
import { now } from "./live";
import { model, models, versionsOf, type Model, type Version } from "./registry";
import { href, param } from "./route";
import { quoted } from "./search";
import { copy, Swatch } from "./ui";
import type { Run } from "./wire";

const ROWS = 500;

export function modelHref(name: string): string {
  return href("/models", { model: name });
}

export function Models(): JSX.Element {
  const name = param("model");
  return name ? <OneModel name={name} key={name} /> : <AllModels />;
}

/** What `read` finds, or why it found nothing. */
function useRead<T>(read: (put: (found: T) => void, signal: AbortSignal) => Promise<void>, of: string): [T | null, string] {
  const [found, setFound] = useState<T | null>(null);
  const [error, setError] = useState("");
  useEffect(() => {
    const controller = new AbortController();
    read(setFound, controller.signal).catch((failed: unknown) => {
      if (!api.isAbort(failed)) setError((failed as Error).message);
    });
    return () => controller.abort();
  }, [of]);
  return [found, error];
}

function AllModels(): JSX.Element {
  const [found, error] = useRead<Model[]>(models, "");
  const [text, setText] = useState("");
  useEffect(() => {
    document.title = "Models · Stepwell";
  }, []);
  if (error) return <p class="banner" role="alert">{error}</p>;
  if (!found) return <p class="quiet pad" role="status">Reading the models…</p>;
  if (!found.length) return <NoModels />;
  const shown = found.filter((one) => one.name.toLowerCase().includes(text.toLowerCase()));
  return (
    <section class="models pad" aria-label="Models">
      <div class="row wrap">
        <h1>{plural(found.length, "model")}</h1>
        {found.length > 8 && <input type="search" aria-label="Find a model" placeholder="Find a model" value={text} onInput={(event) => setText(event.currentTarget.value)} />}
      </div>
      <div class="scroll" tabIndex={0} role="region" aria-label="All models">
        <table>
          <thead><tr><th scope="col">Name</th><th scope="col" class="number">Latest</th><th scope="col">Aliases</th><th scope="col">Tags</th><th scope="col">Description</th><th scope="col">Changed</th></tr></thead>
          <tbody>{shown.slice(0, ROWS).map((one) => <ModelRow key={one.name} one={one} />)}</tbody>
        </table>
        {shown.length > ROWS && <p class="quiet">and {shown.length - ROWS} more; find narrows it down</p>}
      </div>
    </section>
  );
}

function ModelRow({ one }: { one: Model }): JSX.Element {
  const latest = Math.max(0, ...(one.latest_versions ?? []).map((version) => Number(version.version)));
  return (
    <tr>
      <th scope="row"><a href={modelHref(one.name)}>{one.name}</a></th>
      <td class="number">{latest ? `v${latest}` : "none"}</td>
      <td>{(one.aliases ?? []).map(({ alias, version }) => <span class="label" key={alias}>{alias} <small>v{version}</small></span>)}</td>
      <td><Tags of={one} /></td>
      <td class="text">{one.description}</td>
      <td class="quiet" title={moment(one.last_updated_timestamp)}>{ago(one.last_updated_timestamp, now.value)}</td>
    </tr>
  );
}

function Tags({ of }: { of: Model | Version }): JSX.Element {
  return <>{(of.tags ?? []).map(({ key, value }) => <span class="label" key={key}><small>{key}</small> {value}</span>)}</>;
}

interface Whole {
  model: Model;
  versions: Version[];
  /** The runs that versions came from, as far as they are here. */
  runs: Map<string, Run>;
}

function OneModel({ name }: { name: string }): JSX.Element {
  const [found, error] = useRead<Whole>((put, signal) => whole(name, put, signal), name);
  useEffect(() => {
    document.title = `${name} · Stepwell`;
  }, [name]);
  const all = <a href={href("/models")}>All models</a>;
  if (error) return <section class="empty" role="alert"><h1>{name}</h1><p>{error}</p><p>{all}</p></section>;
  if (!found) return <p class="quiet pad" role="status">Reading the model…</p>;
  const aliased = found.model.aliases?.[0]?.alias;
  const uri = `models:/${name}${aliased ? `@${aliased}` : `/${found.versions[0]?.version ?? "latest"}`}`;
  return (
    <section class="models pad" aria-label={name}>
      <p class="quiet">{all}</p>
      <div class="row wrap">
        <h1>{name}</h1>
        <span class="quiet">created <span title={moment(found.model.creation_timestamp)}>{ago(found.model.creation_timestamp, now.value)}</span></span>
        <Tags of={found.model} />
        <span class="space" />
        {found.versions.length > 0 && <button type="button" onClick={() => void copy(pythonOf(uri), "Copied the Python lines")}>Copy Python</button>}
      </div>
      {found.model.description && <p class="value">{found.model.description}</p>}
      <div class="scroll" tabIndex={0} role="region" aria-label="Versions">
        <table class="versions">
          <thead><tr><th scope="col" class="number">Version</th><th scope="col">Aliases</th><th scope="col">Stage</th><th scope="col">Run</th><th scope="col">Tags</th><th scope="col">Description</th><th scope="col">Source</th><th scope="col">Created</th></tr></thead>
          <tbody>{found.versions.slice(0, ROWS).map((one) => <VersionRow key={one.version} one={one} run={found.runs.get(one.run_id)} />)}</tbody>
        </table>
        {!found.versions.length && <p class="quiet">No version yet</p>}
        {found.versions.length > ROWS && <p class="quiet">and {found.versions.length - ROWS} older ones</p>}
      </div>
    </section>
  );
}

async function whole(name: string, put: (found: Whole) => void, signal: AbortSignal): Promise<void> {
  const [of, versions] = await Promise.all([model(name, signal), versionsOf(name, signal)]);
  const ids = [...new Set(versions.slice(0, ROWS).map((one) => one.run_id).filter(Boolean))];
  put({ model: of, versions, runs: new Map() });
  if (!ids.length) return;
  const filter = `attributes.run_id IN (${ids.map(quoted).join(", ")})`;
  const page = await api.runs({ filter, lifecycle: "all", limit: ROWS, total: "false", keys: ["stepwell.none"] }, signal);
  put({ model: of, versions, runs: new Map(page.runs.map((run) => [run.run_id, run])) });
}

function VersionRow({ one, run }: { one: Version; run: Run | undefined }): JSX.Element {
  return (
    <tr>
      <th scope="row" class="number">v{one.version}</th>
      <td>{(one.aliases ?? []).map((alias) => <span class="label" key={alias}>{alias}</span>)}</td>
      <td>{one.current_stage === "None" ? "" : one.current_stage}</td>
      <td>{one.run_id && (run ? <a href={href(`/runs/${one.run_id}`)}><Swatch color={colorIndex(one.run_id)} /> {run.name || one.run_id}</a> : <span class="quiet">{one.run_id}</span>)}</td>
      <td><Tags of={one} /></td>
      <td class="text">{one.description}</td>
      <td class="quiet source" title={one.source}>{one.source}</td>
      <td class="quiet" title={moment(one.creation_timestamp)}>{ago(one.creation_timestamp, now.value)}</td>
    </tr>
  );
}

function pythonOf(uri: string): string {
  return `import mlflow

mlflow.set_tracking_uri(${JSON.stringify(location.origin)})
model = mlflow.pyfunc.load_model(${JSON.stringify(uri)})
`;
}

function NoModels(): JSX.Element {
  const code = `import mlflow

mlflow.set_tracking_uri(${JSON.stringify(location.origin)})
with mlflow.start_run():
    mlflow.sklearn.log_model(model, name="model", registered_model_name="churn")
`;
  return (
    <section class="empty">
      <h1>No models yet</h1>
      <p>A model is a name under which versions are found, each with the run that it came from. MLflow's client registers them.</p>
      <pre aria-label="Python that registers a model" tabIndex={0}>{code}</pre>
      <p><button type="button" class="main" onClick={() => void copy(code, "Copied")}>Copy</button></p>
    </section>
  );
}
