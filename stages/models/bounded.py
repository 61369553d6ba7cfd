"""What a model's settings may ask for: about what its weights hold.

Settings and weights come from the same stranger. transformers builds what config.json asks for
before it reads a weight, so that a wrong number there takes all memory, or builds for ever.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.modules import module

COUNTS = re.compile(r"(^|_)(layers?|labels|block_count)$")
"""Settings that transformers writes out as a list, an entry each, before it builds anything."""
LONGEST = 10_000
SPARE_ELEMENTS = 2**28
SPARE_TENSORS = 1000


@contextmanager
def bounded(
    settings: Mapping[str, Any], tensors: int, elements: int, *, quantised: bool = False
) -> Iterator[None]:
    """Building a model of these `settings` raises ValueError once it is far larger than weights of
    so many `tensors` and `elements`.

    Twice the elements and four times the tensors, and a little: room for masks kept as buffers,
    weights that are tied or packed in the file, and a pooler that the file lacks. Where layers are
    `quantised`, twice of that: transformers builds each as it is, and then two times in its place.
    """
    _check_counts(settings)
    times = 2 if quantised else 1
    left = {
        "tensors": times * 4 * tensors + SPARE_TENSORS,
        "elements": times * 2 * elements + SPARE_ELEMENTS,
    }

    def count(_: nn.Module, name: str, tensor: Tensor | None) -> None:
        if tensor is None or not tensor.is_meta:  # the weights, as they are filled in
            return
        left["tensors"] -= 1
        left["elements"] -= tensor.numel()
        if min(left.values()) < 0:
            raise ValueError(
                f"its settings ask for far more than the weights hold ({tensors} tensors of "
                f"{elements:,} elements in all); {name} goes past it"
            )

    hooks = [
        module.register_module_parameter_registration_hook(count),
        module.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _check_counts(settings: Any) -> None:
    if not isinstance(settings, Mapping):
        return
    for key, value in sorted(settings.items()):
        if COUNTS.search(key) and isinstance(value, int) and value > LONGEST:
            raise ValueError(f"its settings ask for a {key} of {value}; at most {LONGEST}")
        _check_counts(value)


def held(folder: Path) -> tuple[int, int]:
    """Tensors and elements in the headers of the weights that transformers reads in `folder`; heads
    lie beside them."""
    tensors = elements = 0
    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, framework="np") as weights:
            for name in weights.keys():  # noqa: SIM118
                size = 1
                for length in weights.get_slice(name).get_shape():
                    size *= length
                tensors += 1
                elements += size
    return tensors, elements
