"""The loss of each kind of task, row by row."""

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.05
"""Of cosine similarities; the value that sentence-transformers trains MiniLM with (scale 20)."""


def classification(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits [rows, classes] against labels [rows] -> [rows]."""
    return functional.cross_entropy(logits.float(), labels, reduction="none")


def contrastive(queries: Tensor, documents: Tensor) -> Tensor:
    """In-batch InfoNCE: embeddings [rows, hidden] of both sides -> [rows].

    The other documents of the batch are each query's negatives (Henderson et al. 2017,
    arXiv 1705.00652, section 4).
    """
    queries = functional.normalize(queries.float(), dim=1)
    documents = functional.normalize(documents.float(), dim=1)
    own = torch.arange(len(queries), device=queries.device)
    return functional.cross_entropy(queries @ documents.T / TEMPERATURE, own, reduction="none")
