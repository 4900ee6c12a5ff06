/** A run keeps its colour on every page, and a link carries it: `runs=<id>~<colour>`. */

/** Told apart with any colour vision; after Paul Tol's qualitative schemes. */
const LIGHT = [
  "#3b6fb5", "#d9483b", "#228833", "#b8860b", "#8a3a8f", "#1596a8", "#e07b1f", "#5b4fc4",
  "#a0526d", "#6f7d1f",
];
const DARK = [
  "#6ea3f0", "#ff7a6b", "#57c16d", "#e0b340", "#cf80d4", "#4cc9d9", "#ff9f4d", "#9d92ff",
  "#e08aa8", "#b3c34a",
];
export const COLORS = LIGHT.length;
const DASHES: number[][] = [[], [7, 3], [2, 3], [9, 3, 2, 3]];
const STORED = "stepwell.colors";
const KEPT = 2000;

const chosen = new Map<string, number>(stored());
let next = chosen.size;

function stored(): [string, number][] {
  try {
    return JSON.parse(localStorage.getItem(STORED) ?? "[]") as [string, number][];
  } catch {
    return [];
  }
}

/** A number for a run; the first use decides, unless a link said so before. */
export function colorIndex(runId: string): number {
  let index = chosen.get(runId);
  if (index === undefined) {
    index = next++ % (COLORS * DASHES.length);
    remember(runId, index);
  }
  return index;
}

/** Colours of runs that are shown together for the first time: the unused ones first. */
export function assign(runIds: string[]): void {
  const used = new Set(runIds.map((id) => chosen.get(id)).filter((i) => i !== undefined));
  let free = 0;
  for (const id of runIds) {
    if (chosen.has(id)) continue;
    while (used.has(free)) free++;
    used.add(free);
    remember(id, free % (COLORS * DASHES.length));
  }
}

export function adopt(runId: string, index: number): void {
  if (!chosen.has(runId) && Number.isInteger(index) && index >= 0) remember(runId, index);
}

export function known(runId: string): boolean {
  return chosen.has(runId);
}

function remember(runId: string, index: number): void {
  chosen.set(runId, index);
  const entries = [...chosen].slice(-KEPT);
  try {
    localStorage.setItem(STORED, JSON.stringify(entries));
  } catch {
    // Private windows have no storage; colours then last as long as the page.
  }
}

export const dark = matchMedia("(prefers-color-scheme: dark)");

export function isDark(): boolean {
  const theme = document.documentElement.dataset["theme"];
  return theme ? theme === "dark" : dark.matches;
}

export function colorOf(index: number): string {
  return (isDark() ? DARK : LIGHT)[index % COLORS] as string;
}

export function dashOf(index: number): number[] {
  return DASHES[Math.floor(index / COLORS) % DASHES.length] as number[];
}

/** From dark blue over green to yellow, for numbers from 0 to 1; even in lightness. */
export function ramp(share: number): string {
  const stops = isDark()
    ? [[90, 90, 200], [50, 140, 190], [60, 185, 130], [240, 220, 70]]
    : [[68, 40, 120], [49, 104, 142], [40, 165, 120], [215, 190, 20]];
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const low = stops[Math.min(Math.floor(at), stops.length - 2)] as number[];
  const high = stops[Math.min(Math.floor(at), stops.length - 2) + 1] as number[];
  const part = at - Math.min(Math.floor(at), stops.length - 2);
  const mixed = low.map((value, i) => Math.round(value + ((high[i] ?? 0) - value) * part));
  return `rgb(${mixed.join(",")})`;
}

/** A colour of the style sheet, as it is in this theme. */
export function ink(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
