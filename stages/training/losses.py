"""The loss of each kind of task, row by row."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

TEMPERATURE = 0.05
"""Of cosine similarities; the value that sentence-transformers trains MiniLM with (scale 20)."""
CHUNK, CPU_CHUNK = 64, 8
"""Places whose logits over the vocabulary are held in fp32: enough to keep a GPU busy, few enough
for a processor's cache."""


def classification(
    logits: Tensor, labels: Tensor, smoothing: float = 0.0, ignored: int = -100
) -> Tensor:
    """Cross-entropy of logits [n, classes] against labels [n] -> [n]; 0 where one is `ignored`.

    `smoothing`: the share of each label that goes to all classes alike (Szegedy et al. 2016,
    arXiv 1512.00567, section 7).
    """
    return functional.cross_entropy(
        logits.float(),
        labels,
        ignore_index=ignored,
        reduction="none",
        label_smoothing=smoothing,
    )


class _InChunks(torch.autograd.Function):
    """With s = log sum_j exp z_j of a place's logits z, its loss is s - sum_j t_j z_j, where the
    targets t add up to 1, and the gradient of z is exp(z - s) - t."""

    @staticmethod
    def forward(
        ctx: Any,
        product: Tensor,
        labels: Tensor,
        finish: Callable[[Tensor], Tensor],
        smoothing: float,
    ) -> Tensor:
        found = [_judged(finish(part), of, smoothing) for part, of in _split(product, labels)]
        losses, sums = map(torch.cat, zip(*found, strict=True))
        ctx.save_for_backward(product, labels, sums)
        ctx.settings = finish, smoothing
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        product, *by_place = ctx.saved_tensors
        finish, smoothing = ctx.settings
        columns = (one[:, None] for one in (*by_place, grad))
        for part, of, total, given in _split(product, *columns):
            with torch.enable_grad():
                one = part.detach().requires_grad_()
                logits = finish(one)
            errors = _errors(logits.detach(), of, total, smoothing).mul_(given)
            # In place of the product, which is large and read no more: torch refuses who would.
            # By no name, which would hold it while the next one is made.
            part.copy_(torch.autograd.grad(logits, one, errors)[0])
            del logits, errors
        return product, None, None, None


def _judged(logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Logits [n, vocabulary] and labels [n] -> losses and s, [n] each."""
    sums = logits.logsumexp(1)
    losses = sums - logits.gather(1, labels[:, None])[:, 0]
    if smoothing:
        losses.lerp_(sums - logits.mean(1), smoothing)
    return losses, sums


def _errors(logits: Tensor, labels: Tensor, sums: Tensor, smoothing: float) -> Tensor:
    """Logits [n, vocabulary], labels and s [n, 1] -> the gradient of logits."""
    errors = (logits - sums).exp_()
    if smoothing:
        errors -= smoothing / errors.shape[1]
    return errors.scatter_add_(1, labels, torch.full_like(sums, smoothing - 1))


def _split(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    places = CPU_CHUNK if tensors[0].device.type == "cpu" else CHUNK
    return zip(*(torch.split(each, places) for each in tensors), strict=True)


def vocabulary(
    product: Tensor,
    labels: Tensor,
    finish: Callable[[Tensor], Tensor],
    smoothing: float = 0.0,
) -> Tensor:
    """As `classification` of the logits that `finish` makes of a head's product [n, vocabulary],
    which are never held whole in fp32. The gradient of the product takes its place: it can be gone
    back through once."""
    found: Tensor = _InChunks.apply(  # type: ignore[no-untyped-call]
        product, labels, finish, smoothing
    )
    return found


def contrastive(queries: Tensor, documents: Tensor) -> Tensor:
    """In-batch InfoNCE: embeddings [rows, hidden] of both sides -> [rows].

    The other documents of the batch are each query's negatives (Henderson et al. 2017,
    arXiv 1705.00652, section 4).
    """
    own = torch.arange(len(queries), device=queries.device)
    # Under autocast the product would be taken in bf16 all the same.
    with torch.autocast(queries.device.type, enabled=False):
        queries = functional.normalize(queries.float(), dim=1)
        documents = functional.normalize(documents.float(), dim=1)
        return functional.cross_entropy(queries @ documents.T / TEMPERATURE, own, reduction="none")


def spans(logits: Tensor, counts: Sequence[int], places: Tensor) -> Tensor:
    """Cross-entropy of the first and of the last token of an answer, summed -> [rows].

    logits [n, 2] of the places of all rows, one row after another, `counts` of each; `places`
    [rows, 2]: the right ones within their row (Devlin et al. 2019, arXiv 1810.04805, section 4.2).
    """
    each = zip(torch.split(logits.float(), list(counts)), places, strict=True)
    return torch.stack(
        [functional.cross_entropy(row.T, right, reduction="sum") for row, right in each]
    )


def labels(logits: Tensor, wanted: Tensor) -> Tensor:
    """Binary cross-entropy of logits [n, k] against 0 and 1 [n, k], the mean over labels -> [n]."""
    each = functional.binary_cross_entropy_with_logits(logits.float(), wanted, reduction="none")
    return each.mean(dim=1)


def value(logits: Tensor, wanted: Tensor) -> Tensor:
    """Squared error of [n, 1] against [n] -> [n]."""
    return (logits.float()[:, 0] - wanted).square()


OF_TEXTS = {"labels": labels, "value": value}
"""By what a head gives."""
