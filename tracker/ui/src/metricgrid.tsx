/** Charts of many metrics as small multiples: a tree of prefixes to search, and the charts in it. */

import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Chart, type ChartRun } from "./chart";
import type { ChartData } from "./chartdata";
import { collate } from "./lines";
import { param, set } from "./route";
import { byInterest, interest } from "./search";
import { Toolbar } from "./toolbar";

interface Props {
  metrics: string[];
  data: ChartData;
  runs: ChartRun[];
  extra?: JSX.Element | null | false;
}

const SHOWN = 24;

/** Keys by what stands before their last slash; the group of what is most watched first. */
export function groupsOf(metrics: string[]): [string, string[]][] {
  const groups = new Map<string, string[]>();
  for (const key of metrics) {
    const prefix = key.slice(0, Math.max(0, key.lastIndexOf("/")));
    const keys = groups.get(prefix);
    if (keys) keys.push(key);
    else groups.set(prefix, [key]);
  }
  return [...groups]
    .map(([name, keys]): [string, string[]] => [name, byInterest(keys)])
    .sort(([a, x], [b, y]) => interest(x[0]!) - interest(y[0]!) || collate(a, b));
}

function matcher(text: string): (key: string) => boolean {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return (key) => words.every((word) => key.toLowerCase().includes(word));
}

export function MetricGrid({ metrics, data, runs, extra }: Props): JSX.Element {
  const [text, setText] = useState(param("find"));
  const prefix = param("prefix");
  const timer = useRef(0);
  const find = (value: string): void => {
    setText(value);
    clearTimeout(timer.current);
    timer.current = window.setTimeout(() => set({ find: value }, { quietly: true }), 150);
  };
  const wanted = param("find");
  useEffect(() => setText(wanted), [wanted]);
  const all = useMemo(() => groupsOf(metrics), [metrics]);
  const groups = useMemo(() => {
    const matches = matcher(wanted);
    const within = (name: string): boolean => !prefix || name === prefix || name.startsWith(`${prefix}/`);
    return all.flatMap(([name, keys]) => {
      const found = within(name) ? keys.filter(matches) : [];
      return found.length ? [[name, found] as [string, string[]]] : [];
    });
  }, [all, wanted, prefix]);
  return (
    <div class="with-side">
      <nav class="side" aria-label="Metrics">
        <input type="search" aria-label="Find a metric" placeholder="Find a metric" value={text} onInput={(event) => find(event.currentTarget.value)} spellcheck={false} />
        <Tree groups={all} current={prefix} total={metrics.length} />
      </nav>
      <div class="content">
        <Toolbar metrics={metrics} data={data}>{extra}</Toolbar>
        {!metrics.length && <p class="quiet pad">No metrics yet. They appear here as they are logged.</p>}
        {metrics.length > 0 && !groups.length && <p class="quiet pad">No metric matches.</p>}
        {groups.map(([name, keys]) => <Group key={name} {...{ name, keys, data, runs }} />)}
      </div>
    </div>
  );
}

interface GroupProps {
  name: string;
  keys: string[];
  data: ChartData;
  runs: ChartRun[];
}

function Group({ name, keys, data, runs }: GroupProps): JSX.Element {
  const [shown, setShown] = useState(SHOWN);
  return (
    <section class="group" aria-label={name || "Metrics"}>
      {name && <h2>{name} <small>{keys.length}</small></h2>}
      <div class="charts">
        {keys.slice(0, shown).map((key) => <Chart key={key} metric={key} data={data} runs={runs} />)}
      </div>
      {keys.length > shown && (
        <button type="button" onClick={() => setShown(shown + SHOWN)}>
          {SHOWN} more of {(keys.length - shown).toLocaleString("en-US")}
        </button>
      )}
    </section>
  );
}

interface Node {
  name: string;
  path: string;
  count: number;
  children: Map<string, Node>;
}

function treeOf(groups: [string, string[]][]): Node {
  const root: Node = { name: "", path: "", count: 0, children: new Map() };
  for (const [prefix, keys] of groups) {
    let node = root;
    root.count += keys.length;
    for (const part of prefix ? prefix.split("/") : []) {
      const path = node.path ? `${node.path}/${part}` : part;
      let child = node.children.get(part);
      if (!child) node.children.set(part, (child = { name: part, path, count: 0, children: new Map() }));
      child.count += keys.length;
      node = child;
    }
  }
  return root;
}

const BRANCHES = 200;

function Tree({ groups, current, total }: { groups: [string, string[]][]; current: string; total: number }): JSX.Element {
  const root = useMemo(() => treeOf(groups), [groups]);
  return (
    <ul>
      <li><Choice path="" name="All" count={total} current={current} /></li>
      {[...root.children.values()].slice(0, BRANCHES).map((node) => <Branch key={node.path} node={node} current={current} />)}
    </ul>
  );
}

function Branch({ node, current }: { node: Node; current: string }): JSX.Element {
  const open = current === node.path || current.startsWith(`${node.path}/`);
  const children = [...node.children.values()];
  return (
    <li>
      <Choice path={node.path} name={node.name} count={node.count} current={current} more={children.length > 0} />
      {open && children.length > 0 && (
        <ul>{children.slice(0, BRANCHES).map((child) => <Branch key={child.path} node={child} current={current} />)}</ul>
      )}
    </li>
  );
}

interface ChoiceProps {
  path: string;
  name: string;
  count: number;
  current: string;
  more?: boolean;
}

function Choice({ path, name, count, current, more }: ChoiceProps): JSX.Element {
  return (
    <button type="button" class="choice" aria-current={path === current ? "true" : undefined} title={path || "All metrics"} onClick={() => set({ prefix: path })}>
      <span>{name}{more && "/…"}</span> <small>{count.toLocaleString("en-US")}</small>
    </button>
  );
}
