/** The frame around the pages. */

import { effect, signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Compare } from "./compare";
import { changeViews, experiments, loadExperiments, problem, tenants, views } from "./catalog";
import { dark, isDark } from "./colors";
import { connected } from "./live";
import { Models } from "./models";
import { RunPage } from "./runpage";
import { RunsPage } from "./runspage";
import { ROOT, go, href, path, query, tenant } from "./route";
import { Dialog, Menu, say, sayError, Toast, useKeys } from "./ui";

const THEME = "stepwell.theme";
const theme = signal(stored());
effect(() => {
  if (theme.value) document.documentElement.dataset["theme"] = theme.value;
  else delete document.documentElement.dataset["theme"];
});

function stored(): string {
  try {
    return localStorage.getItem(THEME) ?? "";
  } catch {
    return "";
  }
}

function setTheme(value: string): void {
  theme.value = value;
  try {
    localStorage.setItem(THEME, value);
  } catch {
    // It lasts as long as the page, then.
  }
}

/** Of the system: it may change with the hour. */
const night = signal(dark.matches);
dark.addEventListener("change", () => (night.value = dark.matches));

const toggleTheme = (): void => setTheme(isDark() ? "light" : "dark");

const help = signal(false);

export function App(): JSX.Element {
  useKeys({
    "?": () => (help.value = true),
    "/": () => document.querySelector<HTMLInputElement>("input[type=search]")?.focus(),
    g: () => go(href("/")),
    m: () => go(href("/models")),
    t: toggleTheme,
  });
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>Skip to content</a>
      <Header />
      {problem.value && <p class="banner" role="alert">{problem.value}</p>}
      <main id="main" tabIndex={-1}><Page key={`${theme.value} ${night.value}`} /></main>
      <Toast />
      {help.value && <Help />}
    </>
  );
}

function Page(): JSX.Element {
  const run = /^\/runs\/([^/]+)$/.exec(path.value);
  if (run) return <RunPage id={run[1]!.replaceAll("-", "")} key={`${tenant.value} ${run[1]}`} />;
  if (path.value === "/compare") return <Compare key={tenant.value} />;
  if (path.value === "/models") return <Models key={tenant.value} />;
  return <RunsPage key={tenant.value} />;
}

function Header(): JSX.Element {
  const names = [...new Set([...tenants.value, tenant.value])].sort();
  return (
    <header class="frame">
      <a class="brand" href={href("/")}><svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true"><path d="M1 2h3.5v4H8v4h3.5v4H15" /></svg>Stepwell</a>
      <label class="tenant">
        <span class="quiet">Tenant</span>{" "}
        <select aria-label="Tenant" value={tenant.value} onChange={(event) => go(`${ROOT}/${event.currentTarget.value === "default" ? "" : `?tenant=${event.currentTarget.value}`}`)}>
          {names.map((name) => <option key={name}>{name}</option>)}
        </select>
      </label>
      <nav aria-label="Pages">
        <a href={href("/")} aria-current={path.value === "/" ? "page" : undefined}>Runs</a>
        <a href={href("/models")} aria-current={path.value === "/models" ? "page" : undefined}>Models</a>
      </nav>
      <span class="space" />
      {connected.value !== "off" && <span class={`live ${connected.value}`} role="status" title="Changes are pushed to this page as they are committed">{connected.value === "lost" ? "no answer, trying again" : connected.value}</span>}
      <ViewsMenu />
      <button type="button" title="Light or dark (t)" aria-label="Light or dark" onClick={toggleTheme}>◐</button>
      <button type="button" title="Keys and help (?)" aria-label="Help" onClick={() => (help.value = true)}>?</button>
    </header>
  );
}

function ViewsMenu(): JSX.Element {
  return <Menu label="Views ▾" title="Saved views" align="right"><Views /></Menu>;
}

/** Read again whenever the menu is opened: others save views too. */
function Views(): JSX.Element {
  const [name, setName] = useState("");
  useEffect(() => void loadExperiments(), []);
  const wanted = name.trim();
  const taken = views().some(([label]) => label === wanted);
  const save = (event: Event): void => {
    event.preventDefault();
    if (!wanted) return;
    const address = path.value + (query.value.size ? `?${query.value.toString()}` : "");
    changeViews({ [wanted]: address }).then(() => {
      say(`Saved “${wanted}”`);
      setName("");
    }, sayError);
  };
  return (
    <>
      {views().map(([label, address]) => <View key={label} label={label} address={address} />)}
      {!views().length && <p class="quiet">A view is everything this page shows: filter, columns, charts. Saved ones are there for everyone in this tenant.</p>}
      <form onSubmit={save} class="row">
        <input aria-label="Name of the view" placeholder="Save this view as…" maxLength={100} value={name} onInput={(event) => setName(event.currentTarget.value)} />
        <button type="submit" disabled={!wanted || !experiments.value}>{taken ? "Replace" : "Save"}</button>
      </form>
    </>
  );
}

function View({ label, address }: { label: string; address: string }): JSX.Element {
  const [draft, setDraft] = useState<string | null>(null);
  if (draft === null) {
    return (
      <div class="row">
        <a data-closes href={ROOT + address}>{label}</a>
        <span>
          <button type="button" title="Rename" aria-label={`Rename the view ${label}`} onClick={() => setDraft(label)}>✎</button>{" "}
          <button type="button" title="Delete" aria-label={`Delete the view ${label}`} onClick={() => changeViews({ [label]: null }).catch(sayError)}>✕</button>
        </span>
      </div>
    );
  }
  const wanted = draft.trim();
  const taken = wanted !== label && views().some(([name]) => name === wanted);
  const rename = (event: Event): void => {
    event.preventDefault();
    setDraft(null);
    if (wanted !== label) changeViews({ [label]: null, [wanted]: address }).then(() => say(`Renamed to “${wanted}”`), sayError);
  };
  const onKey = (event: KeyboardEvent): void => {
    if (event.key !== "Escape") return;
    event.stopPropagation(); // the menu stays
    setDraft(null);
  };
  return (
    <form class="row" onSubmit={rename} onKeyDown={onKey}>
      <input aria-label={`New name of the view ${label}`} maxLength={100} value={draft} ref={focused} onInput={(event) => setDraft(event.currentTarget.value)} />
      <button type="submit" disabled={!wanted || taken} title={taken ? "Another view has that name" : undefined}>{taken ? "Taken" : "Rename"}</button>
    </form>
  );
}

const focused = (field: HTMLInputElement | null): void => {
  field?.focus();
  field?.select();
};

const KEYS: [string, string][] = [
  ["/", "Search or filter"], ["g", "All runs"], ["m", "Models"], ["[  ]", "Newer and older run, on a run's page"],
  ["c", "Copy the exact values under the pointer"], ["x", "Choose the run of the focused row"],
  ["↑ ↓ Enter", "Move through the table, open a run"], ["t", "Light or dark"], ["?", "This help"],
];

function Help(): JSX.Element {
  return (
    <Dialog title="Keys" onClose={() => (help.value = false)}>
      <dl class="keys">{KEYS.map(([key, what]) => <><dt><kbd>{key}</kbd></dt><dd>{what}</dd></>)}</dl>
      <p>In charts: drag to zoom in, double-click to see everything again.</p>
      <p>The filter takes plain words, or the filter language:</p>
      <pre>metrics.loss &lt; 0.3 and params.model = 'mlp'{"\n"}min(metrics.val_loss) &lt; 0.1 or tags.team = 'risk'</pre>
      <p>Every page's address holds all it shows: copy it to share the page.</p>
    </Dialog>
  );
}
