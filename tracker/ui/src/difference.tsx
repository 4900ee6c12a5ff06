/** Parameters and last values side by side; what differs stands out, what does not can be left out. */

import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { colorIndex } from "./colors";
import { exact, rounded, shown } from "./format";
import { collate } from "./lines";
import { href, param, set } from "./route";
import { isJudged, keysOf, lessIsBetter } from "./search";
import { Swatch } from "./ui";
import { toNumber, type Run } from "./wire";

const RUNS = 60;

export function Difference({ runs }: { runs: Run[] }): JSX.Element {
  const some = runs.slice(0, RUNS);
  const all = param("same") === "1";
  const keys = useMemo(() => keysOf(some), [runs]);
  const differs = (of: (run: Run) => unknown): boolean => new Set(some.map(of)).size > 1;
  const params = [...keys.params].sort(collate).filter((key) => all || differs((run) => run.params[key]));
  const tags = keys.tags.filter((key) => all || differs((run) => run.tags[key]));
  const same = keys.params.length - keys.params.filter((key) => differs((run) => run.params[key])).length;
  return (
    <div class="pad">
      <div class="toolbar">
        <label><input type="checkbox" checked={all} onChange={(event) => set({ same: event.currentTarget.checked ? "1" : null })} /> Show what is the same ({same})</label>
        <span class="quiet">In colour: not what most of them have. Bold: the best.</span>
        {runs.length > RUNS && <span class="warning">the first {RUNS} runs</span>}
      </div>
      <div class="scroll" tabIndex={0} role="region" aria-label="Parameters side by side">
        <table class="diff">
          <thead>
            <tr><td />{some.map((run) => <th scope="col" key={run.run_id}><Swatch color={colorIndex(run.run_id)} /> <a href={href(`/runs/${run.run_id}`)}>{run.name}</a></th>)}</tr>
          </thead>
          <Part name="Parameters" keys={params} runs={some} of={(run, key) => run.params[key]} />
          {tags.length > 0 && <Part name="Tags" keys={tags} runs={some} of={(run, key) => run.tags[key]} />}
          <tbody>
            <tr class="part"><th scope="rowgroup" colSpan={some.length + 1}>Last values</th></tr>
            {keys.metrics.slice(0, 200).map((key) => <Metric key={key} name={key} runs={some} />)}
          </tbody>
        </table>
      </div>
    </div>
  );
}

interface PartProps {
  name: string;
  keys: string[];
  runs: Run[];
  of: (run: Run, key: string) => string | undefined;
}

function Part({ name, keys, runs, of }: PartProps): JSX.Element {
  return (
    <tbody>
      <tr class="part"><th scope="rowgroup" colSpan={runs.length + 1}>{name}</th></tr>
      {keys.map((key) => {
        const common = mostCommon(runs.map((run) => of(run, key)));
        return (
          <tr key={key}>
            <th scope="row">{key}</th>
            {runs.map((run) => {
              const value = of(run, key);
              return <td key={run.run_id} class={value === common ? "" : "other"} title={value}>{value === undefined ? <span class="quiet">—</span> : shown(value)}</td>;
            })}
          </tr>
        );
      })}
      {!keys.length && <tr><td class="quiet" colSpan={runs.length + 1}>No difference</td></tr>}
    </tbody>
  );
}

function mostCommon(values: (string | undefined)[]): string | undefined {
  const counts = new Map<string | undefined, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0];
}

function Metric({ name, runs }: { name: string; runs: Run[] }): JSX.Element {
  const values = runs.map((run) => toNumber(run.metrics[name]));
  const finite = values.filter((value): value is number => value !== null && Number.isFinite(value));
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const mark = (value: number | null): string => (low === high ? "" : value === low ? "the lowest" : value === high ? "the highest" : "");
  const best = low === high || !isJudged(name) ? null : lessIsBetter(name) ? low : high;
  return (
    <tr>
      <th scope="row">{name}</th>
      {values.map((value, i) => <td key={runs[i]!.run_id} class={value !== null && value === best ? "best" : ""} title={[exact(value), mark(value)].filter(Boolean).join(", ")}>{rounded(value)}</td>)}
    </tr>
  );
}
