"""Causal scoring against plain transformers calls, on tiny random models of several kinds."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tokenizers
import torch
import transformers
from faults_page import Fault
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from stages.errors import UserError
from stages.models import attention
from stages.models.causal import (
    CausalTokenizer,
    head_logits,
    hidden_states,
    load_causal,
    longest_input,
)
from stages.models.device import has_bf16
from stages.models.packed import PackedLinear, pack
from stages.records import read_table, write_records
from stages.scoring import causal, generation
from stages.scoring.caches import sees_all
from stages.scoring.causal import CausalScorer
from stages.scoring.coherence import coherence, sentences
from stages.scoring.generation import Sampling, _draw, generate
from stages.scoring.likelihood import Likelihoods, Pair, log_likelihoods, windows
from stages.scoring.prompts import read_prompts
from stages.scoring.trees import alone, grow, reads_trees
from stages.tasks.examples import Examples, Task

VOCABULARY = 300
LONGEST = 48
PAD, BOS, EOS, NEVER = 0, 1, 2, VOCABULARY
TEXT = "the cat sat on the mat. the dog ate the hat; a cat and a dog\n\nran far away, at last. "
TEMPLATE = (
    "{% for m in messages %}<bos>{{ m['role'] }}\n{{ m['content'] }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<bos>assistant\n{% endif %}"
)

COMMON = {"vocab_size": VOCABULARY, "pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
SHAPE = {
    **COMMON,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": LONGEST,
    "initializer_range": 0.3,
}
GROUPED = {**SHAPE, "num_key_value_heads": 2}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**GROUPED),
    "qwen2": lambda: transformers.Qwen2Config(**GROUPED),
    "gpt2": lambda: transformers.GPT2Config(
        **COMMON, n_embd=32, n_layer=2, n_head=4, n_positions=LONGEST, initializer_range=0.3
    ),
    "gpt-neox": lambda: transformers.GPTNeoXConfig(**SHAPE),
    "gemma2": lambda: transformers.Gemma2Config(
        **GROUPED,
        head_dim=8,
        sliding_window=8,
        final_logit_softcapping=3.0,
        attn_logit_softcapping=5.0,
    ),
}
SCALED: dict[str, Callable[[], Any]] = {
    "cohere": lambda: transformers.CohereConfig(**GROUPED, logit_scale=0.25),
    "granite": lambda: transformers.GraniteConfig(**GROUPED, logits_scaling=3.0),
}


def make(config: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="module", params=list(CONFIGS))
def model(request: pytest.FixtureRequest) -> Any:
    return make(CONFIGS[request.param]())


@pytest.fixture(scope="module")
def llama() -> Any:
    return make(CONFIGS["llama"]())


def write_tokenizer(folder: Path, *, adds_bos: bool, template: str | None) -> None:
    """Byte-level BPE, as GPT-2's."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", BOS)]
        )
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )
    wrapped.chat_template = template
    wrapped.save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    there = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(there, adds_bos=False, template=TEMPLATE)
    return there


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> CausalTokenizer:
    return CausalTokenizer(folder, LONGEST)


@pytest.fixture(scope="module")
def with_bos(tmp_path_factory: pytest.TempPathFactory) -> CausalTokenizer:
    there = tmp_path_factory.mktemp("with-bos")
    write_tokenizer(there, adds_bos=True, template=None)
    return CausalTokenizer(there, LONGEST)


def tokens(length: int, seed: int) -> list[int]:
    drawn = np.random.default_rng(seed).integers(3, VOCABULARY, size=length)
    return [int(token) for token in drawn]


def ragged(n: int) -> list[Pair]:
    lengths = np.random.default_rng(1).integers(1, 20, size=(n, 2))
    return [(tokens(a, 2 * i), tokens(b, 2 * i + 1)) for i, (a, b) in enumerate(lengths)]


@torch.inference_mode()
def plain(model: Any, context: Sequence[int], continuation: Sequence[int]) -> float:
    """One text, no padding, all logits."""
    ids = [*context, *continuation][:-1]  # the last is only predicted
    logits = model(torch.tensor([ids])).logits[0]
    logprobs = logits.float().log_softmax(-1)
    first = len(context) - 1
    return sum(float(logprobs[first + n, token]) for n, token in enumerate(continuation))


# --- the model


@pytest.mark.parametrize("name", [*CONFIGS, *SCALED])
@torch.inference_mode()
def test_body_and_head_make_the_models_logits(name: str) -> None:
    made = make({**CONFIGS, **SCALED}[name]())
    ids = torch.tensor([tokens(12, 0), [*tokens(7, 1), *[PAD] * 5]])
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    expected = made(input_ids=ids, attention_mask=mask).logits
    found = head_logits(made, hidden_states(made, ids, mask))
    assert float(expected.std()) > 0.1
    assert torch.allclose(found[mask.bool()], expected[mask.bool()], atol=1e-4)


def test_loads_what_was_saved(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    loaded = load_causal(tmp_path)
    assert longest_input(loaded) == LONGEST
    assert not loaded.training
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    (pair,) = ragged(1)
    assert plain(loaded, *pair) == pytest.approx(plain(model, *pair), abs=1e-5)


def test_what_is_no_causal_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot load"):
        load_causal(tmp_path)
    transformers.BertModel(
        transformers.BertConfig(
            vocab_size=50,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=8,
        )
    ).save_pretrained(tmp_path / "bert")
    with pytest.raises(UserError, match="weights missing"):
        load_causal(tmp_path / "bert")
    broken = tmp_path / "broken"
    make(CONFIGS["llama"]()).save_pretrained(broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot load"):
        load_causal(broken)


def test_a_head_that_is_not_known_is_refused(
    llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama.save_pretrained(tmp_path)
    forward = transformers.LlamaForCausalLM.forward

    def scaled(*arguments: Any, **named: Any) -> Any:
        output = forward(*arguments, **named)
        output.logits = output.logits * 2
        return output

    monkeypatch.setattr(transformers.LlamaForCausalLM, "forward", scaled)
    with pytest.raises(UserError, match="'llama' are scaled"):
        load_causal(tmp_path)


# --- the tokenizer


def test_pair_moves_white_space_to_the_continuation(tokenizer: CausalTokenizer) -> None:
    assert tokenizer.pair("the cat ", "sat") == tokenizer.pair("the cat", " sat")
    context, continuation = tokenizer.pair("the cat\n\n", "sat")
    assert tokenizer.decode(context) == "the cat"
    assert tokenizer.decode(continuation) == "\n\nsat"


def test_pair_cuts_the_whole_where_the_context_ends(tokenizer: CausalTokenizer) -> None:
    # "at" is one token: with the continuation "t" the context's last token is another.
    whole, alone = tokenizer.encode("the cat"), tokenizer.encode("the ca")
    assert whole[: len(alone)] != alone
    assert tokenizer.pair("the ca", "t") == (alone, whole[len(alone) :])


def test_pair_of_an_empty_context(tokenizer: CausalTokenizer, with_bos: CausalTokenizer) -> None:
    cat = tokenizer.encode("cat")
    for either in (tokenizer, with_bos):
        assert either.pair("", "cat") == ([BOS], cat)
        assert either.pair("", "<bos>cat") == ([BOS], cat)
        assert either.pair("  ", "cat") == ([BOS], tokenizer.encode("  cat"))


def test_special_tokens_as_the_tokenizer_says(
    tokenizer: CausalTokenizer, with_bos: CausalTokenizer
) -> None:
    cat = tokenizer.encode("the cat")
    assert BOS not in cat
    assert with_bos.encode("the cat") == [BOS, *cat]
    assert with_bos.encode("<bos>the cat") == [BOS, *cat]
    assert with_bos.pair("the", " cat") == ([BOS, cat[0], cat[1]][: len(cat)], cat[-1:])
    assert with_bos.decode([BOS, *cat, EOS]) == "the cat"


def test_a_prompt_is_cut_as_before_a_word(tokenizer: CausalTokenizer) -> None:
    for prompt in ("the cat", "the cat ", "the cat\n", "the cat\n\n", "the cat\n  "):
        ids = tokenizer.prompt(prompt)
        assert ids == tokenizer.encode(f"{prompt.rstrip(' ')}dog")[: len(ids)]
        assert tokenizer.decode(ids) == prompt.rstrip(" ")
    assert tokenizer.prompt("") == [BOS]


def test_chat(tokenizer: CausalTokenizer, with_bos: CausalTokenizer) -> None:
    ids = tokenizer.chat("the cat")
    assert ids == tokenizer.encode("<bos>user\nthe cat<eos>\n<bos>assistant\n")
    assert ids.count(BOS) == 2
    with pytest.raises(UserError, match="no chat template"):
        with_bos.chat("the cat")


def test_ends_of_an_answer(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, adds_bos=False, template=None)
    transformers.GenerationConfig(eos_token_id=[EOS, 7]).save_pretrained(tmp_path)
    read = CausalTokenizer(tmp_path, LONGEST)
    assert (read.eos_ids, read.pad_id) == ((EOS, 7), PAD)


# --- log-likelihoods


def test_log_likelihoods_of_ragged_batches(model: Any) -> None:
    pairs = ragged(13)
    expected = [plain(model, *pair) for pair in pairs]
    assert np.std(expected) > 1
    for batch_tokens in (1, 64, 10_000):
        found = log_likelihoods(model, pairs, PAD, batch_tokens, LONGEST, shared=True)
        assert found.logprobs == pytest.approx(expected, abs=1e-4)
        assert list(found.tokens) == [len(continuation) for _, continuation in pairs]
        assert not found.truncated.any()


def test_the_head_in_parts(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = ragged(5)
    whole = log_likelihoods(llama, pairs, PAD, 1000, LONGEST, shared=True).logprobs
    monkeypatch.setattr("stages.scoring.likelihood.HEAD_LOGITS", 3 * VOCABULARY)
    assert log_likelihoods(llama, pairs, PAD, 1000, LONGEST, shared=True).logprobs == pytest.approx(
        whole
    )


def test_of_tokens_that_tie_one_is_greedy() -> None:
    """That which the model writes, as in lm-evaluation-harness."""
    coarse = make(CONFIGS["llama"]())
    coarse.lm_head.register_forward_hook(lambda _, __, logits: logits.round())
    contexts = [tokens(5, seed) for seed in range(8)]
    written = generate(coarse, contexts, PAD, [NEVER], 2, 4, shared=True)
    tied = 0
    for context, (first, second) in zip(contexts, written, strict=True):
        every = [(context, [token]) for token in range(VOCABULARY)]
        found = log_likelihoods(coarse, every, PAD, 1000, LONGEST, shared=True)
        assert found.greedy.nonzero()[0].tolist() == [first]
        tied += int((found.logprobs == found.logprobs.max()).sum()) - 1
        both = [(context, [first, token]) for token in range(VOCABULARY)]
        found = log_likelihoods(coarse, both, PAD, 1000, LONGEST, shared=True)
        assert found.greedy.nonzero()[0].tolist() == [second]
    assert tied > 0


def test_a_long_context_loses_its_beginning_and_is_counted(model: Any) -> None:
    fits = (tokens(LONGEST - 2, 0), tokens(3, 1))  # the last token is predicted, not read
    long = (tokens(LONGEST + 9, 2), tokens(4, 3))
    found = log_likelihoods(model, [long, fits], PAD, 100, LONGEST, shared=True)
    assert list(found.truncated) == [True, False]
    cut = long[0][-(LONGEST + 1 - 4) :]
    assert found.logprobs[0] == pytest.approx(plain(model, cut, long[1]), abs=1e-4)


def plain_windows(model: Any, pair: Pair, longest: int, overlap: int) -> float:
    """From the definition: at each token, which tokens may it see?"""
    ids = [*pair[0], *pair[1]]
    total = 0.0
    for window in windows(0, *pair, longest, overlap):
        total += plain(model, window.ids[: -window.scored], window.ids[-window.scored :])
    assert len(ids) > longest + 1
    return total


@pytest.mark.parametrize("overlap", [1, 5, 20])
def test_a_long_text_is_read_in_windows(llama: Any, overlap: int) -> None:
    pairs = [(tokens(4, 0), tokens(61, 1)), (tokens(30, 2), tokens(45, 3)), ragged(1)[0]]
    found = log_likelihoods(llama, pairs, PAD, 64, 20, overlap, shared=True)
    assert list(found.truncated) == [True, True, False]
    expected = [plain_windows(llama, pair, 20, overlap) for pair in pairs[:2]]
    assert found.logprobs[:2] == pytest.approx(expected, abs=1e-4)
    assert list(found.tokens[:2]) == [61, 45]


def test_windows_equal_one_pass_where_the_text_fits(model: Any) -> None:
    pairs = [*ragged(6), (tokens(1, 0), tokens(LONGEST, 1))]
    whole = log_likelihoods(model, pairs, PAD, 200, LONGEST, shared=True)
    cut = log_likelihoods(model, pairs, PAD, 200, LONGEST, overlap=7, shared=True)
    assert np.array_equal(whole.logprobs, cut.logprobs)
    assert not cut.truncated.any()


def test_windows_score_each_token_once() -> None:
    for start in (1, 3, 8, 9, 12):
        for length in range(1, 40):
            for overlap in (1, 3, 8):
                context, ids = list(range(start)), list(range(start, start + length))
                cut = list(windows(0, context, ids, 8, overlap))
                assert [token for w in cut for token in w.ids[-w.scored :]] == ids
                assert all(len(w.ids) <= 9 for w in cut)
                assert all(len(w.ids) - w.scored >= overlap for w in cut[1:])
                assert cut[0].whole == (start <= 8)


def test_windows_are_those_of_lm_evaluation_harness() -> None:
    # The example in its docstring: BOS (here -1) and tokens 0 to 9, 4 at a time.
    cut = [(w.ids[:-1], w.ids[-w.scored :]) for w in windows(0, [-1], list(range(10)), 4, 1)]
    assert cut == [
        ([-1, 0, 1, 2], [0, 1, 2, 3]),
        ([3, 4, 5, 6], [4, 5, 6, 7]),
        ([5, 6, 7, 8], [8, 9]),
    ]


def test_what_cannot_be_scored_is_refused(llama: Any) -> None:
    pairs = ragged(3)
    with pytest.raises(UserError, match="1 of 4 continuations have no tokens"):
        log_likelihoods(llama, [*pairs, ([5], [])], PAD, 64, LONGEST, shared=True)
    with pytest.raises(UserError, match="1 of 4 continuations are longer"):
        log_likelihoods(llama, [*pairs, ([5], tokens(30, 0))], PAD, 64, 20, shared=True)
    with pytest.raises(UserError, match="overlap = 0"):
        log_likelihoods(llama, pairs, PAD, 64, LONGEST, overlap=0, shared=True)
    broken = make(CONFIGS["llama"]())
    with torch.no_grad():
        broken.model.embed_tokens.weight[9] = float("nan")
    with pytest.raises(
        UserError, match=r"2 of 4 texts are not finite, from model\.embed_tokens \("
    ):
        hit = [([9], [5]), ([9, 5], [6]), ([5], [6]), ([5], [7])]
        log_likelihoods(broken, hit, PAD, 64, LONGEST, shared=True)


@pytest.mark.parametrize("shared", [True, False])
def test_a_logit_that_is_not_finite_is_named(llama: Any, shared: bool, fault: Fault) -> None:
    broken = make(CONFIGS["llama"]())
    broken.lm_head.register_forward_hook(lambda _, __, logits: logits.fill_(math.inf))
    pairs = [(tokens(4, 1), tokens(3, 2)), (tokens(5, 3), tokens(2, 4))]
    said = "log-likelihoods of 2 of 2 texts are not finite, from lm_head ("
    with pytest.raises(UserError, match=re.escape(said)):
        log_likelihoods(broken, pairs, PAD, 64, LONGEST, shared=shared)
    said = "logits of token 1 of an answer are not finite, from the head ("
    with pytest.raises(UserError, match=re.escape(said)):
        generate(broken, [tokens(4, 1)], PAD, [], 3, 2, shared=shared)
    fault("a logit that is not finite", "exit 1, one line that names the module")


# --- packed weights


def test_packed_weights_change_no_bit() -> None:
    if not has_bf16(torch.device("cpu")):
        pytest.skip("products in bf16 are not native here")
    plain_model, packed = (make(CONFIGS["llama"]()).bfloat16() for _ in range(2))
    pack(packed)
    layers = [one for one in packed.modules() if isinstance(one, PackedLinear)]
    assert len(layers) == 2 * 7 + 1
    pairs = ragged(9)
    scores = [
        log_likelihoods(one, pairs, PAD, 64, LONGEST, shared=True).logprobs
        for one in (plain_model, packed)
    ]
    assert scores[0].tolist() == scores[1].tolist()


def test_a_head_that_shares_its_weight_is_not_held_twice() -> None:
    if not has_bf16(torch.device("cpu")):
        pytest.skip("products in bf16 are not native here")
    model = make(transformers.LlamaConfig(**GROUPED, tie_word_embeddings=True)).bfloat16()
    pack(model)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert sum(isinstance(one, PackedLinear) for one in model.modules()) == 2 * 7


def test_packed_products_are_those_of_torch_however_many_rows() -> None:
    if not has_bf16(torch.device("cpu")):
        pytest.skip("products in bf16 are not native here")
    linear = torch.nn.Linear(48, 80).bfloat16().requires_grad_(False)
    packed = PackedLinear(linear)
    for shape in ((1,), (3, 5), (64,), (65,), (2, 100), (7, 3, 11)):
        given = torch.randn(*shape, 48).bfloat16()
        assert torch.equal(packed(given), linear(given)), shape


def test_only_bf16_is_packed(llama: Any) -> None:
    pack(llama)
    assert not any(isinstance(one, PackedLinear) for one in llama.modules())


def test_nothing_is_packed_where_the_processor_cannot(
    monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """There torch refuses to lay the weights out."""
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    model = make(CONFIGS["llama"]()).bfloat16()
    pack(model)
    assert not any(isinstance(one, PackedLinear) for one in model.modules())
    assert np.isfinite(
        log_likelihoods(model, ragged(2), PAD, 64, LONGEST, shared=True).logprobs
    ).all()
    fault("bf16 on a processor that lays out no bf16", "it scores, unpacked")


# --- attention in blocks


@pytest.fixture
def in_blocks(model: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model in fp32 that attends in blocks of 3 queries."""
    if model.config._attn_implementation != "sdpa":
        pytest.skip("it has an attention of its own")
    monkeypatch.setattr(attention, "BLOCK", 3)
    model.set_attn_implementation(attention.NAME)
    return model


def test_attention_in_blocks_is_attention(in_blocks: Any) -> None:
    pairs = [pair for of_kind in alike().values() for pair in of_kind]
    found = log_likelihoods(in_blocks, pairs, PAD, 60, LONGEST, shared=True).logprobs
    prompts = [tokens(length, length) for length in (3, 14, 1, 9, 6)]
    written = generate(in_blocks, prompts, PAD, [], 8, batch_size=3, shared=True)
    in_blocks.set_attn_implementation("sdpa")
    expected = [plain(in_blocks, *_cut(pair)) for pair in pairs]
    assert found == pytest.approx(expected, abs=1e-4)
    assert written == one_by_one(in_blocks, prompts, [NEVER], 8)


@pytest.mark.parametrize("tiles", [True, False])
def test_attention_is_in_blocks_in_bf16_without_tiles(
    tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: tiles)
    exact, rounded = make(CONFIGS["llama"]()), make(CONFIGS["llama"]()).bfloat16()
    for one in (exact, rounded):
        attention.attend_in_blocks(one)
    assert exact.config._attn_implementation == "sdpa"
    assert rounded.config._attn_implementation == ("sdpa" if tiles else attention.NAME)


# --- common beginnings


def alike() -> dict[str, list[Pair]]:
    """Pairs that begin alike, as tasks have them."""
    preamble = tokens(17, 90)
    choices = [tokens(n, 50 + n) for n in (1, 3, 2)]
    asked = [(tokens(6, 60 + n), one) for n in range(3) for one in choices]
    sentences = []
    for n in range(4):
        begun, rest = tokens(5, 70 + n), [tokens(k, 80 + k + n) for k in (2, 4)]
        sentences += [([BOS], [*begun, *one]) for one in rest]
    return {
        "choices": asked,
        "sentence pairs": sentences,
        "few shots": [([*preamble, *context], one) for context, one in asked],
        "one context": [([*preamble, *asked[0][0]], one) for one in choices],
        "the same twice": [asked[0], asked[0], asked[4]],
        "cut on the left": [(tokens(LONGEST, 40), one) for one in choices],
    }


def read_tokens(model: Any, score: Callable[[], Likelihoods]) -> tuple[Likelihoods, int]:
    """What `score` finds, and the tokens that the model read for it, padding included."""
    read = []

    def hook(_: Any, __: Any, given: dict[str, Any]) -> None:
        read.append(given["input_ids"].numel())

    handle = model.get_decoder().register_forward_pre_hook(hook, with_kwargs=True)
    try:
        return score(), sum(read)
    finally:
        handle.remove()


@pytest.mark.parametrize("batch_tokens", [1, 40, 10_000])
@pytest.mark.parametrize("name", list(alike()))
def test_common_beginnings_change_no_likelihood(model: Any, name: str, batch_tokens: int) -> None:
    pairs = alike()[name]
    expected = [plain(model, *_cut(pair)) for pair in pairs]
    for shared in (True, False):
        found = log_likelihoods(model, pairs, PAD, batch_tokens, LONGEST, shared=shared)
        assert found.logprobs == pytest.approx(expected, abs=1e-4)
        assert found.truncated.any() == (name == "cut on the left")


def _cut(pair: Pair) -> Pair:
    context, continuation = pair
    return context[-(LONGEST + 1 - len(continuation)) :], continuation


def test_common_beginnings_are_read_once(llama: Any) -> None:
    read = {}
    for name, pairs in alike().items():
        for shared, budget in ((True, 40), (False, 1)):
            score = partial(log_likelihoods, llama, pairs, PAD, budget, LONGEST, shared=shared)
            read[name, shared] = read_tokens(llama, score)[1]
    # Three contexts of 6 tokens, each with what the choices add: 0, 2 and 1.
    assert (read["choices", True], read["choices", False]) == (27, 63)
    assert read["few shots", True] == 17 + 27
    # BOS, and for each pair of sentences 5 tokens, 1 and 3 of their own; two first words are one.
    sentences = [[*context, *rest] for context, rest in alike()["sentence pairs"]]
    beginnings = {tuple(one[:end]) for one in sentences for end in range(1, len(one))}
    assert read["sentence pairs", True] == len(beginnings) == 36
    assert read["sentence pairs", False] == 64
    # A preamble up to the last token; that token, and what the choices add: 0, 2 and 1.
    assert read["one context", True] == 17 + 5 + 1 + 3
    assert read["cut on the left", True] == read["cut on the left", False]


def test_trees_are_not_for_every_model() -> None:
    for name, config in CONFIGS.items():
        assert reads_trees(make(config())), name
    bloom = transformers.BloomConfig(**COMMON, hidden_size=32, n_layer=2, n_head=4)
    mamba = transformers.MambaConfig(**COMMON, hidden_size=32, num_hidden_layers=2)
    for counting in (bloom, mamba):
        assert not reads_trees(make(counting))


def test_grow_joins_what_begins_alike() -> None:
    rows = [[9, 1, 2, 3], [8, 7], [9, 1, 2, 4, 5], [9, 1, 6], [9, 1, 2, 4]]
    trees = grow(rows, 100)
    assert [tree.members for tree in trees] == [(1,), (0, 4, 2, 3)]
    assert trees[1].ids == [9, 1, 2, 3, 4, 5, 6]
    assert trees[1].positions == [0, 1, 2, 3, 3, 4, 2]
    assert trees[1].ends == [7, 7, 6, 4, 6, 6, 7]
    assert [there.tolist() for there in trees[1].places] == [
        [0, 1, 2, 3],
        [0, 1, 2, 4],
        [0, 1, 2, 4, 5],
        [0, 1, 6],
    ]
    assert [tree.members for tree in grow(rows, 5)] == [(1,), (0, 4), (2,), (3,)]
    assert [tree.members for tree in alone(rows)] == [(n,) for n in range(5)]


def test_grow_joins_only_what_is_worth_a_longer_row() -> None:
    begun = list(range(300))
    first, second = ([*begun, 1000 + side, *range(100)] for side in range(2))
    assert len(grow([first, second], 10_000)) == 1
    assert len(grow([first, [0, *second[1:][::-1]]], 10_000)) == 2


@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=12),
    st.integers(1, 30),
)
def test_trees_hold_their_sequences(rows: list[list[int]], longest: int) -> None:
    trees = grow(rows, longest)
    assert sorted(member for tree in trees for member in tree.members) == list(range(len(rows)))
    for tree in trees:
        assert len(tree.members) == 1 or len(tree) <= longest
        for member, there in zip(tree.members, tree.places, strict=True):
            assert [tree.ids[place] for place in there] == rows[member]
            assert [tree.positions[place] for place in there] == list(range(len(there)))
            # What the last token sees are the tokens before it in its sequence, and no others.
            last = there[-1]
            assert [n for n in range(last + 1) if tree.ends[n] > last] == there.tolist()


# --- generation


@torch.inference_mode()
def one_by_one(model: Any, prompts: list[list[int]], ends: list[int], new: int) -> list[list[int]]:
    """transformers' own greedy generation, the end token removed."""
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        written = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=new,
            eos_token_id=ends,
            pad_token_id=PAD,
        )[0, len(prompt) :].tolist()
        answers.append(written[:-1] if written[-1] in ends else written)
    return answers


def test_greedy_equals_transformers_one_by_one(model: Any) -> None:
    prompts = [tokens(length, length) for length in (3, 14, 1, 9, 6)]
    free = generate(model, prompts, PAD, [], 12, batch_size=3, shared=True)
    assert free == one_by_one(model, prompts, [NEVER], 12)
    # Now let rows end at different steps.
    ends = [free[0][2], free[1][7]]
    stopped = generate(model, prompts, PAD, ends, 12, batch_size=5, shared=True)
    assert stopped == one_by_one(model, prompts, ends, 12)
    assert len({len(answer) for answer in stopped}) > 1


def test_prompts_that_begin_alike(model: Any) -> None:
    begun = tokens(18, 5)
    prompts = [[*begun, *tokens(length, length)] for length in (3, 9, 1, 6)]
    expected = one_by_one(model, prompts, [NEVER], 12)
    for shared in (True, False):
        assert generate(model, prompts, PAD, [], 12, 3, shared=shared) == expected


@pytest.mark.parametrize(
    ("batch_tokens", "batches"),
    [(1000, [4, 2]), (4, [2, 3, 1]), (2, [1, 1, 1, 2, 1]), (1, [1] * 6)],
)
def test_long_answers_are_written_fewer_at_once(
    batch_tokens: int,
    batches: list[int],
    llama: Any,
    tokenizer: CausalTokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many as have 16 times `batch_tokens`: of 26, 21, 18, 15, 14 and 13 tokens."""
    prompts = [tokens(length, length) for length in (3, 14, 1, 9, 6, 2)]
    written: list[int] = []

    def counted(model: Any, asked: Any, *rest: Any) -> Any:
        written.append(len(asked))
        return read_prompts(model, asked, *rest)

    monkeypatch.setattr(generation, "read_prompts", counted)
    scorer = CausalScorer(llama, tokenizer, batch_tokens, 4, shared=True)
    assert scorer.write(prompts, 12) == one_by_one(llama, prompts, [EOS], 12)
    assert written == batches


def test_prompts_of_like_length_are_read_together(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.scoring.prompts.AT_ONCE", 20)
    begun = tokens(16, 4)
    for before in ([], begun):
        prompts = [[*before, *tokens(length, length)] for length in (2, 14, 1, 9, 10)]
        expected = one_by_one(model, prompts, [NEVER], 6)
        assert generate(model, prompts, PAD, [], 6, 5, shared=True) == expected


def test_an_answer_ends_where_stop_says_so(model: Any) -> None:
    prompts = [tokens(length, length) for length in (3, 14, 1)]
    free = generate(model, prompts, PAD, [], 12, 2, shared=True)
    wanted = [answer[4] for answer in free]
    stopped = generate(
        model, prompts, PAD, [], 12, 2, shared=True, stop=lambda answer: answer[-1] in wanted
    )
    for whole, part in zip(free, stopped, strict=True):
        first = next(n for n, token in enumerate(whole) if token in wanted)
        assert part == whole[: first + 1]


def test_states_and_mask_may_lie_on_different_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of three rows ends at once. `meta` is a device whose tensors have no values."""
    kept: list[list[int]] = []
    cache = SimpleNamespace(batch_select_indices=lambda index: kept.append(index.tolist()))
    read: list[tuple[list[int], torch.Tensor]] = []

    def advance(_: Any, ids: torch.Tensor, mask: torch.Tensor, cache: Any) -> Any:
        read.append((ids[:, 0].tolist(), mask))
        return torch.eye(4)[ids[:, 0]], cache

    monkeypatch.setattr(generation, "advance", advance)
    monkeypatch.setattr(generation, "head_logits", lambda _, states: states)
    begun = (torch.eye(4)[[1, 2, 3]], torch.ones(3, 5, device="meta"), cache)
    written = generation._continue(object(), begun, [2], np.zeros((3, 2)), None, generation.never)
    assert written == [[1, 1], [], [3, 3]]
    assert kept == [[0, 2]]
    ((ids, mask),) = read
    assert ids == [1, 3]
    assert (mask.shape, mask.device.type) == ((2, 6), "meta")


def test_sampling_is_reproducible_and_knows_nothing_of_the_batch(model: Any) -> None:
    prompts = [tokens(length, length) for length in (3, 14, 1, 9, 6)]
    sample = Sampling(temperature=0.8, top_p=0.9, seed=3)
    first = generate(model, prompts, PAD, [EOS], 8, 5, sample, shared=True)
    assert first == generate(model, prompts, PAD, [EOS], 8, 5, sample, shared=True)
    assert first == generate(model, prompts, PAD, [EOS], 8, 2, sample, shared=True)
    assert first[:2] == generate(model, prompts[:2], PAD, [EOS], 8, 1, sample, shared=True)
    assert first != generate(
        model, prompts, PAD, [EOS], 8, 5, Sampling(0.8, 0.9, seed=4), shared=True
    )
    twins = generate(model, [prompts[0]] * 2, PAD, [EOS], 8, 5, sample, shared=True)
    assert twins[0] != twins[1]


@pytest.mark.parametrize("nucleus", [2, 1024])
def test_draws_follow_the_nucleus(nucleus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.scoring.generation.NUCLEUS", nucleus)
    # At temperature 2 these are .1, .4, .2 and .3; the top .75 of it is .4, .3 and .2.
    logits = 2 * torch.tensor([0.1, 0.4, 0.2, 0.3]).log().expand(9000, -1)
    draws = (np.arange(9000) + 0.5) / 9000
    counts = torch.bincount(_draw(logits, draws, Sampling(2, 0.75, 0)), minlength=4)
    assert counts.tolist() == pytest.approx([0, 4000, 2000, 3000], abs=1)
    counts = torch.bincount(_draw(logits, draws, Sampling(2, 1.0, 0)), minlength=4)
    assert counts.tolist() == pytest.approx([900, 3600, 1800, 2700], abs=1)
    last = np.full(9000, 1 - 1e-16)
    assert set(_draw(logits, last, Sampling(2, 0.75, 0)).tolist()) == {2}


def test_a_flat_row_beside_it_changes_no_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a flat one the tokens that are looked at first do not hold the nucleus."""
    monkeypatch.setattr("stages.scoring.generation.NUCLEUS", 8)
    logits = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    logits[::2] *= 12
    draws, sample = np.linspace(0.05, 0.95, 6), Sampling(1.0, 0.9, 0)
    held = logits.softmax(1).topk(8, dim=1)[0].sum(1) >= 0.9
    assert held.any() and not held.all()
    alone = [_draw(logits[row : row + 1], draws[row : row + 1], sample) for row in range(6)]
    assert _draw(logits, draws, sample).tolist() == torch.cat(alone).tolist()
    shares, tokens = logits.softmax(1).sort(dim=1, descending=True)
    for row, chosen in enumerate(_draw(logits, draws, sample).tolist()):
        inside = int((shares[row].cumsum(0) - shares[row] < 0.9).sum())
        total = shares[row, :inside].cumsum(0)
        assert chosen == tokens[row, int((total <= draws[row] * total[-1]).sum())]


def test_a_long_prompt_loses_its_beginning() -> None:
    learned = make(CONFIGS["gpt2"]())
    prompt = tokens(LONGEST + 5, 0)
    written = generate(learned, [prompt], PAD, [], 6, 1, shared=True)
    assert written == one_by_one(learned, [prompt[-(LONGEST - 5) :]], [NEVER], 6)
    with pytest.raises(UserError, match="max_new_tokens = 49"):
        generate(learned, [prompt], PAD, [], LONGEST + 1, 1, shared=True)


# --- records


@pytest.fixture
def scorer(llama: Any, tokenizer: CausalTokenizer) -> CausalScorer:
    return CausalScorer(llama, tokenizer, batch_tokens=128, batch_size=3, shared=True)


def examples(kind: str, **columns: Any) -> Examples:
    rows = pd.DataFrame(columns)
    rows["example_id"] = [f"id{number}" for number in range(len(rows))]
    rows["group"] = rows["example_id"]
    if "slice" not in rows:
        rows["slice"] = "all"
    return Examples(Task(f"a-{kind}", kind, LONGEST, (), {}), rows)


def stored(records: pd.DataFrame, path: Path) -> pd.DataFrame:
    """What is left of records after a round trip through their file."""
    write_records(path / "records.parquet", records, {})
    return read_table(path / "records.parquet")[0]


def test_multiple_choice(scorer: CausalScorer, tmp_path: Path) -> None:
    asked = examples(
        "multiple-choice",
        context=["the cat sat on", "a dog", "the hat; " * 30],
        choices=[[" the mat", " the hätte", " a"], [" ran", " ate far away"], [" cat", " dog"]],
        answer=[1, 0, 1],
    )
    scored = scorer.multiple_choice(asked, "test")
    records = stored(scored.records, tmp_path)
    assert scored.truncated == ("id2",)
    for number, row in enumerate(records.to_dict("records")):
        context, choices, answer = (
            asked.rows[column][number] for column in ("context", "choices", "answer")
        )
        pairs = [scorer.tokenizer.pair(context, choice) for choice in choices]
        expected = np.array(
            [plain(scorer.model, c[-(LONGEST + 1 - len(d)) :], d) for c, d in pairs]
        )
        lengths = [len(choice[1:].encode()) for choice in choices]
        assert row["choice_logprobs"] == pytest.approx(expected, abs=1e-4)
        assert list(row["choice_bytes"]) == lengths
        best = (expected / lengths).argmax()
        assert row["score"] == float(best == answer)
        assert (row["prediction"], row["target"]) == (choices[best][1:], choices[answer][1:])
        shares = np.exp(expected) / np.exp(expected).sum()
        assert row["probabilities"] == pytest.approx(shares, abs=1e-4)
        assert row["nll"] == pytest.approx(-np.log(shares[answer]), abs=1e-3)
        assert row["chance"] == 1 / len(choices)
        assert row["tokens"] == sum(len(d) for _, d in pairs)
    assert list(records["choice_bytes"][0]) == [7, 10, 1]


def test_choices_as_they_stand(scorer: CausalScorer, tmp_path: Path) -> None:
    """A form that is longer by a byte is not the likelier one for it."""
    asked = examples(
        "multiple-choice",
        context=["the cat sat on", "a dog", "the mat"] * 2,
        choices=[[" the", " a far away hat"], [" ran", " ate far away"], [" cat", " dogs"]] * 2,
        answer=[0, 0, 0, 1, 1, 1],
    )
    plainly = replace(asked, task=replace(asked.task, options={"per_byte": False}))
    by_byte = stored(scorer.multiple_choice(asked, "test").records, tmp_path)
    found = stored(scorer.multiple_choice(plainly, "test").records, tmp_path)
    for row, answer in zip(found.to_dict("records"), asked.rows["answer"], strict=True):
        assert row["score"] == float(row["choice_logprobs"].argmax() == answer)
        assert row["choice_bytes"] is None
    assert list(found["score"]) != list(by_byte["score"])
    assert list(found["nll"]) == pytest.approx(list(by_byte["nll"]), abs=1e-6)


def test_the_same_choices_whatever_the_batch(llama: Any, tokenizer: CausalTokenizer) -> None:
    words = TEXT.split()
    asked = examples(
        "multiple-choice",
        context=[" ".join(words[: n % 9 + 1]) for n in range(30)],
        choices=[[f" {words[(n * k) % len(words)]} {k}" for k in (1, 2, 3, 5)] for n in range(30)],
        answer=[n % 4 for n in range(30)],
    )
    budgets = [
        CausalScorer(llama, tokenizer, budget, 1, shared=True)
        .multiple_choice(asked, "test")
        .records
        for budget in (1, 90, 4000)
    ]
    for other in budgets[1:]:
        assert list(other["prediction"]) == list(budgets[0]["prediction"])
    assert budgets[0]["prediction"].nunique() > 4


def test_language_modelling(scorer: CausalScorer, tmp_path: Path) -> None:
    asked = examples(
        "language-modelling",
        prompt=["", "the cat\n\n", "a dog"],
        text=["the mat. ça", "sat on the mat", " ran" * 60],
    )
    scored = scorer.language_modelling(asked, "validation")
    records = stored(scored.records, tmp_path)
    assert scored.truncated == ("id2",)
    assert list(records["bytes"]) == [12, 16, 240]
    assert records[["score", "chance", "prediction"]].isna().all(axis=None)
    for number in (0, 1):
        pair = scorer.tokenizer.pair(asked.rows["prompt"][number], asked.rows["text"][number])
        assert records["nll"][number] == pytest.approx(-plain(scorer.model, *pair), abs=1e-4)
        assert records["tokens"][number] == len(pair[1])
    pair = scorer.tokenizer.pair("a dog", " ran" * 60)
    expected = -plain_windows(scorer.model, pair, LONGEST, 1)
    assert records["nll"][2] == pytest.approx(expected, abs=1e-3)
    assert set(records["split"]) == {"validation"}


def test_instructions(
    scorer: CausalScorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def passes(check: str, argument: str, answer: str) -> bool:
        seen.append((check, argument, answer))
        return check == "yes"

    monkeypatch.setattr(causal, "passes", passes)
    asked = examples(
        "instruction-following",
        prompt=["say a cat", "a dog", "the hat; " * 30],
        check=["yes", "no", "yes"],
        argument=["5", "", ""],
    )
    scored = scorer.instructions(asked, "test", max_new_tokens=6)
    records = stored(scored.records, tmp_path)
    assert list(records["score"]) == [1, 0, 1]
    assert list(records["target"]) == ["yes 5", "no", "yes"]
    assert list(records["chance"]) == [0, 0, 0]
    assert scored.truncated == ("id2",)
    (answer,) = one_by_one(scorer.model, [scorer.tokenizer.chat("say a cat")], [EOS], 6)
    assert records["prediction"][0] == scorer.tokenizer.decode(answer).strip()
    assert seen[0] == ("yes", "5", records["prediction"][0])


def judge(texts: list[str]) -> list[str]:
    return ["sport"] * len(texts)


def embedding(texts: list[str]) -> NDArray[np.float64]:
    """Alike where the first letters are alike; opposite for upper case."""
    angles = np.array([(ord(text[0].lower()) - ord("a")) / 26 * np.pi / 2 for text in texts])
    signs = np.array([-1.0 if text[0].isupper() else 1.0 for text in texts])
    return np.asarray(np.stack([np.cos(angles), np.sin(angles)], axis=1) * signs[:, None])


def test_writing(scorer: CausalScorer, tmp_path: Path) -> None:
    topics = ["sport", "tech", "sport", "sport", "tech", "sport"]
    asked = examples(
        "news-writing",
        prompt=[f"{topic}: the cat\n" for topic in topics],
        text=["sat on the mat."] * 6,
        slice=topics,
    )
    shuffled = Examples(asked.task, asked.rows.iloc[[3, 5, 1, 0, 2, 4]])

    def run(given: Examples, seed: int) -> pd.DataFrame:
        scored = scorer.writing(
            given,
            "test",
            per_topic=2,
            max_new_tokens=20,
            sample=Sampling(1.0, 0.95, seed),
            judge=judge,
            embedding=embedding,
        )
        assert scored.truncated == ()
        return scored.records

    records = stored(run(asked, 0), tmp_path)
    assert records["condition"].value_counts().to_dict() == {
        "generated": 4,
        "coherence": 4,
    }
    generated = records[records["condition"] == "generated"].set_index("example_id")
    assert set(generated.index) == {"id0", "id2", "id1", "id4"}
    assert generated["score"].to_dict() == {"id0": 1, "id2": 1, "id1": 0, "id4": 0}
    assert generated["target"].to_dict() == {i: topics[int(i[2])] for i in generated.index}
    assert set(generated["chance"]) == {0.5}
    assert generated["prediction"].nunique() == 4
    coherent = records[records["condition"] == "coherence"].set_index("example_id")
    expected = coherence(list(generated["prediction"]), embedding)
    assert list(coherent["score"][generated.index]) == pytest.approx(expected)
    assert coherent["chance"].isna().all()
    # The order of the rows matters not, the seed does.
    again = run(shuffled, 0)
    again = again[again["condition"] == "generated"].set_index("example_id")
    assert again["prediction"].to_dict() == generated["prediction"].to_dict()
    other = run(asked, 1)
    assert list(other["prediction"][:4]) != list(generated["prediction"])


def split_cases() -> Iterator[tuple[str, list[str]]]:
    yield "One. Two! Three?", ["One.", "Two!", "Three?"]
    yield 'He said: "No." Then he left.\nA line\n\n', ['He said: "No."', "Then he left.", "A line"]
    yield "It rose 3.5% in the U.S.A. yesterday...", ["It rose 3.5% in the U.S.A.", "yesterday..."]
    yield "... !", []
    yield "", []


@pytest.mark.parametrize(("text", "expected"), list(split_cases()))
def test_sentences(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_coherence_by_hand() -> None:
    texts = ["a. a. n.", "", "only one.", "a. A."]
    # a-a: cosine 1; a-n: 13/26 of a right angle, cosine sqrt(1/2).
    expected = [(1 + np.sqrt(0.5)) / 2, 0, 0, 0]
    assert coherence(texts, embedding) == pytest.approx(expected)
    assert coherence([""], embedding) == [0]


@pytest.mark.parametrize("setting", ["sliding_window", "attention_chunk_size", "window_size"])
def test_what_a_layer_does_not_reach_is_not_shared(setting: str) -> None:
    """The last is GPT-Neo's: its local layers look back 256 tokens."""
    config = transformers.PretrainedConfig(**{setting: 8})
    model: Any = SimpleNamespace(config=config)
    assert sees_all(model, 8)
    assert not sees_all(model, 9)
