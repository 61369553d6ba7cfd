"""All tasks of a case, scored by one encoder."""

from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from stages.config.evaluation import EvaluationConfig
from stages.models.device import describe, device, dtype
from stages.models.encoder import Encoder, Tokenizer, longest_input
from stages.models.probe import Probe
from stages.provenance import provenance
from stages.scoring.encoder import Scorer, TaskSplits
from stages.tasks.examples import SPLITS, read_role


def read_splits(case: str, role: str) -> list[TaskSplits]:
    parts = [read_role(case, role, split) for split in SPLITS]
    return [TaskSplits(*of_task) for of_task in zip(*parts, strict=True)]


def score_case(
    case: str,
    encoder: Encoder,
    tokenizer_folder: Path,
    evaluation: EvaluationConfig,
    *,
    head: Probe | None = None,
    repeats: int = 0,
    seed: int = 0,
    label: str,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Records of every task of `case`, and what their file's metadata says.

    `head` answers the target; every other labelled task, and the target of the base, is
    answered by a probe. `repeats` measures the noise floor, see Scorer.score. `label` heads
    the progress bar.
    """
    where = device()
    used = dtype(evaluation.precision, where)
    tokenizer = Tokenizer(tokenizer_folder, longest_input(encoder))
    scorer = Scorer(encoder.to(where, used), tokenizer, evaluation.batch_tokens)
    asked = [(role, splits) for role in ("target", "retain") for splits in read_splits(case, role)]
    records, tasks = [], {}
    for role, splits in tqdm(asked, desc=label, unit="task", disable=None):
        answering = head if role == "target" else None
        records.append(scorer.score(splits, answering, repeats, seed))
        task = splits.test.task
        tasks[task.name] = {
            "kind": task.kind,
            "role": role,
            "labels": list(task.labels),
            "truncated": scorer.truncated(splits),
        }
    about = {"case": case, "tasks": tasks, "provenance": provenance(**describe(where, used))}
    return pd.concat(records, ignore_index=True), about
