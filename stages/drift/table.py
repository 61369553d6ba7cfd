"""The drift table: how far a tuned model has moved from its base, and where."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from stages.drift.states import Batch, Floats, body_of, divergence, pooled, read
from stages.drift.texts import encode, texts_of
from stages.models.loading import CausalModel, Loaded
from stages.models.placing import placed
from stages.statistics.similarity import debiased_cka
from stages.tasks.examples import Examples

TEXTS = 32
"""Of each task's test split."""
TOKENS_COMPARED = 1024
"""Of all texts, drawn for CKA, at most."""
COLUMNS = ("layer", "module", "task", "example_id", "measure", "value")


def drift_table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Rows of `weight_drift` and `state_drift` as a table of `COLUMNS`."""
    empty = {"layer": -1, "module": "", "task": "", "example_id": ""}
    return pd.DataFrame([empty | row for row in rows], columns=list(COLUMNS))


def state_drift(
    base: Loaded,
    tuned: Loaded,
    tests: Sequence[Examples],
    batch_tokens: int,
) -> Iterator[dict[str, Any]]:
    """Rows from what both models make of the same texts; `base` follows `tuned` in its precision.

    measure `cka`: linear CKA of a layer's token states (layer 0: the embeddings), over the texts of
    all tasks, first tokens left out. `kl`: KL(base || tuned) of the next token, of a text, in nats
    a token (causal). `cosine`: 1 - cosine of a text's mean states before and after (encoder).
    """
    parameter = next(body_of(tuned).parameters())
    placed(body_of(base), parameter.device, parameter.dtype)
    asked = [(test.task.name, *one) for test in tests for one in texts_of(test, TEXTS)]
    encoded = encode(base, [text for _, _, text in asked])
    total = sum(map(len, encoded))
    generator = np.random.default_rng(0)
    kept: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []
    both = (read(loaded, encoded, batch_tokens) for loaded in (base, tuned))
    for before, after in zip(*both, strict=True):
        yield from _of_texts(base, tuned, before, after, [asked[row][:2] for row in before.rows])
        inside = before.mask.bool().cpu().numpy()
        # A text's first token takes the attention that nothing else wants: its states are many
        # times larger than the rest and alike in every text (Sun 2024, arXiv:2402.17762), and
        # would be all that CKA sees.
        inside[:, 0] = False
        chosen = torch.from_numpy(
            inside & (generator.random(inside.shape) < TOKENS_COMPARED / total)
        )
        kept.append((_picked(before, chosen), _picked(after, chosen)))
    for layer in range(len(kept[0][0])):
        first, second = (
            torch.cat([states[side][layer] for states in kept]).numpy() for side in (0, 1)
        )
        # Of states that have all become one, nothing of what they were like is left.
        collapsed = any(bool((states == states[0]).all()) for states in (first, second))
        value = 0.0 if collapsed else debiased_cka(first, second)
        yield {"layer": layer, "measure": "cka", "value": value}


def _picked(batch: Batch, chosen: torch.Tensor) -> list[torch.Tensor]:
    return [layer[chosen.to(layer.device)].float().cpu() for layer in batch.layers]


def _of_texts(
    base: Loaded,
    tuned: Loaded,
    before: Batch,
    after: Batch,
    named: Sequence[tuple[str, str]],
) -> Iterator[dict[str, Any]]:
    if isinstance(base, CausalModel) and isinstance(tuned, CausalModel):
        measure, values = "kl", divergence(base, tuned, before, after)
    else:
        measure, values = "cosine", _turned(pooled(before), pooled(after))
    for (task, example_id), value in zip(named, values.tolist(), strict=True):
        yield {"task": task, "example_id": example_id, "measure": measure, "value": value}


def _turned(first: Floats, second: Floats) -> Floats:
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray(1 - (first * second).sum(axis=1) / norms)
