/** The experiments and saved views of the tenant, and the tenants. */

import { effect, signal } from "@preact/signals";
import * as api from "./api";
import { connected } from "./live";
import { tenant } from "./route";
import type { Experiment } from "./wire";

export const experiments = signal<Experiment[] | null>(null);
export const tenants = signal<string[]>([]);
export const problem = signal("");

const RETRY_MS = 5_000;
const VIEW = "stepwell.view.";

/** How many reads were begun, and which of them was the last whose answer is shown. */
let [begun, shown] = [0, 0];

export async function loadExperiments(): Promise<void> {
  const [asked, turn] = [tenant.peek(), ++begun];
  const isLate = (): boolean => tenant.peek() !== asked || turn < shown; // of the tenant before, or of a read before
  try {
    const found = await api.experiments("all");
    if (isLate()) return;
    shown = turn;
    experiments.value = found;
    problem.value = "";
  } catch (error) {
    if (isLate()) return;
    problem.value = (error as Error).message;
    if (api.isPassing(error)) setTimeout(() => problem.peek() && void loadExperiments(), RETRY_MS);
  }
}

effect(() => {
  void tenant.value;
  experiments.value = null;
  void loadExperiments();
});
effect(() => {
  if (connected.value === "live" && problem.peek()) void loadExperiments(); // it is there again
});
api.tenants().then((names) => (tenants.value = names), () => undefined);

export function experimentName(id: string): string {
  return experiments.value?.find((one) => one.experiment_id === id)?.name ?? "";
}

/** Saved views are tags of the tenant's experiment 0, which is always there. */
export function views(): [string, string][] {
  const tags = experiments.value?.find((one) => one.number === 0)?.tags ?? {};
  return Object.entries(tags).flatMap(([key, value]) =>
    key.startsWith(VIEW) ? [[key.slice(VIEW.length), value] as [string, string]] : []);
}

/** Names with their addresses (a path with its query), null where a view goes.  Nothing changes where a view is
 * no longer as this page knows it: somebody else would lose what they saved. */
export async function changeViews(changes: Record<string, string | null>): Promise<void> {
  const home = experiments.value?.find((one) => one.number === 0);
  if (!home) return;
  const known = new Map(views());
  const tags = Object.entries(changes).map(([name, address]) => [VIEW + name, address]);
  const if_tags = Object.keys(changes).map((name) => [VIEW + name, known.get(name) ?? null]);
  try {
    await api.changeExperiment(home.experiment_id, { tags: Object.fromEntries(tags), if_tags: Object.fromEntries(if_tags) });
  } catch (error) {
    if (error instanceof api.ApiError && error.problem.status === 409) throw new Error("Somebody has changed that view meanwhile: here is how it is now");
    throw error;
  } finally {
    await loadExperiments();
  }
}
