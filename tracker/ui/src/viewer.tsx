/** A file in place.  It is read as bytes and shown as text or as a picture; nothing in it runs. */

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import * as api from "./api";
import { bytes } from "./format";
import type { Artifact } from "./wire";

const MOST_TEXT = 512 * 1024;
const MOST_IMAGE = 32 * 1024 * 1024;
const ROWS = 500;
const IMAGES: Record<string, string> = {
  png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", gif: "image/gif", webp: "image/webp",
  svg: "image/svg+xml", bmp: "image/bmp", avif: "image/avif",
};
const TEXTS = /^(txt|log|out|err|json|jsonl|ndjson|csv|tsv|md|markdown|rst|py|js|ts|html|xml|yaml|yml|toml|ini|cfg|conf|sh|sql|c|h|cpp|rs|go|ipynb|)$/;

interface Props {
  id: string;
  path: string;
  known?: Artifact;
}

interface Content {
  text?: string;
  image?: string;
  cut?: boolean;
}

export function Viewer({ id, path, known }: Props): JSX.Element {
  const [content, setContent] = useState<Content | null>(null);
  const [error, setError] = useState("");
  const name = path.slice(path.lastIndexOf("/") + 1);
  const kind = name.includes(".") ? name.slice(name.lastIndexOf(".") + 1).toLowerCase() : "";
  const stored = useChanges(known ? `${known.size} ${known.modified_at}` : "");
  useEffect(() => {
    const controller = new AbortController();
    read(id, path, kind, known?.size ?? null, controller.signal).then((found) => {
      setContent(found);
      setError("");
    }, (failure) => {
      if (!api.isAbort(failure)) setError((failure as Error).message);
    });
    return () => controller.abort();
  }, [id, path, stored]);
  useEffect(() => () => {
    if (content?.image) URL.revokeObjectURL(content.image);
  }, [content]);
  return (
    <section class="viewer" aria-label={name}>
      <header class="row">
        <h2>{name}</h2><span class="quiet">{bytes(known?.size ?? null)}</span><span class="space" />
        <a class="button" href={api.artifactUrl(id, path)} download={name}>Download</a>
      </header>
      {error && <p class="warning" role="alert">{error}</p>}
      {content && <Shown content={content} kind={kind} name={name} />}
    </section>
  );
}

/** How often a version has become another one; that it is not known, or no more, is no change. */
function useChanges(version: string): number {
  const [changes, setChanges] = useState(0);
  const last = useRef("");
  useEffect(() => {
    if (last.current && version && version !== last.current) setChanges((before) => before + 1);
    if (version) last.current = version;
  }, [version]);
  return changes;
}

async function read(id: string, path: string, kind: string, size: number | null, signal: AbortSignal): Promise<Content> {
  const url = api.artifactUrl(id, path);
  const media = IMAGES[kind];
  if (media) {
    if ((size ?? 0) > MOST_IMAGE) return {};
    const body = await (await api.request(url, { signal })).arrayBuffer();
    return { image: URL.createObjectURL(new Blob([body], { type: media })) };
  }
  if (!TEXTS.test(kind)) return {};
  if (size === 0) return { text: "" };
  const headers = { Range: `bytes=0-${MOST_TEXT - 1}` };
  const answer = await api.request(url, { signal, headers }).catch((error: unknown) => {
    if (error instanceof api.ApiError && error.problem.status === 416) return null; // no byte at all
    throw error;
  });
  if (!answer) return { text: "" };
  const body = await answer.arrayBuffer();
  const total = Number(answer.headers.get("content-range")?.split("/")[1] ?? body.byteLength);
  const text = new TextDecoder().decode(body);
  return text.includes("\0") ? {} : { text, cut: total > body.byteLength };
}

function Shown({ content, kind, name }: { content: Content; kind: string; name: string }): JSX.Element {
  if (content.image) return <img src={content.image} alt={name} />;
  if (content.text === undefined) return <p class="quiet">This kind of file is not shown here; it can be downloaded.</p>;
  if (!content.text) return <p class="quiet">This file is empty.</p>;
  const cut = content.cut && <p class="warning">Only the first {bytes(MOST_TEXT)} are shown.</p>;
  if (kind === "csv" || kind === "tsv") return <>{cut}<Rows text={content.text} separator={kind === "csv" ? "," : "\t"} /></>;
  if (kind === "md" || kind === "markdown") return <>{cut}<MarkdownText text={content.text} /></>;
  return <>{cut}<pre tabIndex={0}>{kind === "json" && !content.cut ? pretty(content.text) : content.text}</pre></>;
}

/** Indented, unless that would change a number. */
function pretty(text: string): string {
  try {
    return /\d{16}|NaN|Infinity/.test(text) ? text : JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function Rows({ text, separator }: { text: string; separator: string }): JSX.Element {
  const [head, ...rows] = parseCsv(text, separator, ROWS + 1);
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Table">
      <table>
        <thead><tr>{(head ?? []).map((cell, i) => <th scope="col" key={i}>{cell}</th>)}</tr></thead>
        <tbody>{rows.map((row, i) => <tr key={i}>{row.map((cell, j) => <td key={j} class={cell !== "" && !Number.isNaN(Number(cell)) ? "number" : ""}>{cell}</td>)}</tr>)}</tbody>
      </table>
      {rows.length === ROWS && <p class="quiet">The first {ROWS} rows.</p>}
    </div>
  );
}

export function parseCsv(text: string, separator: string, most: number): string[][] {
  const rows: string[][] = [];
  let [row, cell, inside] = [[] as string[], "", false];
  for (let i = 0; i < text.length && rows.length < most; i++) {
    const c = text[i]!;
    if (inside) {
      if (c !== '"') cell += c;
      else if (text[i + 1] === '"') cell += text[++i];
      else inside = false;
    } else if (c === '"' && cell === "") inside = true;
    else if (c === separator) {
      row.push(cell);
      cell = "";
    } else if (c === "\n") {
      rows.push([...row, cell.replace(/\r$/, "")]);
      [row, cell] = [[], ""];
    } else cell += c;
  }
  if ((cell || row.length) && rows.length < most) rows.push([...row, cell]);
  return rows;
}

/** The parser is a part of its own: few pages need it. */
function MarkdownText({ text }: { text: string }): JSX.Element {
  const [shown, setShown] = useState<JSX.Element | null>(null);
  useEffect(() => {
    let over = false;
    void import("./markdown").then(({ markdown }) => {
      if (!over) setShown(markdown(text));
    });
    return () => {
      over = true;
    };
  }, [text]);
  return shown ?? <pre>{text}</pre>;
}
