/** The first page of an empty server. */

import type { JSX } from "preact";
import { ROOT, tenant } from "./route";
import { copy } from "./ui";

export function Empty(): JSX.Element {
  const url = location.origin + ROOT;
  const by = tenant.value === "default" ? "" : `, tenant=${JSON.stringify(tenant.value)}`;
  const code = `from stepwell import ExperimentTracker

with ExperimentTracker("${url}"${by}).start_run("first steps") as run:
    run.log_params({"learning_rate": 0.01})
    for step in range(100):
        run.log_metrics({"loss": 1 / (step + 1)}, step=step)
`;
  return (
    <section class="empty">
      <h1>No runs yet</h1>
      <p>Log one from Python. It appears here by itself.</p>
      <pre aria-label="Python that logs a run" tabIndex={0}>{code}</pre>
      <p><button type="button" class="main" onClick={() => void copy(code, "Copied")}>Copy</button> <span class="quiet">after <code>pip install stepwell</code></span></p>
    </section>
  );
}
