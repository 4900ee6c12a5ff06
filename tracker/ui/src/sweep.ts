/** A sweep as a whole: parameters and last values of many runs, an array for each key. */

import { Reader } from "./columns";
import { collate } from "./lines";
import { byInterest } from "./search";
import { toNumber, type Run } from "./wire";

/** A parameter: run `i` has `words[places[i]]`; -1: it has none. */
export interface Texts {
  words: string[];
  places: Int32Array;
}

export interface Sweep {
  size: number;
  /** All runs that match, were there more than come at once. */
  total: number;
  id(place: number): string;
  name(place: number): string;
  params: Map<string, Texts>;
  /** Last values; NaN where a run has none. */
  metrics: Map<string, Float64Array>;
}

/** The answer of `/runs/columns`; docs/api.md, "Runs". */
export function decodeSweep(buffer: ArrayBuffer): Sweep {
  const reader = new Reader(buffer);
  reader.array();
  const format = reader.next();
  if (format !== 1) throw new Error(`columns of an unknown format ${String(format)}`);
  const ids = reader.next() as DataView;
  const names = strings(reader);
  const params = new Map<string, Texts>();
  for (let left = reader.array(); left > 0; left--) {
    reader.array();
    const key = reader.next() as string;
    params.set(key, { words: strings(reader), places: new Int32Array(bytes(reader)) });
  }
  const metrics = new Map<string, Float64Array>();
  for (let left = reader.array(); left > 0; left--) {
    reader.array();
    metrics.set(reader.next() as string, new Float64Array(bytes(reader)));
    reader.next(); // which runs have it: the others' values are NaN
  }
  const total = reader.next() as number;
  return { size: names.length, total, id: (place) => idOf(ids, place), name: (place) => names[place]!, params, metrics };
}

function strings(reader: Reader): string[] {
  return Array.from({ length: reader.array() }, () => reader.next() as string);
}

function bytes(reader: Reader): ArrayBuffer {
  const { buffer, byteOffset, byteLength } = reader.next() as DataView;
  return buffer.slice(byteOffset, byteOffset + byteLength) as ArrayBuffer;
}

function idOf(ids: DataView, place: number): string {
  let text = "";
  for (let at = 0; at < 16; at += 4) text += ids.getUint32(place * 16 + at).toString(16).padStart(8, "0");
  return text;
}

export function sweepOf(runs: Run[]): Sweep {
  const params = new Map<string, Texts>();
  const metrics = new Map<string, Float64Array>();
  const words = new Map<string, Map<string, number>>();
  runs.forEach((run, i) => {
    for (const [key, text] of Object.entries(run.params)) {
      if (!params.has(key)) {
        params.set(key, { words: [], places: new Int32Array(runs.length).fill(-1) });
        words.set(key, new Map());
      }
      const known = words.get(key)!;
      if (!known.has(text)) known.set(text, params.get(key)!.words.push(text) - 1);
      params.get(key)!.places[i] = known.get(text)!;
    }
    for (const [key, value] of Object.entries(run.metrics)) {
      if (!metrics.has(key)) metrics.set(key, new Float64Array(runs.length).fill(NaN));
      metrics.get(key)![i] = toNumber(value)!;
    }
  });
  return { size: runs.length, total: runs.length, id: (place) => runs[place]!.run_id, name: (place) => runs[place]!.name, params, metrics };
}

/** Whether all that these name (`params.lr`, `metrics.loss`) has been read. */
export function hasAll({ params, metrics }: Sweep, ids: string[]): boolean {
  return ids.every((id) => {
    const key = id.replace(/^(params|metrics)\./, "");
    return id.startsWith("metrics.") ? metrics.has(key) : params.has(key);
  });
}

/** The parameters that differ between the runs, and the metrics, those that people watch first. */
export function keysIn({ params, metrics }: Sweep): { params: string[]; metrics: string[] } {
  const varied = [...params].filter(([, { words, places }]) => words.length > 1 || (words.length === 1 && places.includes(-1)));
  return { params: varied.map(([key]) => key).sort(collate), metrics: byInterest([...metrics.keys()]) };
}
