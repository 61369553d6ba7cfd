"""Weights in the order in which a CPU multiplies them."""

import os

import torch
from torch import Tensor, nn

# oneDNN, and ideep over it, keep what they made for each number of rows they have met: over a GiB
# for texts of many lengths. A batch needs one for each shape of weight. Read at the first product.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")
os.environ.setdefault("LRU_CACHE_CAPACITY", "16")


class PackedLinear(nn.Module):
    """An `nn.Linear` for inference in bf16, its weight laid out once instead of at every call.

    The products are the same, bit for bit. With few rows, as when text is generated, laying out
    takes as long as multiplying.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)

    def forward(self, given: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            given, self._packed, self.bias, "none", [], ""
        )
        return product


def pack(model: nn.Module) -> None:
    """Replace the linear layers of a model that will only be read from, where that pays: bf16 on
    a CPU that has it. A head that shares the embeddings' weight stays: it would be held twice."""
    kernels = torch.ops.mkldnn
    if not hasattr(kernels, "_linear_pointwise") or not kernels._is_mkldnn_bf16_supported():
        return
    shared = {id(one.weight) for one in model.modules() if isinstance(one, nn.Embedding)}
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and _fits(child.weight) and id(child.weight) not in shared:
                setattr(module, name, PackedLinear(child))


def _fits(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.bfloat16
