/** Charts and tables as files. */

import { history } from "./api";
import { colorOf } from "./colors";
import { drawBand, drawPath, type Pen } from "./draw";
import { scale, ticks } from "./extent";
import { csv, duration, exact, moment, tick } from "./format";
import type { Plot, Shown } from "./plot";

export function save(name: string, content: BlobPart | Blob, type: string): void {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name.replace(/[^\w.-]+/g, "_");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const [LEFT, TOP, RIGHT, LINE] = [64, 34, 16, 16];

/** The chart as SVG text: what is on screen, with a title and the names of its lines. */
export function svgOf(title: string, plot: Plot, shown: Shown, width = 960, height = 480): string {
  const names = plot.bands.length
    ? plot.bands.map((band) => ({ color: band.color, text: `${band.label} (${band.runs} runs)` }))
    : plot.paths.map(({ line }) => ({ color: line.color, text: line.label }));
  const box = { left: LEFT, top: TOP, width: width - LEFT - RIGHT, height: height - TOP - 40 };
  const x = scale(plot.xRange, box.left, box.width, shown.logX);
  const y = scale(plot.yRange, box.top + box.height, -box.height, shown.logY);
  const place = { x, y, logX: shown.logX, logY: shown.logY, box, unit: 1 };
  const pen = new SvgPen();
  for (const band of plot.bands) drawBand(pen, band, place);
  if (!plot.bands.length) {
    const look = { strong: false, smoothing: shown.smoothing > 0 };
    for (const path of plot.paths) drawPath(pen, path, place, look);
  }
  const legend = names.slice(0, 40);
  const total = height + Math.ceil(legend.length / 3) * LINE + 8;
  const [text, grid] = ["#333", "#ddd"];
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${total}" font-family="system-ui, sans-serif" font-size="11" fill="${text}">`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<text x="${LEFT}" y="20" font-size="14">${escaped(title)}</text>`,
    `<clipPath id="c"><rect x="${box.left}" y="${box.top}" width="${box.width}" height="${box.height}"/></clipPath>`,
  ];
  for (const value of ticks(plot.yRange, 6, shown.logY)) {
    parts.push(`<path d="M${box.left} ${fixed(y(value))}h${box.width}" stroke="${grid}"/>`);
    parts.push(`<text x="${LEFT - 6}" y="${fixed(y(value) + 4)}" text-anchor="end">${tick(value)}</text>`);
  }
  for (const value of ticks(plot.xRange, 8, shown.logX)) {
    const label = shown.x === "time" ? moment(value * 1000)
      : shown.x === "relative" ? duration(value) : tick(value);
    parts.push(`<text x="${fixed(x(value))}" y="${box.top + box.height + 16}" text-anchor="middle">${label}</text>`);
  }
  parts.push(`<g clip-path="url(#c)">${pen.parts.join("")}</g>`);
  parts.push(`<text x="${width - RIGHT}" y="${height - 8}" text-anchor="end">${escaped(shown.x)}</text>`);
  legend.forEach(({ color, text }, i) => {
    const [left, top] = [LEFT + (i % 3) * ((width - LEFT) / 3), height + Math.floor(i / 3) * LINE];
    parts.push(`<rect x="${left}" y="${top - 8}" width="10" height="10" fill="${colorOf(color)}"/>`);
    parts.push(`<text x="${left + 15}" y="${top + 1}">${escaped(text.slice(0, 48))}</text>`);
  });
  return `${parts.join("\n")}</svg>`;
}

export async function pngOf(svg: string): Promise<Blob> {
  const url = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.width * 2, image.height * 2];
    canvas.getContext("2d")!.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve, reject) =>
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no image"))), "image/png"));
  } finally {
    URL.revokeObjectURL(url);
  }
}

const MOST_ROWS = 5_000_000;

/** Every point of a metric of some runs, a page at a time: in pieces, as no string may be so long. */
export async function csvOf(metric: string, runs: { runId: string; label: string }[]): Promise<Blob> {
  const parts = ["run_id,run,key,step,timestamp,value\n"];
  let rows = 0;
  for (const { runId, label } of runs) {
    const head = [runId, label, metric].map(csv).join(",");
    for await (const { steps, times, values } of history(runId, metric)) {
      rows += steps.length;
      if (rows > MOST_ROWS) throw new Error(`More than ${MOST_ROWS.toLocaleString("en-US")} points: read them with Python`);
      const lines = Array.from(steps, (step, i) => `${head},${step},${times[i]},${exact(values[i]!)}\n`);
      parts.push(lines.join(""));
    }
  }
  return new Blob(parts, { type: "text/csv" });
}

export function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`).replace(/[\0-\x08\x0b\x0c\x0e-\x1f]/g, "");
}

export function fixed(value: number): string {
  return value.toFixed(2);
}

class SvgPen implements Pen {
  parts: string[] = [];
  strokeStyle: string | CanvasGradient | CanvasPattern = "";
  fillStyle: string | CanvasGradient | CanvasPattern = "";
  lineWidth = 1;
  globalAlpha = 1;
  private path: string[] = [];
  private dash = "";

  beginPath(): void {
    this.path = [];
  }
  moveTo(x: number, y: number): void {
    this.path.push(`M${fixed(x)} ${fixed(y)}`);
  }
  lineTo(x: number, y: number): void {
    this.path.push(`L${fixed(x)} ${fixed(y)}`);
  }
  setLineDash(dash: number[]): void {
    this.dash = dash.join(" ");
  }
  stroke(): void {
    const dash = this.dash && ` stroke-dasharray="${this.dash}"`;
    this.add(`fill="none" stroke="${String(this.strokeStyle)}" stroke-width="${this.lineWidth}"${dash}`);
  }
  fill(): void {
    this.add(`stroke="none" fill="${String(this.fillStyle)}"`);
  }
  private add(how: string): void {
    if (this.path.length) this.parts.push(`<path d="${this.path.join("")}" ${how} opacity="${this.globalAlpha}"/>`);
  }
}
