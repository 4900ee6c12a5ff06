/** The files of a run: a folder at a time, and a file in place where it can be shown safely. */

import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import * as api from "./api";
import { bytes, moment } from "./format";
import { Soon } from "./pool";
import { param, set } from "./route";
import { Viewer } from "./viewer";
import { sayError } from "./ui";
import type { Artifact } from "./wire";

/** Between two reads of a list while files are stored. */
const AGAIN_MS = 200;

/** `told` grows when files were stored or deleted. */
export function Artifacts({ id, told }: { id: string; told: number }): JSX.Element {
  const folder = param("folder");
  const [files, setFiles] = useState<Artifact[] | null>(null);
  const [isMore, setMore] = useState(false);
  const wanted = useRef(0);
  const reading = useRef<Soon>(null);
  useEffect(() => {
    const controller = new AbortController();
    const { signal } = controller;
    wanted.current = 0;
    const read = (): Promise<void> => api.patiently(() => listed(id, folder, wanted.current, signal), signal, sayError).then((page) => {
      wanted.current = Math.max(wanted.current, page.artifacts.length);
      setFiles(page.artifacts);
      setMore(page.next_cursor !== null);
    }, (error: unknown) => {
      if (!api.isAbort(error)) sayError(error);
    });
    const soon = (reading.current = new Soon(read, () => (wanted.current ? AGAIN_MS : 0)));
    soon.ask();
    return () => {
      soon.end();
      controller.abort();
    };
  }, [id, folder]);
  useEffect(() => reading.current?.ask(), [told]);
  const more = (): void => {
    wanted.current = (files?.length ?? 0) + 1;
    reading.current?.ask();
  };
  const file = param("file");
  const chosen = files?.find((one) => one.path === file);
  return (
    <div class="artifacts">
      <section class="files" aria-label="Files">
        <Crumbs folder={folder} />
        <table>
          <tbody>
            {(files ?? []).map((one) => <Entry key={one.path} id={id} one={one} current={one.path === file} />)}
          </tbody>
        </table>
        {isMore && <button type="button" onClick={more}>More</button>}
        {files && !files.length && <p class="quiet">{folder ? "This folder is empty." : "No files yet: run.log_artifact(path) stores one."}</p>}
      </section>
      {!file && files?.some((one) => !one.is_dir) && <p class="quiet">Choose a file to see it here.</p>}
      {file && files && <Viewer key={file} id={id} path={file} {...(chosen ? { known: chosen } : {})} />}
    </div>
  );
}

/** The first files of a folder: a page, or as many pages as hold so many of them. */
async function listed(id: string, path: string, least: number, signal: AbortSignal): ReturnType<typeof api.artifacts> {
  const page = await api.artifacts(id, { path }, signal);
  while (page.next_cursor !== null && page.artifacts.length < least) {
    const next = await api.artifacts(id, { path, cursor: page.next_cursor }, signal);
    page.artifacts.push(...next.artifacts);
    page.next_cursor = next.next_cursor;
  }
  return page;
}

function Crumbs({ folder }: { folder: string }): JSX.Element {
  const parts = folder ? folder.split("/") : [];
  return (
    <nav class="crumbs" aria-label="Folder">
      <button type="button" class="link" onClick={() => set({ folder: null, file: null })}>artifacts</button>
      {parts.map((part, i) => (
        <span key={i}> / <button type="button" class="link" onClick={() => set({ folder: parts.slice(0, i + 1).join("/"), file: null })}>{part}</button></span>
      ))}
    </nav>
  );
}

function Entry({ id, one, current }: { id: string; one: Artifact; current: boolean }): JSX.Element {
  const name = one.path.slice(one.path.lastIndexOf("/") + 1);
  const open = (): void => set(one.is_dir ? { folder: one.path, file: null } : { file: one.path });
  return (
    <tr aria-current={current ? "true" : undefined}>
      <th scope="row"><button type="button" class="link" onClick={open}>{name}{one.is_dir ? "/" : ""}</button></th>
      <td class="number">{bytes(one.size)}</td>
      <td class="quiet">{one.modified_at === null ? "" : moment(one.modified_at)}</td>
      <td class="narrow">{!one.is_dir && <a href={api.artifactUrl(id, one.path)} download={name} aria-label={`Download ${name}`}>↓</a>}</td>
    </tr>
  );
}
