"""Rows without padding: the states, gradients and losses are those of padded rows."""

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import AttentionInterface

from stages.models import documents, layout
from stages.models.documents import let_read_documents, read_documents
from stages.training import losses

VOCABULARY = 50
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": VOCABULARY,
    "bos_token_id": 2,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
LENGTHS = torch.tensor([9, 3, 5, 1, 7, 9])


def _config(kind: str, **more: Any) -> transformers.PreTrainedConfig:
    return transformers.AutoConfig.for_model(kind, **SMALL, **more)


READ = {
    "bert": {},
    "roberta": {},
    "electra": {"embedding_size": 32},
    "distilbert": {"dim": 32, "hidden_dim": 64},
    "gpt2": {},
    "gpt_neox": {},
    "llama": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 1},
    "mistral": {"num_key_value_heads": 2, "sliding_window": 4},
}
"""Kinds of body that read documents, and what is theirs alone; Mistral's window is shorter than
the longest document."""
UNREAD = {
    "modernbert": {"cls_token_id": 2, "sep_token_id": 2},  # windows to both sides
    "gemma2": {"head_dim": 8},  # scores are capped, so not by sdpa
    "bloom": {},  # positions are not given
}


def _body(kind: str, more: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return transformers.AutoModel.from_config(_config(kind, **more)).eval()


def _ids(lengths: Tensor = LENGTHS) -> tuple[Tensor, Tensor]:
    within = torch.arange(9) < lengths[:, None]
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, VOCABULARY, (6, 9), generator=generator).where(within, 1), within


def _gradients(body: nn.Module, hidden: Tensor, of: Tensor) -> dict[str, Tensor]:
    body.zero_grad()
    torch.autograd.backward((hidden * of).sum())
    named = body.named_parameters()
    return {name: one.grad.clone() for name, one in named if one.grad is not None}


@pytest.mark.parametrize("lengths", [LENGTHS, torch.full((6,), 9)], ids=["unlike", "alike"])
@pytest.mark.parametrize("pairs, step", [(4, 1), (layout.PAIRS, 16)])
@pytest.mark.parametrize("kind", READ)
def test_states_and_gradients_are_those_of_padded_rows(
    kind: str, pairs: int, step: int, lengths: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read one by one and all together, and where the row is filled up to a multiple."""
    monkeypatch.setattr(layout, "PAIRS", pairs)
    monkeypatch.setattr(documents, "_step", lambda tokens: step)
    body, (ids, within) = _body(kind, READ[kind]), _ids(lengths)
    of = torch.randn(6, 9, 32) * within[..., None]
    padded = body(input_ids=ids, attention_mask=within.long()).last_hidden_state
    expected = _gradients(body, padded, of)
    assert let_read_documents(body)
    states = read_documents(body, ids, within)
    torch.testing.assert_close(states, padded * within[..., None], rtol=1e-5, atol=1e-5)
    found = _gradients(body, states, of)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", UNREAD)
def test_a_body_that_would_read_otherwise_keeps_its_padding(kind: str) -> None:
    body, (ids, within) = _body(kind, UNREAD[kind]), _ids()
    before = body(input_ids=ids, attention_mask=within.long()).last_hidden_state
    assert not let_read_documents(body)
    after = body(input_ids=ids, attention_mask=within.long()).last_hidden_state
    torch.testing.assert_close(after, before, rtol=0, atol=0)


@pytest.mark.parametrize("kind", READ)
def test_no_keys_are_kept_for_a_text_to_go_on_and_no_mask_is_made(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = _body(kind, READ[kind])
    assert let_read_documents(body)
    masks: list[Tensor] = []

    def attend(*given: Any, **named: Any) -> Any:
        masks.append(given[4])
        return documents._attention(*given, **named)

    # Not in an instance, which would hide from then on what is registered for all.
    monkeypatch.setitem(AttentionInterface._global_mapping, documents.NAME, attend)
    given: list[Any] = []
    body.register_forward_hook(lambda _, __, output: given.append(output))
    read_documents(body, *_ids())
    assert [one.get("past_key_values") for one in given] == [None]
    assert [mask.numel() for mask in masks] == [1, 1], "one a layer"


def test_no_document_sees_another() -> None:
    body, (ids, within) = _body("bert", {}), _ids()
    assert let_read_documents(body)
    other = ids.clone()
    other[1:] = other[1:].flip(1).where(within[1:], 1)
    with torch.no_grad():
        found = [read_documents(body, one, within)[0] for one in (ids, other)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


def test_shares_are_dropped_at_their_rate_and_the_gradient_is_of_what_was_left() -> None:
    """With values of one the attention is the sum of what is left of the shares, over its rate."""
    within = torch.ones(64, 8, dtype=torch.bool)
    of = layout.Documents.of(within)
    query, key = (torch.randn(512, 4, 8, requires_grad=True) for _ in range(2))
    value = torch.ones(512, 4, 8, requires_grad=True)
    sees = layout.Sees(causal=False, window=None)
    torch.manual_seed(0)
    out = documents._Attend.apply(query, key, value, of, sees, 0.0, 0.25)  # type: ignore[no-untyped-call]
    # A scale of 0: eight shares of 1/8, each of which is 0 or 1/6 now.
    left = (out[..., 0] * 6).round()
    torch.testing.assert_close(out[..., 0], left / 6)
    assert float(left.detach().mean() / 8) == pytest.approx(0.75, abs=0.01)
    out.sum().backward()
    assert value.grad is not None
    torch.testing.assert_close(value.grad.sum(), out.detach().sum(), rtol=1e-4, atol=0)


def test_gradients_with_dropout_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """By finite differences, in fp64, with the same draw each time."""
    for room in (documents, layout):
        monkeypatch.setattr(room, "EXACT", torch.float64)
    of = layout.Documents.of(torch.arange(4) < torch.tensor([[4], [2], [3]]))
    sees = layout.Sees(causal=True, window=None)
    torch.manual_seed(3)
    query = torch.randn(9, 4, 3, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(9, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def attend(*given: Tensor) -> Tensor:
        torch.manual_seed(0)
        return documents._Attend.apply(*given, of, sees, 0.7, 0.4)  # type: ignore[no-untyped-call,no-any-return]

    assert torch.autograd.gradcheck(attend, (query, key, value))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_over_the_vocabulary_is_cross_entropy(smoothing: float) -> None:
    """Of more places than a chunk, with a soft cap as of Gemma 2."""
    torch.manual_seed(0)
    product = torch.randn(losses.CHUNK * 2 + 3, VOCABULARY, requires_grad=True)
    labels = torch.randint(VOCABULARY, (len(product),))
    weights = torch.rand(len(product))

    def finish(one: Tensor) -> Tensor:
        return torch.tanh(one / 3) * 3

    # Of a copy, whose place the gradient takes.
    found = losses.vocabulary(product.clone(), labels, finish, smoothing)
    (gradient,) = torch.autograd.grad((found * weights).sum(), product, retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(found.sum(), product)
    expected = nn.functional.cross_entropy(
        finish(product), labels, reduction="none", label_smoothing=smoothing
    )
    (of_expected,) = torch.autograd.grad((expected * weights).sum(), product)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, of_expected)
