/** Small parts that every page uses. */

import { signal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { colorOf, dashOf } from "./colors";
import { now } from "./live";
import type { Run } from "./wire";

interface Said {
  text: string;
  undo?: (() => void) | undefined;
}

const NOTHING: Said = { text: "" };
const toast = signal(NOTHING);
let toastTimer = 0;
const [SHOWN_MS, UNDOABLE_MS] = [4_000, 10_000];

/** For some seconds, with a button where it can be undone. */
export function say(text: string, undo?: () => void): void {
  toast.value = { text, undo };
  clearTimeout(toastTimer);
  toastTimer = window.setTimeout(() => (toast.value = NOTHING), undo ? UNDOABLE_MS : SHOWN_MS);
}

export function sayError(error: unknown): void {
  say(error instanceof Error ? error.message : String(error));
}

export async function copy(text: string, what = "Copied"): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyByHand(text); // over plain HTTP from elsewhere there is no clipboard object
  }
  say(what);
}

function copyByHand(text: string): void {
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

const EDGE = 8;

/** Moves what floats back into the window: on a phone there is little room beside a button or a pointer. */
export function intoWindow(element: HTMLElement | null): void {
  if (!element) return;
  element.style.transform = "";
  const { left, right } = element.getBoundingClientRect();
  const by = Math.max(EDGE - left, 0) || Math.min(document.documentElement.clientWidth - EDGE - right, 0);
  if (by) element.style.transform = `translateX(${Math.round(by)}px)`;
}

interface MenuProps {
  label: ComponentChildren;
  title?: string;
  children: ComponentChildren;
  align?: "left" | "right";
}

/** A button with a panel below it; Escape, a click elsewhere or a choice closes it. */
export function Menu({ label, title, children, align = "left" }: MenuProps): JSX.Element {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const panel = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => intoWindow(panel.current));
  useEffect(() => {
    if (!open) return;
    const close = (event: Event): void => {
      if (!root.current?.contains(event.target as Node)) setOpen(false);
    };
    document.addEventListener("pointerdown", close);
    return () => document.removeEventListener("pointerdown", close);
  }, [open]);
  const onKey = (event: KeyboardEvent): void => {
    if (event.key !== "Escape" || !open) return;
    event.stopPropagation();
    setOpen(false);
    root.current?.querySelector("button")?.focus();
  };
  const onChoice = (event: MouseEvent): void => {
    if ((event.target as Element).closest("[data-closes]")) setOpen(false);
  };
  return (
    <div class="menu" ref={root} onKeyDown={onKey}>
      <button type="button" aria-expanded={open} aria-label={title} title={title} onClick={() => setOpen(!open)}>
        {label}
      </button>
      {open && <div ref={panel} class={`menu-panel ${align}`} onClick={onChoice}>{children}</div>}
    </div>
  );
}

export function Swatch({ color }: { color: number }): JSX.Element {
  const dash = dashOf(color).join(" ");
  return (
    <svg class="swatch" width="18" height="8" aria-hidden="true">
      <line x1="0" y1="4" x2="18" y2="4" stroke={colorOf(color)} stroke-width="3" stroke-dasharray={dash} />
    </svg>
  );
}

const STALE_MS = 120_000;

export function isStale(run: Run): boolean {
  return run.status === "running" && now.value - run.heartbeat_at > STALE_MS;
}

export function Status({ run }: { run: Run }): JSX.Element {
  const stale = isStale(run);
  const text = run.lifecycle === "deleted" ? "deleted" : stale ? "silent" : run.status;
  const title = stale ? "Said to be running, but nothing has been heard for over two minutes" : text;
  return <span class={`status ${text}`} title={title}>{text}</span>;
}

interface EditableProps {
  value: string;
  label: string;
  onSave: (value: string) => Promise<unknown>;
  multiline?: boolean;
  placeholder?: string;
}

/** Text that a click makes a field; Enter saves, Escape leaves it as it was. */
export function Editable({ value, label, onSave, multiline, placeholder }: EditableProps): JSX.Element {
  const [draft, setDraft] = useState<string | null>(null);
  const field = useRef<HTMLTextAreaElement & HTMLInputElement>(null);
  useEffect(() => {
    if (draft !== null && document.activeElement !== field.current) field.current?.select();
  }, [draft]);
  if (draft === null) {
    return (
      <button type="button" class="editable" title={`Edit ${label}`} onClick={() => setDraft(value)}>
        {value || <span class="quiet">{placeholder ?? `Add ${label}`}</span>}
      </button>
    );
  }
  const finish = (): void => {
    setDraft(null);
    if (draft !== value) onSave(draft).catch(sayError);
  };
  const onKey = (event: KeyboardEvent): void => {
    event.stopPropagation();
    if (event.key === "Escape") setDraft(null);
    if (event.key === "Enter" && (!multiline || event.ctrlKey || event.metaKey)) finish();
  };
  const common = {
    ref: field, value: draft, "aria-label": label, onKeyDown: onKey, onBlur: finish,
    onInput: (event: Event) => setDraft((event.target as HTMLInputElement).value),
  };
  return multiline ? <textarea rows={4} {...common} /> : <input {...common} />;
}

export function Toast(): JSX.Element {
  const { text, undo } = toast.value;
  return (
    <div class="toast" role="status" aria-live="polite" data-shown={text !== ""}>
      {text}
      {undo && <button type="button" class="link" onClick={() => { toast.value = NOTHING; undo(); }}>Undo</button>}
    </div>
  );
}

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  wide?: boolean;
}

export function Dialog({ title, onClose, children, wide }: DialogProps): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  const onClick = (event: MouseEvent): void => {
    if (event.target === dialog.current) onClose();
  };
  return (
    <dialog ref={dialog} class={wide ? "wide" : ""} aria-label={title} onClose={onClose} onClick={onClick}>
      <header>
        <h2>{title}</h2>
        <button type="button" aria-label="Close" onClick={onClose}>✕</button>
      </header>
      {children}
    </dialog>
  );
}

/** The last value that was ready: what is shown while another one is read. */
export function useHeld<T>(value: T, ready: boolean): T {
  const held = useRef(value);
  if (ready) held.current = value;
  return held.current;
}

/** Whether keys belong to a field now. */
export function isTyping(event: KeyboardEvent): boolean {
  const target = event.target as HTMLElement;
  return /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) || event.ctrlKey || event.metaKey || event.altKey;
}

/** Keys of the page: while it is shown, and where nobody types. */
export function useKeys(keys: Record<string, (event: KeyboardEvent) => void>): void {
  const current = useRef(keys);
  current.current = keys;
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (isTyping(event)) return;
      const action = current.current[event.key];
      if (!action) return;
      event.preventDefault();
      action(event);
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}
