"""What moved in the model, from the drift table."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from stages.statistics.measures import Measure, values
from stages.statistics.rows import rows_in_order
from stages.statistics.score_interval import mean_interval

SHOWN = 5
OUTPUTS = {"kl": "KL to the base, nats a token", "cosine": "1 - cosine of the text's vector"}


def movement(
    drift: pd.DataFrame,
    base: pd.DataFrame,
    run: pd.DataFrame,
    measures: Mapping[str, Measure],
    confidence: float,
) -> dict[str, Any]:
    """Means over seeds. `weight`: relative, the median over matrices: what most methods leave as
    it is, biases and norms, would hide how far the others went; `largest`: SHOWN of all;
    `cka`: by layer; `outputs`: by task; `relearned`: by task that was lost."""
    weight = drift[drift["measure"] == "weight"]
    spectral = drift[drift["measure"] == "spectral"]
    by_place = weight.groupby(["layer", "module"])["value"].mean()
    matrices = by_place[by_place.index.isin(spectral.set_index(["layer", "module"]).index)]
    largest = by_place.sort_values(ascending=False, kind="stable").head(SHOWN)
    cka = drift[drift["measure"] == "cka"].groupby("layer")["value"].mean()
    return {
        "weight": float(matrices.median()) if len(matrices) else 0.0,
        "spectral": float(spectral["value"].median()) if len(spectral) else 0.0,
        "largest": [
            {"layer": int(layer), "module": module, "value": float(value)}
            for (layer, module), value in zip(largest.index, largest, strict=True)
        ],
        "cka": [float(value) for value in cka.sort_index()],
        "outputs": _outputs(drift, confidence),
        "relearned": {
            task: _relearned(drift, base, run, task, measures[task])
            for task in sorted(set(drift.loc[drift["measure"] == "relearned", "task"]))
        },
    }


def _outputs(drift: pd.DataFrame, confidence: float) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    texts = drift[drift["measure"].isin(list(OUTPUTS))]
    for (task, measure), rows in texts.groupby(["task", "measure"], sort=True):
        each = rows.groupby("example_id", sort=True)["value"].mean()
        if len(each) < 2:
            continue
        ends = mean_interval(each.to_numpy(), list(each.index), confidence)
        found[str(task)] = {
            "measure": OUTPUTS[str(measure)],
            "value": ends.value,
            "low": max(0.0, ends.low),
            "high": ends.high,
        }
    return found


def _relearned(
    drift: pd.DataFrame, base: pd.DataFrame, run: pd.DataFrame, task: str, measure: Measure
) -> dict[str, float]:
    """Levels before, after and relearned, over the seeds that lost it, and the share of the loss
    that came back."""
    rows = drift[(drift["measure"] == "relearned") & (drift["task"] == task)]
    seeds = sorted(set(rows["seed"]))
    before = float(values(rows_in_order(base, task), measure).mean())
    after = float(
        np.mean(
            [
                values(rows_in_order(run[run["seed"] == seed], task), measure).mean()
                for seed in seeds
            ]
        )
    )
    back = float(rows["value"].mean())
    return {
        "before": before,
        "after": after,
        "relearned": back,
        "share": (back - after) / (before - after) if before != after else 0.0,
    }
