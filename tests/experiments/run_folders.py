"""Run folders written by hand, so that tests can compute expected results by hand."""

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
    """Writes an unfinished run.

    Args:
      folder: the folder, which is created.
      records: records of the log.
      study: name of the study.
      flops_per_step: by series; without it there is no footprint.
      **settings: settings besides the scale.
    """
    folder.mkdir(parents=True)
    description = {
        "study": study,
        "status": "running",
        "began": "2030-01-02T03:04:05+00:00",
        "command": f"python -m experiments {study}",
        "identity": "written by hand",
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
        footprint = {"parts": [FOOTPRINT], "flops_per_step": flops_per_step}
        (folder / "footprint.json").write_text(json.dumps(footprint))
    return folder


def records(losses, *, series="train", every=10, seconds=2.0, metric="validation_loss"):
    """Returns a record with each loss, `every` steps and `seconds` apart."""
    return [
        {"series": series, "step": every * i, "loss": 9.0, metric: loss, "seconds": seconds * i}
        for i, loss in enumerate(losses, start=1)
    ]
