/** From what somebody types to a filter of the API. */

import { collate } from "./lines";
import type { Run } from "./wire";

const LANGUAGE = /(\b(metrics|params|tags|attributes|param|metric|tag|attribute|run)\s*\.)|[<>=]|\b(like|ilike|in|is)\b\s*['"(]|^\s*not\b|\bstatus\b\s*=/i;

/** Of the tags that plain words are looked for in. */
const MOST_TAGS = 12;

export function quoted(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** A key as a filter writes it. */
export function keyed(entity: string, key: string): string {
  return /^[A-Za-z_][\w]*$/.test(key) ? `${entity}.${key}` : `${entity}."${key.replaceAll('"', '""')}"`;
}

/** Plain words are looked for in name, notes, user, id and the values of known tags. */
export function filterOf(text: string, tagKeys: string[]): string {
  const plain = text.trim();
  if (!plain || LANGUAGE.test(plain)) return plain;
  return plain.split(/\s+/).map((word) => {
    const like = quoted(`%${word.replace(/[%_\\]/g, (c) => `\\${c}`)}%`);
    const places = ["attributes.name", "attributes.description", "attributes.user_id"];
    if (/^[0-9a-f-]{8,}$/i.test(word)) places.push("attributes.run_id"); // shorter ones are in many ids by chance
    const all = [...places, ...tagKeys.slice(0, MOST_TAGS).map((key) => keyed("tags", key))];
    return `(${all.map((place) => `${place} ILIKE ${like}`).join(" or ")})`;
  }).join(" and ");
}

export function both(...filters: string[]): string {
  const some = filters.filter((filter) => filter.trim());
  return some.length > 1 ? some.map((filter) => `(${filter})`).join(" and ") : (some[0] ?? "");
}

export interface Keys {
  params: string[];
  /** Of these the ones that have no value but numbers. */
  numeric: Set<string>;
  metrics: string[];
  tags: string[];
}

function isNumber(text: string): boolean {
  return text.trim() !== "" && !Number.isNaN(Number(text));
}

const HIDDEN_TAGS = /^(stepwell|mlflow)\./;

/** The keys that some runs have, those that differ between them first. */
export function keysOf(runs: Run[]): Keys {
  const params = new Map<string, Set<string>>();
  const [metrics, tags] = [new Set<string>(), new Set<string>()];
  for (const run of runs) {
    for (const [key, value] of Object.entries(run.params)) {
      params.set(key, (params.get(key) ?? new Set()).add(value));
    }
    for (const key of Object.keys(run.metrics)) metrics.add(key);
    for (const key of Object.keys(run.tags)) if (!HIDDEN_TAGS.test(key)) tags.add(key);
  }
  const varied = [...params].sort(([a, x], [b, y]) => Number(y.size > 1) - Number(x.size > 1) || collate(a, b));
  return {
    params: varied.map(([key]) => key),
    numeric: new Set(varied.flatMap(([key, values]) => ([...values].every(isNumber) ? [key] : []))),
    metrics: byInterest([...metrics]),
    tags: [...tags].sort(),
  };
}

const WISHES = [/val.*loss|loss.*val/i, /loss/i, /(val|test).*(acc|auc|f1|score|error)/i, /acc|auc|f1|score|reward|error|rmse/i];

/** A word of each of them: most of fifty thousand keys fit none. */
const WISHED = /loss|acc|auc|f1|score|reward|error|rmse/i;

/** Whether a metric is of the machine, not of the training: its steps are seconds then. */
export function isSystem(key: string): boolean {
  return /^system(\/|$)/.test(key);
}

export function interest(key: string): number {
  if (isSystem(key)) return WISHES.length + 1;
  if (!WISHED.test(key)) return WISHES.length;
  const found = WISHES.findIndex((wish) => wish.test(key));
  return found < 0 ? WISHES.length : found;
}

/** Whether a metric is a loss or a score, of which more or less is better. */
export function isJudged(key: string): boolean {
  return interest(key) < WISHES.length;
}

/** What people look at first, first: losses, scores, the rest, the system's. */
export function byInterest(keys: string[]): string[] {
  const ranks = new Map(keys.map((key) => [key, interest(key)]));
  return keys.sort((a, b) => ranks.get(a)! - ranks.get(b)! || collate(a, b));
}

/** The first `most` of them, without sorting the rest: a run may have fifty thousand. */
export function foremost(keys: string[], most: number): string[] {
  const found: [string, number][] = [];
  for (const key of keys) {
    const rank = interest(key);
    let at = found.length;
    while (at > 0 && (rank - found[at - 1]![1] || collate(key, found[at - 1]![0])) < 0) at--;
    if (at >= most) continue;
    found.splice(at, 0, [key, rank]);
    if (found.length > most) found.pop();
  }
  return found.map(([key]) => key);
}

/** Whether less is better, by the name of a metric. */
export function lessIsBetter(metric: string): boolean {
  return !/acc|auc|f1|score|reward|precision|recall|bleu|map|r2|return|iou|dice|throughput/i.test(metric);
}

/** The metric that is most likely what people watch. */
export function mainMetric(keys: string[]): string {
  return foremost(keys, 1)[0] ?? "";
}
