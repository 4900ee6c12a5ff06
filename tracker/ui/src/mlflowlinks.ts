/** The addresses that MLflow's client prints after a run (`…/#/experiments/1/runs/…`), followed here. */

import { effect } from "@preact/signals";
import { experiments } from "./catalog";
import { go, ROOT, set, tenant } from "./route";

const LINK = /^#\/experiments\/(\d+)(?:\/runs\/([\w-]+))?\/?(?:\?(.*))?$/;

/** Go where the address's fragment leads, in the place of this step of the history. */
export function followMlflowLink(): void {
  const match = LINK.exec(location.hash);
  if (!match) return;
  const workspace = new URLSearchParams(match[3]).get("workspace") ?? tenant.value;
  const search = workspace === "default" ? "" : `?tenant=${encodeURIComponent(workspace)}`;
  go(`${ROOT}${match[2] ? `/runs/${match[2]}` : "/"}${search}`, { quietly: true });
  if (!match[2]) choose(Number(match[1]));
}

/** An experiment by its number, as soon as the experiments are here. */
function choose(number: number): void {
  const dispose = effect(() => {
    const found = experiments.value?.find((one) => one.number === number);
    if (!experiments.value) return;
    queueMicrotask(() => {
      dispose();
      if (found) set({ experiment: found.experiment_id }, { quietly: true });
    });
  });
}

addEventListener("hashchange", followMlflowLink);
