"""RMSNorm that keeps little: transformers' own values and gradients, where it is the same."""

from typing import Any

import pytest
import tiny_architectures
import torch
import transformers
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from stages.training.rms_norm import RMSNorm, normalise_leanly

RANDOM = torch.Generator().manual_seed(3)


def _taken(layer: nn.Module, given: torch.Tensor, grad: torch.Tensor) -> tuple[list[Any], int]:
    """The output, the gradients of input and weight, and the bytes that were kept for them."""
    given = given.detach().requires_grad_()
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        found = layer(given)
    found.backward(grad.to(found.dtype))
    return [found.detach(), given.grad, next(layer.parameters()).grad], sum(kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(24,), (5, 24), (2, 3, 7, 24)])
def test_values_and_gradients_are_those_of_transformers(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    weight = torch.randn(24, generator=RANDOM)
    given = 3 * torch.randn(shape, generator=RANDOM).to(dtype)
    grad = torch.randn(shape, generator=RANDOM)
    theirs = LlamaRMSNorm(24, eps=1e-3)
    theirs.weight.data.copy_(weight)
    expected, much = _taken(theirs, given, grad)
    found, little = _taken(RMSNorm(nn.Parameter(weight.clone()), 1e-3), given, grad)
    exact = dtype == torch.float32
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        relative, absolute = (1e-5, 1e-5) if exact else (2e-2, 5e-2)
        torch.testing.assert_close(one, other, rtol=relative, atol=absolute)
    assert little < 0.75 * much or given.numel() < 100


def test_a_frozen_weight_has_no_gradient() -> None:
    layer = RMSNorm(nn.Parameter(torch.ones(8), requires_grad=False), 1e-6)
    given, grad = torch.randn(2, 3, 8, generator=RANDOM)
    (_, of_given, of_weight), _ = _taken(layer, given, grad)
    assert of_weight is None
    assert of_given is not None


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen3", "phi3", "gemma", "gemma3", "gpt2"])
def test_only_layers_of_this_formula_are_replaced(name: str) -> None:
    """All of them, or none; and the model says what it said."""
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = tiny_architectures.ALL[name].made(vocab_size=50, **special)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    ids = torch.tensor([[3, 7, 5, 6]])
    with torch.no_grad():
        expected = model(ids).logits
        names = list(dict(model.named_parameters()))
        normalise_leanly(model)
        torch.testing.assert_close(model(ids).logits, expected, rtol=1e-4, atol=1e-5)
    assert list(dict(model.named_parameters())) == names
    kinds = {type(one).__name__ for one in model.modules() if type(one).__name__.endswith("Norm")}
    own = {"gemma": "GemmaRMSNorm", "gemma3": "Gemma3RMSNorm", "gpt2": "LayerNorm"}
    assert kinds == {own.get(name, "RMSNorm")}
