"""What is measured of models that an adapter, virtual tokens or copied blocks have changed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_training
from tiny_training import CHOICES, LABELLED, TALES, composed, train

from stages.drift.states import body_of
from stages.drift.table import state_drift
from stages.drift.weights import weight_drift
from stages.models.loading import Loaded, load
from stages.models.tuned import save_tuned
from stages.training.methods.adapter import Adapter
from stages.training.methods.block_expansion import BlockExpansion
from stages.training.methods.lora import Lora
from stages.training.methods.method import Method
from stages.training.relearn import relearn


def _adapter(peft_type: str) -> Method:
    return Adapter.model_validate({"peft_type": peft_type, "num_virtual_tokens": 3})


Pair = tuple[Loaded, Loaded]
EACH: list[tuple[str, Method]] = [
    ("encoder", Lora(r=2)),
    ("encoder", _adapter("PROMPT_TUNING")),
    ("encoder", _adapter("PREFIX_TUNING")),
    ("causal", Lora(r=2)),
    ("causal", BlockExpansion(blocks=1)),
]
TARGET = {"encoder": LABELLED, "causal": TALES}
OLD = {"encoder": "mood-words", "causal": CHOICES}
LAYERS = 3
"""Of a model of two layers: the embeddings are the first."""


def _of(kind: str, method: Method) -> str:
    return f"{kind}-{getattr(method, 'peft_type', method.name)}"


@pytest.fixture(params=EACH, ids=lambda one: _of(*one))
def reloaded(
    request: pytest.FixtureRequest, models: dict[str, Path], tmp_path: Path, one_thread: None
) -> tuple[str, Method, Pair]:
    """Kind and method; the base, and what is loaded of a model that was trained a little."""
    kind, method = request.param
    subject, objective = composed(models[kind], [method], targets=(TARGET[kind],))
    train(subject, objective, [method], 4)
    save_tuned(tmp_path / "tuned", subject.body, subject.heads(), subject.recipe.manifest)
    base, tuned = (
        load(subject.recipe.manifest, models[kind], folder) for folder in (None, tmp_path / "tuned")
    )
    return kind, method, (base, tuned)


def test_only_what_a_method_moves_has_moved(reloaded: tuple[str, Method, Pair]) -> None:
    _, method, (base, tuned) = reloaded
    rows = pd.DataFrame(weight_drift(body_of(base), body_of(tuned)))
    assert set(rows["layer"]) == {-1, 0, 1}, "every layer of the base is there, and no copy"
    moved = rows[rows["value"] > 0]
    assert set(moved["layer"]) == ({0, 1} if isinstance(method, Lora) else set())
    if isinstance(method, Lora):
        # A matrix of rank 2 is larger in its first direction than over all.
        sizes = rows[rows["layer"] >= 0].pivot_table(
            index=["layer", "module"], columns="measure", values="value"
        )
        assert (sizes["spectral"] > sizes["weight"])[sizes["weight"] > 0].all()


def test_states_have_moved_layer_by_layer(reloaded: tuple[str, Method, Pair]) -> None:
    kind, method, (base, tuned) = reloaded
    texts = [tiny_training.examples(TARGET[kind], 40, 52)]
    rows = pd.DataFrame(state_drift(base, tuned, texts, 512))
    alike = rows[rows["measure"] == "cka"].set_index("layer")["value"]
    assert list(alike.index) == list(range(LAYERS))
    assert alike.iloc[-1] < 0.999
    if isinstance(method, Adapter):
        assert alike[0] < 0.999, "virtual tokens take the first positions from the text's own"
    else:
        assert alike[0] == pytest.approx(1, abs=1e-6)
    values = rows[rows["measure"] == {"encoder": "cosine", "causal": "kl"}[kind]]["value"]
    assert len(values) == 12
    assert (values > 0).all()


def test_a_lost_task_is_relearned(reloaded: tuple[str, Method, Pair]) -> None:
    """By weights of the base too, which an adapter had frozen."""
    kind, _, (_, tuned) = reloaded
    lost = tiny_training.examples(OLD[kind], 0, 30)
    weights = list(body_of(tuned).parameters())
    before = [weight.detach().clone() for weight in weights]
    relearn(tuned, lost)
    change = [
        float((new.detach() - old).abs().max()) for new, old in zip(weights, before, strict=True)
    ]
    assert max(change) > 0
    assert np.isfinite(change).all()
