"""What a model writes for a task of lm-evaluation-harness: where it ends, and how it is drawn."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_causal
import torch
import transformers
from lm_eval.models.huggingface import HFLM

from stages.models.causal import CausalTokenizer, load_causal
from stages.scoring.causal import CausalScorer
from stages.scoring.lm_eval_model import LMEvalModel

pytestmark = pytest.mark.usefixtures("one_thread")

TURN = "<|im_end|>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokenizer has a special token that is no end of a text."""
    there = tmp_path_factory.mktemp("answers")
    tiny_causal.write_model(there)
    plain = transformers.AutoTokenizer.from_pretrained(there)
    plain.add_special_tokens({"additional_special_tokens": [TURN]})
    plain.save_pretrained(there)
    model = transformers.AutoModelForCausalLM.from_pretrained(there)
    model.resize_token_embeddings(len(plain))
    model.save_pretrained(there)
    return there


def _ask(folder: Path, model: Any = None, **settings: Any) -> Any:
    model = model or load_causal(folder)
    scorer = CausalScorer(model, CausalTokenizer(folder, 256), 64, 2, False)
    request: Any = SimpleNamespace(args=("the cat", settings))
    (answer,) = LMEvalModel(scorer, seed=3).answers([request])
    return answer


@pytest.mark.parametrize(
    ("said", "until", "text", "ended"),
    [
        ("meow|then. On", [TURN], "meow", "meow|"),
        ("meow|\nthen. On", ["!", f"{TURN}\n"], "meow", "meow|\n"),
        ("|meow", [TURN], "", "|"),
        ("me|ow.|then", ["."], "meow", "me|ow."),
        ("meow. Then", ["."], "meow", "meow."),
    ],
)
def test_an_answer_ends_at_a_special_token_too(
    said: str, until: list[str], text: str, ended: str, folder: Path
) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids, until_there = (
        tokenizer.encode(one.replace("|", TURN), add_special_tokens=False) for one in (said, ended)
    )
    model = load_causal(folder)

    def say(_: object, __: object, logits: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(logits).index_fill(-1, torch.tensor(next(saying)), 1.0)

    model.get_output_embeddings().register_forward_hook(say)
    settings = {"until": until, "max_gen_toks": len(ids)}
    saying = iter(ids)
    answer = _ask(folder, model, **settings)
    assert (answer.text, answer.tokens) == (text, len(until_there))
    if until != ["!", f"{TURN}\n"]:  # of which lm-eval's own leaves the line break
        saying = iter(ids)
        stock = HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=1)
        request: Any = SimpleNamespace(args=("the cat", settings))
        assert stock.generate_until([request], disable_tqdm=True) == [text]


def test_a_temperature_that_is_not_given_is_1_and_0_is_greedy(folder: Path) -> None:
    told = {"until": [], "max_gen_toks": 12}
    greedy, drawn = _ask(folder, **told), _ask(folder, **told, do_sample=True, temperature=1.0)
    assert drawn != greedy
    assert _ask(folder, **told, do_sample=True) == drawn
    assert _ask(folder, **told, do_sample=True, temperature=0) == greedy
    assert _ask(folder, **told, do_sample=True, temperature=5.0) not in (drawn, greedy)
