/** The address is the state: whatever a page shows can be read from its URL. */

import { computed, signal } from "@preact/signals";

/** What a proxy puts before each path, from the address of this script. */
export const ROOT = import.meta.env.DEV
  ? ""
  : new URL(import.meta.url).pathname.replace(/\/static\/.*$/, "");

const address = signal(new URL(location.href));
addEventListener("popstate", () => (address.value = new URL(location.href)));

export const path = computed(() => address.value.pathname.slice(ROOT.length) || "/");
export const query = computed(() => address.value.searchParams);
export const tenant = computed(() => query.value.get("tenant") ?? "default");

export type Changes = Record<string, string | string[] | null>;

export function param(name: string): string {
  return query.value.get(name) ?? "";
}

export function list(name: string): string[] {
  return query.value.getAll(name);
}

/** The address of a page in this tenant, for links. */
export function href(page: string, params: Changes = {}): string {
  const search = applied(new URLSearchParams(), { tenant: query.value.get("tenant"), ...params });
  return ROOT + page + (search ? `?${search}` : "");
}

/** `quietly` makes no step for Back. */
export function go(target: string, { quietly = false } = {}): void {
  if (quietly) history.replaceState(null, "", target);
  else history.pushState(null, "", target);
  address.value = new URL(location.href);
  scrollTo(0, 0);
}

/** Change parts of this page's state; null removes.  `quietly` makes no step for Back. */
export function set(changes: Changes, { quietly = false } = {}): void {
  const search = applied(new URLSearchParams(query.value), changes);
  const target = address.value.pathname + (search ? `?${search}` : "");
  if (quietly) history.replaceState(null, "", target);
  else history.pushState(null, "", target);
  address.value = new URL(location.href);
}

function applied(search: URLSearchParams, changes: Changes): string {
  for (const [name, value] of Object.entries(changes)) {
    search.delete(name);
    if (Array.isArray(value)) for (const one of value) search.append(name, one);
    else if (value) search.set(name, value);
  }
  // Readable where a URL allows it: these characters need no escape in a query.
  return search.toString().replace(/%(2F|3A|2C|7E)/g, decodeURIComponent);
}

/** Links of this site are followed in place; anything else, and any modifier, is the browser's. */
addEventListener("click", (event) => {
  const link = (event.target as Element).closest?.("a[href]") as HTMLAnchorElement | null;
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey;
  if (!link || !plain || link.target || link.download || event.defaultPrevented) return;
  const url = new URL(link.href);
  if (url.origin !== location.origin || /\/(api|static)\//.test(url.pathname)) return;
  event.preventDefault();
  go(url.pathname + url.search);
});
