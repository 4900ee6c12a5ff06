/** Which line is whose: the runs that are compared, or the groups that they make. */

import type { JSX } from "preact";
import type { ChartRun } from "./chart";
import { highlighted } from "./chartstate";
import { colorIndex } from "./colors";
import { plural } from "./format";
import { collate, type Group } from "./lines";
import { href, set } from "./route";
import { Status, Swatch } from "./ui";
import type { Run } from "./wire";

/** The group of each run by a parameter or a tag, `params.seed` say; their colours are the same in every chart. */
export function groupsOf(runs: Run[], by: string): Map<string, Group> {
  const [, entity, key] = /^(params|tags)\.(.+)$/s.exec(by) ?? [];
  const nameOf = (run: Run): string => {
    const value = (entity === "tags" ? run.tags : run.params)[key ?? ""];
    return value === undefined ? `no ${key}` : `${key} = ${value}`;
  };
  const names = [...new Set(runs.map(nameOf))].sort(collate);
  return new Map(runs.map((run) => [run.run_id, { name: nameOf(run), color: names.indexOf(nameOf(run)) }]));
}

export function GroupLegend({ runs }: { runs: ChartRun[] }): JSX.Element {
  const groups = new Map<string, { color: number; count: number }>();
  for (const { group } of runs) {
    if (group) groups.set(group.name, { color: group.color, count: (groups.get(group.name)?.count ?? 0) + 1 });
  }
  return (
    <ul class="legend" aria-label="Groups">
      {[...groups].sort(([, a], [, b]) => a.color - b.color).map(([name, { color, count }]) => (
        <li key={name}><Swatch color={color} /> {name} <span class="quiet">{plural(count, "run")}</span></li>
      ))}
      <li class="quiet">mean, and the range from lowest to highest</li>
    </ul>
  );
}

export function Legend({ runs, off }: { runs: Run[]; off: Set<string> }): JSX.Element {
  const toggle = (id: string): void => set({ off: off.has(id) ? [...off].filter((one) => one !== id) : [...off, id] }, { quietly: true });
  return (
    <ul class="legend" aria-label="Runs">
      {runs.map((run) => (
        <li key={run.run_id} class={off.has(run.run_id) ? "off" : ""} onMouseEnter={() => (highlighted.value = run.run_id)} onMouseLeave={() => (highlighted.value = null)}>
          <button type="button" aria-pressed={!off.has(run.run_id)} title={off.has(run.run_id) ? "Show" : "Hide"} aria-label={`Show ${run.name}`} onClick={() => toggle(run.run_id)}>
            <Swatch color={colorIndex(run.run_id)} />
          </button>
          <a href={href(`/runs/${run.run_id}`)} title={run.name}>{run.name || run.run_id}</a>
          {run.status !== "finished" && <Status run={run} />}
        </li>
      ))}
    </ul>
  );
}
