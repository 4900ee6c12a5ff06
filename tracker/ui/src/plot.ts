/** One chart: uPlot keeps axes, scales, cursor and zoom; the lines are drawn by draw.ts. */

import uPlot from "uplot";
import { drawAbove, drawBand, drawCrowd, drawPath, isCrowded, type Place } from "./draw";
import { type Range, scale, xExtent, yExtent, ticks } from "./extent";
import { clock, duration, tick } from "./format";
import { bandsOf, type Band, type Line, nearest, type Path, pathOf, smoothed } from "./lines";
import { RasterPen } from "./raster";

export interface Shown {
  lines: Line[];
  x: string;
  logX: boolean;
  logY: boolean;
  smoothing: number;
  grouped: boolean;
  zoom: Range | null;
  /** Charts of the same name share the pointer's place. */
  sync: string;
}

export interface Hovered {
  path: Path;
  place: number;
  left: number;
  top: number;
  distance: number;
}

export interface HoveredBand {
  band: Band;
  place: number;
}

interface Hooks {
  /** Null: everything. */
  onZoom(range: Range | null): void;
  onHover(points: Hovered[], bands: HoveredBand[], left: number, top: number): void;
}

/** 1, 2, 5, 10 and so on: what the ticks of a step axis may be apart. */
const WHOLE = Array.from({ length: 16 }, (_, power) => [1, 2, 5].map((digit) => digit * 10 ** power)).flat();
const DAY_S = 86_400;
/** Seconds between the labels of wall time: parts of minutes, of hours, of days; days. */
const TIMES = [1, 2, 5, 10, 15, 30].flatMap((n) => [n, n * 60]).concat([1, 2, 3, 6, 12].map((n) => n * 3_600), [1, 2, 5, 10, 30, 90, 365].map((n) => n * DAY_S)).sort((a, b) => a - b);
const LETTER = 6.6;
/** Pixels to both sides of the pointer where points are pointed at. */
const COLUMNS = 2;
/** Pixels within which a drag has reached the end of the axis. */
const EDGE = 3;

/** The labels of a y axis are given what they need, within reason. */
function roomFor(_: uPlot, labels: string[] | null): number {
  const longest = Math.max(0, ...(labels ?? []).map((label) => label?.length ?? 0));
  return Math.min(90, Math.max(52, Math.ceil(longest * LETTER) + 10));
}

const FONT = '11px system-ui, -apple-system, "Segoe UI", sans-serif';

/** Pixels that a label has at least. */
const [X_SPACE, Y_SPACE] = [60, 28];

/** Labels of a logarithmic axis: uPlot's own are powers of ten alone, and the odd numbers at its ends. */
const ROUND: Pick<uPlot.Axis, "splits" | "filter"> = {
  splits: (u, axis, low, high) => {
    const [size, space] = axis === 0 ? [u.bbox.width, X_SPACE] : [u.bbox.height, Y_SPACE];
    return ticks([low, high], Math.max(2, Math.floor(size / devicePixelRatio / space)), true);
  },
  filter: (_, splits) => splits,
};

export class Plot {
  paths: Path[] = [];
  bands: Band[] = [];
  xRange: Range = [0, 1];
  yRange: Range = [0, 1];
  /** Whether the pointer is on this chart: cursors of the others are told here too. */
  active = false;
  private highlighted: string | null = null;
  private above: HTMLCanvasElement | null = null;
  private u: uPlot | null = null;
  private kind = "";
  private shown: Shown | null = null;
  private width = 0;
  private height = 0;

  constructor(private readonly element: HTMLElement, private readonly hooks: Hooks) {}

  resize(width: number, height: number): void {
    if (width === this.width && height === this.height) return;
    [this.width, this.height] = [width, height];
    this.u?.setSize({ width, height });
  }

  show(shown: Shown): void {
    const before = this.shown;
    this.shown = shown;
    const same = before && before.lines === shown.lines && before.x === shown.x &&
      before.logX === shown.logX && before.smoothing === shown.smoothing &&
      before.grouped === shown.grouped;
    if (!same) {
      this.paths = this.pathsOf(shown, before);
      this.bands = shown.grouped ? bandsOf(this.paths) : [];
    }
    this.xRange = xRangeOf(shown.zoom, xExtent(this.paths));
    this.yRange = yExtent(this.paths, this.bands, this.xRange, shown.logY);
    this.draw();
  }

  /** Of a hundred lines those are made anew that have other points than before. */
  private pathsOf(shown: Shown, before: Shown | null): Path[] {
    const alike = before && before.x === shown.x && before.logX === shown.logX && before.smoothing === shown.smoothing;
    const known = new Map(alike ? this.paths.map((path) => [path.line.columns, path]) : []);
    return shown.lines.map((line) => {
      const same = known.get(line.columns);
      if (same && same.line.along === line.along && same.line.start === line.start) return { ...same, line };
      const path = pathOf(line, shown.x, shown.logX);
      path.smooth = smoothed(path, shown.smoothing);
      return path;
    });
  }

  destroy(): void {
    this.u?.destroy();
    this.u = this.above = null;
  }

  private draw(): void {
    const shown = this.shown;
    if (!shown || this.width < 20) return;
    const kind = `${shown.x}|${shown.logX}|${shown.logY}|${shown.sync}`;
    if (!this.u || kind !== this.kind) {
      this.u?.destroy();
      this.above = null;
      this.kind = kind;
      this.u = new uPlot(this.options(shown), [[0, 1], [null, null]], this.element);
    }
    this.u.batch(() => {
      this.u!.setScale("x", { min: this.xRange[0], max: this.xRange[1] });
      this.u!.setScale("y", { min: this.yRange[0], max: this.yRange[1] });
    });
    this.u.redraw(false);
  }

  private options(shown: Shown): uPlot.Options {
    const style = getComputedStyle(document.documentElement);
    const axis = {
      stroke: style.getPropertyValue("--text-2").trim(),
      grid: { stroke: style.getPropertyValue("--grid").trim(), width: 1 },
      ticks: { show: false },
      font: FONT,
    };
    const time = shown.x === "time";
    const moments = (_: uPlot, values: number[], _axis: number, _space: number, incr: number): string[] => values.map((at) => clock(at, incr));
    const relative = (_: uPlot, values: number[]): string[] => values.map((v) => duration(v) || tick(v));
    const numbers = (_: uPlot, values: (number | null)[]): string[] => values.map(tick);
    const xValues = time ? { values: moments, incrs: TIMES } : { values: shown.x === "relative" ? relative : numbers };
    const whole = shown.x === "step" && !shown.logX ? { incrs: WHOLE } : {}; // there is no step 0.5
    return {
      width: this.width,
      height: this.height,
      padding: [8, 10, 0, 0],
      legend: { show: false },
      cursor: {
        drag: { x: true, y: false, setScale: false },
        sync: { key: shown.sync, setSeries: false, scales: ["x", null] },
        points: { show: false },
        y: false,
      },
      scales: {
        x: { time, distr: shown.logX ? 3 : 1, range: () => this.xRange },
        y: { distr: shown.logY ? 3 : 1, range: () => this.yRange },
      },
      axes: [
        { ...axis, ...xValues, ...whole, ...(shown.logX ? ROUND : {}), size: 24, gap: 2, space: X_SPACE },
        { ...axis, values: numbers, ...(shown.logY ? ROUND : {}), size: roomFor, gap: 4, space: Y_SPACE },
      ],
      series: [{}, { show: false }],
      hooks: {
        draw: [(u) => this.drawLines(u)],
        setSelect: [(u) => this.select(u)],
        setCursor: [(u) => this.hover(u)],
        ready: [(u) => u.over.addEventListener("dblclick", () => this.hooks.onZoom(null))],
      },
    };
  }

  private place(u: uPlot): Place {
    const { logX, logY } = this.shown!;
    const { left, top, width, height } = u.bbox;
    return {
      x: scale(this.xRange, left, width, logX), y: scale(this.yRange, top + height, -height, logY),
      logX, logY, box: u.bbox, unit: devicePixelRatio,
    };
  }

  private drawLines(u: uPlot): void {
    const { ctx, bbox } = u;
    const { smoothing } = this.shown!;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.lineJoin = "round";
    const place = this.place(u);
    if (this.bands.length) {
      for (const band of this.bands) drawBand(ctx, band, place);
    } else if (isCrowded(this.paths)) {
      const raster = new RasterPen(bbox.left, bbox.top, Math.ceil(bbox.width), Math.ceil(bbox.height));
      drawCrowd(raster, this.paths, place, smoothing > 0);
      ctx.drawImage(raster.picture(), bbox.left, bbox.top);
      drawAbove(ctx, this.paths, place, smoothing > 0);
    } else {
      for (const path of this.paths) drawPath(ctx, path, place, { strong: false, smoothing: smoothing > 0 });
    }
    ctx.restore();
    this.nameAxis(u);
    this.highlight(this.highlighted);
  }

  /** What the x axis counts, in the corner that the labels of the axes leave free. */
  private nameAxis({ ctx, bbox }: uPlot): void {
    const { x } = this.shown!;
    if (x === "time") return; // its labels say it, and what the pointer reads has the day
    const unit = devicePixelRatio;
    ctx.save();
    ctx.font = FONT.replace("11", String(11 * unit));
    ctx.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--text-2").trim();
    ctx.textAlign = "right";
    ctx.textBaseline = "top";
    const name = x === "relative" ? "time" : x;
    if (ctx.measureText(name).width < bbox.left - 22 * unit) ctx.fillText(name, bbox.left - 14 * unit, bbox.top + bbox.height + 7 * unit);
    ctx.restore();
  }

  /** One run stands out: drawn once more on a canvas above, so that the others stay as they are. */
  highlight(runId: string | null): void {
    const u = this.u;
    if (!u || (runId === null && this.highlighted === null)) return;
    this.highlighted = runId;
    const { left, top, width, height } = u.bbox;
    const canvas = this.above ?? u.over.appendChild(document.createElement("canvas"));
    this.above = canvas;
    canvas.className = "above";
    [canvas.width, canvas.height] = [width, height];
    [canvas.style.width, canvas.style.height] = ["100%", "100%"];
    const pen = canvas.getContext("2d")!;
    if (runId === null || this.bands.length) return;
    pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--ground").trim();
    pen.globalAlpha = 0.65;
    pen.fillRect(0, 0, width, height);
    pen.translate(-left, -top);
    const place = this.place(u);
    const look = { strong: true, smoothing: this.shown!.smoothing > 0 };
    for (const path of this.paths) if (path.line.runId === runId) drawPath(pen, path, place, look);
  }

  private select(u: uPlot): void {
    if (u.select.width < 4) return;
    const [left, width] = [u.select.left, u.select.width];
    const atEdge = left + width >= u.over.clientWidth - EDGE;
    const range: Range = [u.posToVal(left, "x"), atEdge ? this.xRange[1] : u.posToVal(left + width, "x")];
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.hooks.onZoom(range);
  }

  /** Of the points in the pointer's columns of pixels the one that is nearest in height: a spike can be touched. */
  private pointedAt(u: uPlot, path: Path, near: number, left: number, top: number): Hovered {
    const at = (place: number): Hovered => {
      const y = path.ys[place]!;
      const drawable = Number.isFinite(y) && !(this.shown!.logY && y <= 0);
      const atTop = drawable ? u.valToPos(y, "y") : u.over.clientHeight;
      return { path, place, left: u.valToPos(path.xs[place]!, "x"), top: atTop, distance: Math.abs(atTop - top) };
    };
    let best = at(near);
    for (const way of path.ascending ? [-1, 1] : []) {
      for (let place = near + way; place >= 0 && place < path.xs.length; place += way) {
        const other = at(place);
        if (Math.abs(other.left - left) > COLUMNS) break;
        if (other.distance < best.distance) best = other;
      }
    }
    return best;
  }

  private hover(u: uPlot): void {
    if (!this.active) return;
    const { left, top, event } = u.cursor;
    if (left === undefined || top === undefined || left < 0 || !event) {
      this.hooks.onHover([], [], 0, 0);
      return;
    }
    const x = u.posToVal(left, "x");
    if (this.bands.length) {
      const bands = this.bands.map((band) => ({ band, place: bandPlace(band, x) }));
      this.hooks.onHover([], bands.filter(({ place }) => place >= 0), left, top);
      return;
    }
    const found: Hovered[] = [];
    for (const path of this.paths) {
      const near = nearest(path, x);
      if (!near) continue;
      const point = this.pointedAt(u, path, near[0], left, top);
      if (Math.abs(point.left - left) > 40 && this.paths.length > 1) continue;
      found.push(point);
    }
    found.sort((a, b) => a.distance - b.distance);
    this.hooks.onHover(found, [], left, top);
  }
}

/** A zoom without an end goes on to the newest point. */
function xRangeOf(zoom: Range | null, whole: Range): Range {
  if (!zoom || Number.isFinite(zoom[1])) return zoom ?? whole;
  return [zoom[0], whole[1] > zoom[0] ? whole[1] : zoom[0] + 1];
}

function bandPlace(band: Band, x: number): number {
  const [first, last] = [band.xs[0]!, band.xs[band.xs.length - 1]!];
  if (x < first || x > last) return -1;
  const share = last > first ? (x - first) / (last - first) : 0;
  const place = Math.round(share * (band.xs.length - 1));
  return band.sizes[place] ? place : -1;
}
