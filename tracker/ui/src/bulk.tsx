/** What can be done with the chosen runs at once. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import * as api from "./api";
import { colorIndex } from "./colors";
import { plural } from "./format";
import { pooled } from "./pool";
import { go, href, list, ROOT, set } from "./route";
import { copy, Dialog, say, sayError } from "./ui";
import type { Run } from "./wire";

type Act = (id: string) => Promise<unknown>;

interface Props {
  chosen: Map<string, Run>;
  onDone: () => void;
  tenant: string;
}

const AT_ONCE = 8;
const MOST_COMPARED = 200;
/** Their ids are in the address. */
const MOST_HIDDEN = 200;

export function compareHref(ids: string[], more: Record<string, string> = {}): string {
  return href("/compare", { runs: ids.map((id) => `${id}~${colorIndex(id)}`).join(","), ...more });
}

export function BulkBar({ chosen, onDone, tenant }: Props): JSX.Element | null {
  const [tagging, setTagging] = useState(false);
  const runs = [...chosen.values()];
  if (!runs.length) return null;
  const ids = runs.map((run) => run.run_id);
  const gone = runs.filter((run) => run.lifecycle === "deleted");
  const all = async (what: string, some: Run[], act: Act, undo?: () => void): Promise<void> => {
    try {
      await pooled(some.map((run) => run.run_id), AT_ONCE, act);
      say(`${what} ${plural(some.length, "run")}`, undo);
    } catch (error) {
      sayError(error);
    }
    onDone();
  };
  const hidden = [...new Set([...list("hide"), ...ids])];
  const compare = (more: Record<string, string>): void => go(compareHref(ids.slice(0, MOST_COMPARED), more));
  const active = runs.filter((run) => run.lifecycle === "active");
  return (
    <div class="bulk" role="toolbar" aria-label="Chosen runs">
      <b>{plural(runs.length, "run")}</b>
      <button type="button" class="main" onClick={() => compare({})}>{runs.length > MOST_COMPARED ? `Compare the first ${MOST_COMPARED}` : "Compare"}</button>
      {runs.length > 1 && <button type="button" title="Parameters that differ between them, and their last values" onClick={() => compare({ tab: "params" })}>Differences</button>}
      <button type="button" disabled={hidden.length > MOST_HIDDEN} title={hidden.length > MOST_HIDDEN ? `At most ${MOST_HIDDEN}: a filter hides any number` : "Leave them out of this view"} onClick={() => set({ hide: hidden })}>Hide</button>
      <button type="button" onClick={() => setTagging(true)}>Tag…</button>
      {active.length > 0 && <button type="button" onClick={() => void all("Deleted", active, api.deleteRun, () => void all("Restored", active, api.restoreRun))}>Delete</button>}
      {gone.length > 0 && <button type="button" onClick={() => void all("Restored", gone, api.restoreRun)}>Restore</button>}
      <button type="button" onClick={() => void copy(pythonOf(ids, tenant), "Copied the Python lines")}>Copy Python</button>
      <button type="button" class="link" onClick={onDone}>Clear</button>
      {tagging && <TagDialog onClose={() => setTagging(false)} onSave={(key, value) => {
        setTagging(false);
        void all("Tagged", active, (id) => api.changeRun(id, { tags: { [key]: value || null } }));
      }} />}
    </div>
  );
}

function TagDialog({ onClose, onSave }: { onClose: () => void; onSave: (key: string, value: string) => void }): JSX.Element {
  const [key, setKey] = useState("");
  const [value, setValue] = useState("");
  return (
    <Dialog title="Tag the chosen runs" onClose={onClose}>
      <form class="row" onSubmit={(event) => { event.preventDefault(); if (key) onSave(key, value); }}>
        <input aria-label="Tag" placeholder="tag" value={key} onInput={(event) => setKey(event.currentTarget.value)} />
        <input aria-label="Value" placeholder="value (empty removes it)" value={value} onInput={(event) => setValue(event.currentTarget.value)} />
        <button type="submit" class="main" disabled={!key}>Save</button>
      </form>
    </Dialog>
  );
}

function text(value: string): string {
  return JSON.stringify(value); // a JSON string is a Python string too
}

/** The lines that read these runs in a notebook. */
export function pythonOf(ids: string[], tenant: string, key = ""): string {
  const url = location.origin + ROOT;
  const by = tenant === "default" ? "" : `, tenant=${text(tenant)}`;
  const head = `from stepwell import ExperimentTracker\n\ntracker = ExperimentTracker(${text(url)}${by})\n`;
  if (ids.length === 1) {
    return `${head}run = tracker.get_run(${text(ids[0]!)})\nprint(run.params, run.metrics)\npoints = tracker.get_metric_arrays(${text(ids[0]!)}, ${text(key || "loss")})  # .steps, .timestamps, .values\n`;
  }
  const listed = ids.map((id) => `    ${text(id)},`).join("\n");
  return `${head}runs = [tracker.get_run(run_id) for run_id in [\n${listed}\n]]\nrows = [{"name": run.name, **run.params, **run.metrics} for run in runs]  # pandas.DataFrame(rows)\n`;
}
