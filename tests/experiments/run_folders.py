"""Folders of runs written by hand, so that what is made of them can be worked out by hand."""

import json

FOOTPRINT = {
    "quantities": {
        "wall time": {
            "value": 9.0,
            "low": 9.0,
            "high": 9.0,
            "unit": "s",
            "how": "measured: clock",
            "constants": [],
        }
    },
    "notes": [],
}


def write_run(folder, records, *, study="train", flops_per_step=None, **settings):
    """A run that somebody left.

    Args:
      folder: to make.
      records: of its log.
      study: its name.
      flops_per_step: by line; without it there is no bill.
      **settings: of the run, beside the scale.
    """
    folder.mkdir(parents=True)
    description = {
        "study": study,
        "status": "running",
        "began": "2030-01-02T03:04:05+00:00",
        "command": f"python -m experiments {study}",
        "identity": "somebody's",
        "pins": {},
        "settings": {"scale": "smoke", **settings},
        "environment": {"jax": "1.2.3"},
        "resumed": [],
    }
    (folder / "run.json").write_text(json.dumps(description))
    lines = [json.dumps(record) + "\n" for record in records]
    if lines:
        (folder / "metrics.jsonl").write_text("".join(lines))
    if flops_per_step is not None:
        bill = {"parts": [FOOTPRINT], "flops_per_step": flops_per_step}
        (folder / "footprint.json").write_text(json.dumps(bill))
    return folder


def records(losses, *, line="train", every=10, seconds=2.0, metric="validation_loss"):
    """A record every so many steps, a loss each."""
    return [
        {"line": line, "step": every * i, "loss": 9.0, metric: loss, "seconds": seconds * i}
        for i, loss in enumerate(losses, start=1)
    ]
