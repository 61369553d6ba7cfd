"""The work that a model is given, counted while it is done."""

from typing import Any

from torch import Tensor, nn

from stages.models.packed import PackedLinear


class Work:
    """Counts the tokens that a model's body reads and the states that its head is applied to.

    Forward; going back through both takes twice the operations again.
    """

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        self._body_parameters = sum(map(_matrices, body.modules()))
        self._head_parameters = _matrices(head)
        self.reset()
        body.register_forward_pre_hook(self._read, with_kwargs=True)
        head.register_forward_pre_hook(self._applied)

    def reset(self) -> None:
        self.tokens = self.states = 0

    @property
    def operations(self) -> int:
        """Floating-point, of the products with the model's matrices: attention's own, of
        queries with keys and of weights with values, are left out."""
        return 2 * (self._body_parameters * self.tokens + self._head_parameters * self.states)

    def _read(self, _: nn.Module, given: tuple[Tensor, ...], named: dict[str, Any]) -> None:
        if (embedded := named.get("inputs_embeds")) is not None:
            self.tokens += embedded.shape[:-1].numel()
        else:
            self.tokens += (given[0] if given else named["input_ids"]).numel()

    def _applied(self, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        self.states += given[0].shape[:-1].numel()


def _matrices(module: nn.Module) -> int:
    """Parameters of the matrices that a module multiplies with, those of its parts left out."""
    if isinstance(module, nn.Linear | PackedLinear):
        return module.in_features * module.out_features
    if isinstance(module, nn.Embedding):
        return 0
    return sum(one.numel() for one in module.parameters(recurse=False) if one.ndim == 2)
