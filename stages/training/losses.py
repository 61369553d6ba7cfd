"""The loss of each kind of task, row by row."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.05
"""Of cosine similarities; the value that sentence-transformers trains MiniLM with (scale 20)."""


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


def contrastive(queries: Tensor, documents: Tensor) -> Tensor:
    """In-batch InfoNCE: embeddings [rows, hidden] of both sides -> [rows].

    The other documents of the batch are each query's negatives (Henderson et al. 2017,
    arXiv 1705.00652, section 4).
    """
    queries = functional.normalize(queries.float(), dim=1)
    documents = functional.normalize(documents.float(), dim=1)
    own = torch.arange(len(queries), device=queries.device)
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
