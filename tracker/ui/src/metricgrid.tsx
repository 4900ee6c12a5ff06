/** Charts of many metrics as small multiples: a tree of prefixes to search, and the charts in it. */

import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Chart, type ChartRun } from "./chart";
import type { ChartData } from "./chartdata";
import { collate } from "./lines";
import { param, set } from "./route";
import { byInterest, interest, isSystem } from "./search";
import { Toolbar } from "./toolbar";

interface Props {
  metrics: string[];
  data: ChartData;
  runs: ChartRun[];
  extra?: JSX.Element | null | false;
}

const SHOWN = 24;
const NO_PREFIX = "other";

/** Keys by what stands before their last slash; the group of what is most watched first.  A group sorts its keys
 * when it is drawn: sorting fifty thousand by language takes longer than reading them. */
export function groupsOf(metrics: string[]): [string, string[]][] {
  const groups = new Map<string, string[]>();
  for (const key of metrics) {
    const prefix = key.slice(0, Math.max(0, key.lastIndexOf("/")));
    const keys = groups.get(prefix);
    if (keys) keys.push(key);
    else groups.set(prefix, [key]);
  }
  return [...groups]
    .map(([name, keys]): [string, string[], number] => [name, keys, keys.reduce((least, key) => Math.min(least, interest(key)), Infinity)])
    .sort(([a, , x], [b, , y]) => x - y || collate(a, b))
    .map(([name, keys]) => [name, keys]);
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
  useEffect(() => () => clearTimeout(timer.current), []); // of another page it is no search
  const all = useMemo(() => groupsOf(metrics), [metrics]);
  const found = useMemo(() => {
    const matches = matcher(wanted);
    return wanted ? all.flatMap(([name, keys]) => some(name, keys.filter(matches))) : all;
  }, [all, wanted]);
  const groups = useMemo(
    () => joinedSmall(found.filter(([name]) => !prefix || name === prefix || name.startsWith(`${prefix}/`))),
    [found, prefix],
  );
  const height = heightOf(groups.reduce((sum, [, keys]) => sum + keys.length, 0));
  return (
    <div class="with-side">
      <nav class="side" aria-label="Metrics">
        <input type="search" aria-label="Find a metric" placeholder="Find a metric" value={text} onInput={(event) => find(event.currentTarget.value)} spellcheck={false} />
        <Tree groups={found} current={prefix} />
      </nav>
      <div class="content">
        <Toolbar metrics={metrics} data={data}>{extra}</Toolbar>
        {!metrics.length && <p class="quiet pad">No metrics yet. They appear here as they are logged.</p>}
        {metrics.length > 0 && !groups.length && <p class="quiet pad">No metric matches.</p>}
        {groups.map(([name, keys]) => <Group key={name} {...{ name, keys, data, runs, height }} alone={groups.length === 1} />)}
      </div>
    </div>
  );
}

function some(name: string, keys: string[]): [string, string[]][] {
  return keys.length ? [[name, keys]] : [];
}

const ROOMY = 300;

const SMALL = 2;
const NAMED = 4;

/** Groups of one or two charts share their rows, so that no screen is mostly empty; the system's stay apart. */
function joinedSmall(groups: [string, string[]][]): [string, string[]][] {
  const small = groups.filter(([name, keys]) => keys.length <= SMALL && !isSystem(name));
  if (small.length < 2) return groups;
  const names = small.slice(0, NAMED).map(([name]) => name || NO_PREFIX);
  const heading = names.join(", ") + (small.length > NAMED ? ` and ${small.length - NAMED} more` : "");
  const together: [string, string[]] = [heading, small.flatMap(([, keys]) => keys)];
  const first = groups.indexOf(small[0]!);
  return [...groups.slice(0, first), together, ...groups.slice(first).filter((group) => !small.includes(group))];
}

/** Few charts are given the room that is there. */
function heightOf(charts: number): number {
  return charts <= 3 ? ROOMY : charts <= 6 ? 240 : 190;
}

interface GroupProps {
  name: string;
  keys: string[];
  data: ChartData;
  runs: ChartRun[];
  height: number;
  /** Whether there is no other group. */
  alone: boolean;
}

const [CHART_WIDTH, AROUND] = [340, 44];

/** Its charts are made when it comes near the window; until then it is as tall as they will be. */
function Group({ name, keys, data, runs, height, alone }: GroupProps): JSX.Element {
  const [shown, setShown] = useState(SHOWN);
  const [near, setNear] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const observer = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) setNear(true);
    }, { rootMargin: "400px" });
    observer.observe(root.current!);
    return () => observer.disconnect();
  }, []);
  const drawn = useMemo(() => (near ? byInterest([...keys]).slice(0, shown) : []), [near, keys, shown]);
  const across = Math.max(1, Math.floor((innerWidth - 230) / CHART_WIDTH));
  const room = near ? undefined : `${Math.ceil(Math.min(keys.length, shown) / across) * (height + AROUND)}px`;
  return (
    <section class="group" aria-label={name || "Metrics"}>
      {(name || !alone) && <h2>{name || NO_PREFIX} <small>{keys.length}</small></h2>}
      <div class={`charts${height === ROOMY ? " few" : ""}`} ref={root} style={{ minHeight: room }}>
        {drawn.map((key) => <Chart key={key} metric={key} data={data} runs={runs} height={height} />)}
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

function Tree({ groups, current }: { groups: [string, string[]][]; current: string }): JSX.Element {
  const root = useMemo(() => treeOf(groups), [groups]);
  return (
    <ul>
      <li><Choice path="" name="All" count={root.count} current={current} /></li>
      <Branches of={root} current={current} />
    </ul>
  );
}

function Branches({ of, current }: { of: Node; current: string }): JSX.Element {
  const more = of.children.size - BRANCHES;
  return (
    <>
      {[...of.children.values()].slice(0, BRANCHES).map((node) => <Branch key={node.path} node={node} current={current} />)}
      {more > 0 && <li class="quiet more">and {more.toLocaleString("en-US")} more: find narrows them down</li>}
    </>
  );
}

function Branch({ node, current }: { node: Node; current: string }): JSX.Element {
  const open = current === node.path || current.startsWith(`${node.path}/`);
  const more = node.children.size > 0;
  return (
    <li>
      <Choice path={node.path} name={node.name} count={node.count} current={current} mark={more ? (open ? "▾" : "▸") : ""} />
      {open && more && <ul><Branches of={node} current={current} /></ul>}
    </li>
  );
}

interface ChoiceProps {
  path: string;
  name: string;
  count: number;
  current: string;
  mark?: string;
}

function Choice({ path, name, count, current, mark }: ChoiceProps): JSX.Element {
  return (
    <button type="button" class="choice" aria-current={path === current ? "true" : undefined} title={path || "All metrics"} onClick={() => set({ prefix: path })}>
      <span>{name}{mark && <small aria-hidden="true"> {mark}</small>}</span> <small>{count.toLocaleString("en-US")}</small>
    </button>
  );
}
