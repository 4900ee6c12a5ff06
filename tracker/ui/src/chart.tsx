/** A panel with one chart: the lines of one metric, over one or many runs. */

import { useSignalEffect } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { ChartData } from "./chartdata";
import { csvOf, pngOf, save, svgOf } from "./export";
import type { Range } from "./extent";
import { exact, moment, plural, rounded } from "./format";
import { lowerBound, type Group, type Line, type Path } from "./lines";
import { highlighted, settings, setLogY, setZoom, zoomText } from "./chartstate";
import { type Hovered, type HoveredBand, Plot, type Shown } from "./plot";
import { param, set } from "./route";
import { isSystem } from "./search";
import type { Zoom } from "./zoom";
import { nameOf } from "./tails";
import { copy, intoWindow, Menu, sayError, Swatch, useKeys } from "./ui";

export interface ChartRun {
  runId: string;
  label: string;
  color: number;
  start: number;
  group?: Group | undefined;
}

interface Props {
  metric: string;
  data: ChartData;
  runs: ChartRun[];
  height?: number;
  focused?: boolean;
}

export function Chart({ metric, data, runs, height = 190, focused = false }: Props): JSX.Element {
  const element = useRef<HTMLDivElement>(null);
  const plot = useRef<Plot | null>(null);
  const shown = useRef<Shown | null>(null);
  const [hover, setHover] = useState<{ points: Hovered[]; bands: HoveredBand[]; left: number; top: number } | null>(null);
  const state = settings.value;
  const version = data.version(metric).value;
  const along = state.along ? data.version(state.along).value : 0;

  const lines = useMemo(() => linesOf(metric, data, runs, state.along), [runs, version, along, state.along, data]);

  useEffect(() => {
    plot.current = new Plot(element.current!, {
      onZoom: (range) => zoomTo(range && range[1] >= newestOf(data, runs, metric, shown.current!.x) ? [range[0], Infinity] : range, metric, shown.current),
      onHover: (points, bands, left, top) => {
        setHover(points.length || bands.length ? { points, bands, left, top } : null);
        highlighted.value = runs.length > 1 ? (points[0]?.path.line.runId ?? null) : null;
      },
    });
    plot.current.active = element.current!.matches(":hover"); // the pointer may have been here before
    return () => plot.current?.destroy();
  }, [runs]);

  useLayoutEffect(() => {
    if (focused) data.want(metric, element.current!.clientWidth || innerWidth); // what fills the window waits for no observer
  }, [metric, data, focused]);

  const covered = !focused && param("focus") !== ""; // by the one that fills the window
  useEffect(() => watch(element.current!, (width) => {
    if (covered) return;
    data.want(metric, width);
    if (state.along) data.want(state.along, width);
  }, (width, tall) => plot.current?.resize(width, tall)), [metric, data, state.along, covered]);

  useEffect(() => {
    if (covered) return;
    const box = element.current!;
    plot.current!.resize(box.clientWidth, box.clientHeight);
    shown.current = shownOf(lines, metric);
    plot.current!.show(shown.current);
  }, [lines, state, metric, runs, covered]);

  useSignalEffect(() => {
    plot.current?.highlight(highlighted.value);
  });

  useKeys(hover ? { c: () => void copy(exactText(hover.points), "Copied the exact values") } : {});

  const point = (active: boolean): void => {
    if (plot.current) plot.current.active = active; // it is made when what is around it has been painted
  };
  const leave = (): void => {
    point(false);
    setHover(null);
    highlighted.value = null;
  };
  return (
    <figure class="chart" data-metric={metric} aria-label={`Chart of ${metric}`} aria-busy={data.reading.value > 0}>
      <figcaption>
        <span class="chart-title" title={metric}>{metric}</span>
        <Note lines={lines} />
        <Tools metric={metric} runs={runs} plot={plot} shown={shown} focused={focused} />
      </figcaption>
      <div
        class="plot" ref={element} style={{ height: `${height}px` }} data-lines={lines.length} data-points={lines.reduce((n, l) => n + l.columns.values.length, 0)}
        onMouseEnter={() => point(true)} onMouseLeave={leave}
      />
      {hover && <Tooltip {...hover} single={runs.length === 1} width={element.current?.clientWidth ?? 0} />}
    </figure>
  );
}

function linesOf(metric: string, data: ChartData, runs: ChartRun[], along: string): Line[] {
  return runs.flatMap((run) => {
    const columns = data.get(run.runId, metric);
    if (!columns?.values.length) return [];
    return [{
      id: `${run.runId} ${metric}`, runId: run.runId, key: metric, label: run.label, color: run.color,
      start: run.start, columns, along: along ? data.get(run.runId, along) : undefined, group: run.group,
    } as Line];
  });
}

function shownOf(lines: Line[], metric: string): Shown {
  const { x, logX, smoothing, zoom, grouped } = settings.value;
  const logY = settings.value.logY(metric);
  const apart = isApart(metric, x);
  return { lines, x, logX, logY, smoothing: smoothing / 100, grouped, zoom: apart ? null : zoom, sync: apart ? "system" : "training" };
}

/** By steps, the machine's metrics have an axis of their own: seconds. */
function isApart(metric: string, x: string): boolean {
  return x === "step" && isSystem(metric);
}

export function zoomOf(runs: ChartRun[], x: string, range: Range): Zoom {
  return { x, range, starts: new Map(runs.map((run) => [run.runId, run.start])) };
}

/** Where the longest line ends: what is dragged over up to there goes on with whatever comes. */
function newestOf(data: ChartData, runs: ChartRun[], metric: string, x: string): number {
  const ends = runs.flatMap((run) => {
    const { steps, times } = data.whole(nameOf(run.runId, metric)) ?? {};
    if (!steps?.length) return [];
    if (x === "step") return [steps.at(-1)!];
    return x === "time" || x === "relative" ? [(times!.at(-1)! - (x === "time" ? 0 : run.start)) / 1000] : [Infinity];
  });
  return ends.length ? Math.max(...ends) : Infinity;
}

/** A stretch of the machine's own axis is one of time for everything else. */
function zoomTo(range: Range | null, metric: string, shown: Shown | null): void {
  const line = shown?.lines[0];
  if (!range || !line || !isApart(metric, shown.x)) {
    setZoom(range);
    return;
  }
  const { steps, times } = line.columns;
  const second = (step: number): string => ((times[Math.min(lowerBound(steps, step), times.length - 1)]! - line.start) / 1000).toFixed(3);
  set({ x: "relative", zoom: zoomText(range, second) });
}

/** Tells when a chart is (nearly) in view, and its size. */
function watch(element: HTMLElement, onView: (width: number) => void, onSize: (width: number, height: number) => void): () => void {
  const seen = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) onView(element.clientWidth);
  }, { rootMargin: "200px" });
  const sized = new ResizeObserver(() => onSize(element.clientWidth, element.clientHeight));
  seen.observe(element);
  sized.observe(element);
  return () => {
    seen.disconnect();
    sized.disconnect();
  };
}

const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** What the chart shows of what there is. */
function Note({ lines }: { lines: Line[] }): JSX.Element | null {
  return useMemo(() => noteOf(lines), [lines]);
}

function noteOf(lines: Line[]): JSX.Element | null {
  let [points, buckets, odd] = [0, 0, 0];
  for (const { columns } of lines) {
    const bucketed = (columns.counts?.length ?? 0) * 4;
    buckets += columns.counts?.length ?? 0;
    points += (columns.counts?.reduce((sum, n) => sum + n, 0) ?? 0) + columns.values.length - bucketed;
    for (const value of columns.values) if (!Number.isFinite(value)) odd++;
  }
  if (!lines.length) return null;
  const latest = lines.length === 1 ? lines[0]!.columns.values.at(-1)! : null;
  const how = buckets
    ? `${plural(points, "point")} as ${plural(buckets, "bucket")}, each with its first, lowest, highest and last`
    : `${plural(points, "point")}, every one drawn`;
  return (
    <span class="chart-note" title={how}>
      {odd > 0 && <span class="warning" title="NaN and infinities are marked at the edge">{odd} not finite </span>}
      {latest !== null && <b title={exact(latest)}>{rounded(latest)}</b>}
      {buckets > 0 && <span class="quiet"> {COMPACT.format(points)} pts</span>}
    </span>
  );
}

interface ToolProps {
  metric: string;
  runs: ChartRun[];
  plot: { current: Plot | null };
  shown: { current: Shown | null };
  focused: boolean;
}

function Tools({ metric, runs, plot, shown, focused }: ToolProps): JSX.Element {
  const name = `${metric}-${runs.length === 1 ? runs[0]!.label : `${runs.length}-runs`}`;
  const svg = (): string => svgOf(metric, plot.current!, shown.current!);
  const toCsv = async (): Promise<void> => {
    try {
      save(`${name}.csv`, await csvOf(metric, runs), "text/csv");
    } catch (error) {
      sayError(error);
    }
  };
  const log = settings.value.logY(metric);
  return (
    <span class="chart-tools">
      <button type="button" aria-pressed={log} title="Logarithmic scale" onClick={() => setLogY(metric, !log)}>log</button>
      {!focused && <button type="button" title="Enlarge" aria-label={`Enlarge ${metric}`} onClick={() => set({ focus: metric })}>⤢</button>}
      <Menu label="⋯" title={`More for ${metric}`} align="right">
        <button type="button" data-closes onClick={() => pngOf(svg()).then((png) => save(`${name}.png`, png, "image/png"), sayError)}>Save as PNG</button>
        <button type="button" data-closes onClick={() => save(`${name}.svg`, svg(), "image/svg+xml")}>Save as SVG</button>
        <button type="button" data-closes onClick={() => void toCsv()}>Save every point as CSV</button>
        <button type="button" data-closes onClick={() => set({ x: metric })}>Use as x axis</button>
        <button type="button" data-closes onClick={() => void copy(location.href, "Copied the link to this view")}>Copy link</button>
      </Menu>
    </span>
  );
}

const LISTED = 8;

interface TooltipProps {
  points: Hovered[];
  bands: HoveredBand[];
  left: number;
  top: number;
  single: boolean;
  width: number;
}

function Tooltip({ points, bands, left, top, single, width }: TooltipProps): JSX.Element {
  const right = left > width / 2;
  const style = right ? { right: `${width - left - 44}px`, top: `${top + 30}px` } : { left: `${left + 68}px`, top: `${top + 30}px` };
  const first = points[0];
  const root = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => intoWindow(root.current));
  return (
    <div ref={root} class="tooltip" style={style}>
      {first && <div class="quiet">{where(first)}</div>}
      {bands.map(({ band, place }) => (
        <div key={band.label}>
          <Swatch color={band.color} /> {band.label} <b>{rounded(band.mean[place]!)}</b>{" "}
          <span class="quiet">{rounded(band.low[place]!)} … {rounded(band.high[place]!)}, {band.sizes[place]} of {plural(band.runs, "run")}</span>
        </div>
      ))}
      {points.slice(0, LISTED).map(({ path, place }) => (
        <div key={path.line.id} class="tooltip-row">
          {!single && <><Swatch color={path.line.color} /> <span class="tooltip-name">{path.line.label}</span></>}
          <b>{exact(path.ys[place]!)}</b>
          {path.smooth && <span class="quiet">smooth {rounded(smoothNear(path, place))}</span>}
          {single && <BucketRange path={path} place={place} />}
        </div>
      ))}
      {points.length > LISTED && <div class="quiet">and {points.length - LISTED} more</div>}
      {points.length > 0 && <div class="quiet keys">c copies</div>}
    </div>
  );
}

/** What a bucket stands for: from its lowest to its highest, and how many points. */
function BucketRange({ path, place }: { path: Path; place: number }): JSX.Element | null {
  const { values, counts } = path.line.columns;
  const bucket = path.rows[place]! >> 2;
  if (!counts || bucket >= counts.length) return null;
  return <span class="quiet">{rounded(values[4 * bucket + 1]!)} … {rounded(values[4 * bucket + 2]!)} in {plural(counts[bucket]!, "point")}</span>;
}

/** The mean at a point, or beside it: the extremes of a bucket have none of their own. */
function smoothNear({ smooth }: Path, place: number): number {
  for (let away = 0; away < 5; away++) {
    for (const at of [place - away, place + away]) if (Number.isFinite(smooth![at])) return smooth![at]!;
  }
  return NaN;
}

function where({ path, place }: Hovered): string {
  const row = path.rows[place]!;
  const { steps, times } = path.line.columns;
  return `step ${steps[row]} · ${moment(times[row]!)}`;
}

function exactText(points: Hovered[]): string {
  const rows = points.map(({ path, place }) => {
    const row = path.rows[place]!;
    const { steps, times, values } = path.line.columns;
    return [path.line.label, path.line.key, steps[row], times[row], values[row]].join("\t");
  });
  return ["run\tkey\tstep\ttimestamp\tvalue", ...rows].join("\n");
}

/** The chart that fills the window: `focus` in the address. */
export function Focused({ data, runs, children }: { data: ChartData; runs: ChartRun[]; children?: ComponentChildren }): JSX.Element | null {
  const metric = param("focus");
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (metric && dialog.current && !dialog.current.open) dialog.current.showModal();
  }, [metric]);
  if (!metric) return null;
  const close = (): void => set({ focus: null });
  return (
    <dialog ref={dialog} class="focus" aria-label={`Chart of ${metric}`} onClose={close}>
      <button type="button" class="focus-close" aria-label="Close" onClick={close}>✕</button>
      <Chart metric={metric} data={data} runs={runs} height={Math.max(300, innerHeight - (runs.length > 1 ? 210 : 160))} focused />
      {runs.length > 1 && children}
      <p class="quiet">Drag to zoom in, double-click to see everything. c copies the exact values under the pointer.</p>
    </dialog>
  );
}
