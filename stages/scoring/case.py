"""All tasks of a case, scored by one model."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stages.config.evaluation import EvaluationConfig
from stages.errors import UserError
from stages.models.attention import attend_in_blocks
from stages.models.device import describe, device, dtype
from stages.models.loading import EncoderModel, Loaded, Seq2SeqModel
from stages.models.memory import keep_freed_memory
from stages.models.packed import pack
from stages.models.placing import device_map, placed
from stages.models.sharing import agreed_dtype
from stages.phases import phase
from stages.progress import bar
from stages.provenance import provenance
from stages.scoring.causal_case import CausalCaseScorer
from stages.scoring.encoder import EncoderScorer
from stages.scoring.seq2seq import Seq2SeqScorer
from stages.scoring.splits import Asking, TaskSplits, read_splits
from stages.scoring.trees import reads_trees
from stages.tasks.noise import NOISED

Scorer = EncoderScorer | CausalCaseScorer | Seq2SeqScorer


def score_case(
    case: str,
    loaded: Loaded,
    evaluation: EvaluationConfig,
    seed: int,
    *,
    repeats: int,
    label: str,
    shots: int = 0,
    trained: Mapping[str, Collection[str]] | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Records of every task of `case`, and what their file's metadata says of them.

    `repeats`: how often a base is asked again for the noise floor; 0 for a run. `label` heads
    the progress bar. `shots`, and by target `trained`: see Asking.
    """
    scorer = scorer_of(loaded, evaluation)
    records, tasks = [], {}
    for splits in bar(read_splits(case), desc=label, unit="task"):
        conditions = _conditions(splits, evaluation)
        learned = frozenset((trained or {}).get(splits.task.name, ()))
        asking = Asking(repeats, conditions, seed, shots=shots, trained=learned)
        scored, truncated = ask(scorer, splits, asking)
        records.append(scored)
        tasks[splits.task.name] = {
            "kind": splits.task.kind,
            "role": splits.role,
            "labels": list(splits.task.labels) if splits.task.labelled else [],
            "truncated": truncated,
            "metric": splits.task.options.get("metric"),
        }
        if negative := splits.task.options.get("negative"):
            tasks[splits.task.name]["negative"] = negative
    return pd.concat(records, ignore_index=True), {"case": case, "tasks": tasks}


def scored_with(evaluation: EvaluationConfig, inputs: Sequence[Path]) -> dict[str, Any]:
    """The provenance of records. `inputs`: what they depend on, files and folders."""
    where = device()
    return provenance(inputs, **describe(where, dtype(evaluation.precision, where)))


def score_variant(
    case: str, loaded: Loaded, evaluation: EvaluationConfig, label: str
) -> pd.DataFrame:
    """Records of every task of `case` on validation and test, without noise and without texts of
    the model's own."""
    scorer = scorer_of(loaded, evaluation)
    asking = Asking(0, (), 0, brief=True)
    asked = bar(read_splits(case), desc=label, unit="task")
    return pd.concat([ask(scorer, splits, asking)[0] for splits in asked], ignore_index=True)


@phase("score")
def ask(scorer: Scorer, splits: TaskSplits, asking: Asking) -> tuple[pd.DataFrame, int]:
    """What `scorer.score` returns; what it refuses is told with the task's name."""
    try:
        return scorer.score(splits, asking)
    except UserError as error:
        raise UserError(f"task {splits.task.name}: {error}") from error


def scorer_of(loaded: Loaded, evaluation: EvaluationConfig) -> Scorer:
    """Moves the model to its device and precision, for good.

    Raises UserError where processes would score in unlike dtypes.
    """
    scorer = _placed(loaded, evaluation)
    keep_freed_memory()
    return scorer


def _placed(loaded: Loaded, evaluation: EvaluationConfig) -> Scorer:
    where = device()
    used = agreed_dtype("evaluation.precision", evaluation.precision)
    if isinstance(loaded, EncoderModel):
        encoder = loaded.encoder
        encoder.body = placed(encoder.body, where, used)
        if not device_map():
            pack(encoder)
        return EncoderScorer(encoder, loaded.tokenizer, loaded.heads, evaluation.batch_tokens)
    if isinstance(loaded, Seq2SeqModel):
        # Not packed: T5's layers look at the dtype of each other's weights.
        moved = placed(loaded.model, where, used)
        return Seq2SeqScorer(moved, loaded.tokenizer, evaluation.batch_tokens)
    shared = reads_trees(loaded.model)  # in fp32: bf16 rounds more than a wrong mask may do
    model = placed(loaded.model, where, used)
    if not device_map():
        pack(model)
        attend_in_blocks(model)
    return CausalCaseScorer(model, loaded.tokenizer, evaluation.batch_tokens, shared)


def _conditions(splits: TaskSplits, evaluation: EvaluationConfig) -> tuple[str, ...]:
    """The noise under which this task is also asked."""
    chosen = evaluation.noise.tasks
    asked = splits.task.kind in NOISED and (chosen == "all" or splits.task.name in chosen)
    return evaluation.noise.conditions if asked else ()
