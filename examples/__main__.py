"""``make demo``: train every example against a running server, and say what to look at."""

from __future__ import annotations

import argparse
import os
import sys

from examples import boosting, digits_mlp
from stepwell import ExperimentTracker, StepwellError

FAILED, UNREACHABLE = 1, 3
NEXT = """
{count} runs are at {url}.  To look at them:

  {command} runs
  {command} runs --experiment {digits} --order-by 'metrics.val_accuracy DESC'
  {command} show {first}
  {command} compare {first} {second}
  curl '{url}/api/v1/experiments/runs?limit=3'
  curl '{url}/api/v1/experiments/runs/{first}/metrics/val_loss'
  curl '{url}/api/v1/experiments/runs/{first}/artifacts'
"""


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m examples", description=__doc__)
    options.add_argument("--url", help="the server (STEPWELL_URL, http://127.0.0.1:7837)")
    options.add_argument("--quick", action="store_true", help="a few steps only")
    parsed = options.parse_args()
    url = parsed.url or os.environ.get("STEPWELL_URL") or "http://127.0.0.1:7837"
    try:
        ExperimentTracker(url).search_runs(limit=1)
    except StepwellError as error:
        print(f"no server answers at {url} ({error});", file=sys.stderr)
        print("start one with `make run` in another terminal", file=sys.stderr)
        return UNREACHABLE
    runs = digits_mlp.main(["--url", url, *(["--epochs", "2"] if parsed.quick else [])])
    runs += boosting.main(["--url", url, *(["--trees", "10"] if parsed.quick else [])])
    if any(run.pending for run in runs):
        print(
            "the server has not taken everything; `stepwell sync` sends the rest", file=sys.stderr
        )
        return FAILED
    command = "stepwell" if url.endswith(":7837") else f"STEPWELL_URL={url} stepwell"
    print(
        NEXT.format(
            count=len(runs),
            url=url,
            command=command.replace("stepwell", ".venv/bin/stepwell"),
            digits=digits_mlp.EXPERIMENT,
            first=runs[0].run_id,
            second=runs[1].run_id,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
