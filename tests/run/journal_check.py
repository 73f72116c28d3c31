#!/usr/bin/env python3
"""Prints, as JSON, what a journal's own reader finds in it.

Usage: journal_check.py tensorboard FOLDER | mlflow STORE
"""

import json
import os
import sys


def tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(folder, size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    return {
        "figures": {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in tags["scalars"]},
        "texts": {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in tags["tensors"]},
    }


def mlflow(store):
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"  # which MLflow 3 asks for before it reads a file store
    from mlflow.tracking import MlflowClient

    client = MlflowClient("file://" + store)
    runs = []
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            history = {
                key: [[m.step, m.value] for m in client.get_metric_history(run.info.run_id, key)]
                for key in run.data.metrics
            }
            runs.append(
                {
                    "experiment": experiment.name,
                    "status": run.info.status,
                    "name": run.info.run_name,
                    "ended": run.info.end_time is not None,
                    "figures": history,
                    "params": run.data.params,
                    "tags": run.data.tags,
                    "artifacts": sorted(a.path for a in client.list_artifacts(run.info.run_id)),
                }
            )
    return {"experiments": sorted(e.name for e in client.search_experiments()), "runs": runs}


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("tensorboard", "mlflow"):
        sys.exit(__doc__)
    print(json.dumps({"tensorboard": tensorboard, "mlflow": mlflow}[sys.argv[1]](sys.argv[2])))
