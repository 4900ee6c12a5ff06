/** One chart: uPlot keeps axes, scales, cursor and zoom; the lines are drawn by draw.ts. */

import uPlot from "uplot";
import { drawBand, drawPath, type Place } from "./draw";
import { type Range, xExtent, yExtent } from "./extent";
import { duration, tick } from "./format";
import { bandsOf, type Band, type Line, nearest, type Path, pathOf, smoothed } from "./lines";

export interface Shown {
  lines: Line[];
  x: string;
  logX: boolean;
  logY: boolean;
  smoothing: number;
  grouped: boolean;
  zoom: Range | null;
  highlighted: string | null;
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
  onZoom(range: Range | null): void;
  onHover(points: Hovered[], bands: HoveredBand[], left: number, top: number): void;
}

const FONT = '11px system-ui, -apple-system, "Segoe UI", sans-serif';

export class Plot {
  paths: Path[] = [];
  bands: Band[] = [];
  xRange: Range = [0, 1];
  yRange: Range = [0, 1];
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
      this.paths = shown.lines.map((line) => pathOf(line, shown.x, shown.logX));
      for (const path of this.paths) path.smooth = smoothed(path, shown.smoothing);
      this.bands = shown.grouped ? bandsOf(this.paths) : [];
    }
    this.xRange = shown.zoom ?? xExtent(this.paths);
    this.yRange = yExtent(this.paths, this.bands, this.xRange, shown.logY);
    this.draw();
  }

  destroy(): void {
    this.u?.destroy();
    this.u = null;
  }

  recolor(): void {
    this.destroy();
    this.draw();
  }

  private draw(): void {
    const shown = this.shown;
    if (!shown || this.width < 20) return;
    const kind = `${shown.x}|${shown.logX}|${shown.logY}`;
    if (!this.u || kind !== this.kind) {
      this.u?.destroy();
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
    const relative = (_: uPlot, values: number[]): string[] => values.map((v) => duration(v) || tick(v));
    const numbers = (_: uPlot, values: (number | null)[]): string[] => values.map(tick);
    const xValues = time ? {} : { values: shown.x === "relative" ? relative : numbers };
    return {
      width: this.width,
      height: this.height,
      padding: [8, 10, 0, 0],
      legend: { show: false },
      cursor: {
        drag: { x: true, y: false, setScale: false },
        sync: { key: "charts", setSeries: false, scales: ["x", null] },
        points: { show: false },
        y: false,
      },
      scales: {
        x: { time, distr: shown.logX ? 3 : 1, range: () => this.xRange },
        y: { distr: shown.logY ? 3 : 1, range: () => this.yRange },
      },
      axes: [
        { ...axis, ...xValues, size: 24, gap: 2, space: 60 },
        { ...axis, values: numbers, size: 52, gap: 4, space: 28 },
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
    return {
      x: (value) => u.valToPos(value, "x", true),
      y: (value) => u.valToPos(value, "y", true),
      logX: this.shown!.logX, logY: this.shown!.logY, box: u.bbox, unit: devicePixelRatio,
    };
  }

  private drawLines(u: uPlot): void {
    const { ctx, bbox } = u;
    const { highlighted, smoothing } = this.shown!;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    ctx.lineJoin = "round";
    const place = this.place(u);
    if (this.bands.length) {
      for (const band of this.bands) {
        drawBand(ctx, band, place, highlighted !== null && !band.runIds.includes(highlighted));
      }
    } else {
      const last = this.paths.filter((path) => path.line.runId === highlighted);
      const look = { highlighted: last.length ? highlighted : null, smoothing: smoothing > 0 };
      for (const path of this.paths) if (!last.includes(path)) drawPath(ctx, path, place, look);
      for (const path of last) drawPath(ctx, path, place, look);
    }
    ctx.restore();
  }

  private select(u: uPlot): void {
    if (u.select.width < 4) return;
    const [left, width] = [u.select.left, u.select.width];
    const range: Range = [u.posToVal(left, "x"), u.posToVal(left + width, "x")];
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.hooks.onZoom(range);
  }

  private hover(u: uPlot): void {
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
      const [at, y] = [path.xs[near[0]]!, path.ys[near[0]]!];
      const atLeft = u.valToPos(at, "x");
      if (Math.abs(atLeft - left) > 40 && this.paths.length > 1) continue;
      const drawable = Number.isFinite(y) && !(this.shown!.logY && y <= 0);
      const atTop = drawable ? u.valToPos(y, "y") : u.over.clientHeight;
      found.push({ path, place: near[0], left: atLeft, top: atTop, distance: Math.abs(atTop - top) });
    }
    found.sort((a, b) => a.distance - b.distance);
    this.hooks.onHover(found, [], left, top);
  }
}

function bandPlace(band: Band, x: number): number {
  const [first, last] = [band.xs[0]!, band.xs[band.xs.length - 1]!];
  if (x < first || x > last) return -1;
  const share = last > first ? (x - first) / (last - first) : 0;
  const place = Math.round(share * (band.xs.length - 1));
  return band.sizes[place] ? place : -1;
}
