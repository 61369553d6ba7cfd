"""Class balance: rare classes count as much as frequent ones (He and Garcia 2009, section 3)."""

from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight

from stages.training.encoder import EncoderRows
from stages.training.methods.labelled import misfit_of_labels
from stages.training.methods.method import Fit, Method
from stages.training.stream import Stream
from stages.training.subject import Subject


class Balance(Method):
    """`by` sampling: each class's rows are gone through again until there are as many as of the
    largest. `by` weights: the loss of a row is multiplied by rows / (classes * rows of its class).
    """

    name: ClassVar[str] = "balance"
    by: Literal["sampling", "weights"]

    def misfit(self, fit: Fit) -> str | None:
        return misfit_of_labels(fit)

    def resample(self, stream: Stream) -> Stream:
        return stream.of(oversampled(_labels(stream))) if self.by == "sampling" else stream

    def shape(self, subject: Subject) -> None:
        if self.by == "weights":
            for stream in subject.targets:
                stream.trainee.class_weights = balanced(_labels(stream)).to(subject.device)


def oversampled(labels: NDArray[np.int64]) -> list[int]:
    """Rows of each class in turn, as many as the largest class has; none is left out."""
    of_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    most = max(map(len, of_class))
    return [int(row) for rows in of_class for row in np.resize(rows, most)]


def balanced(labels: NDArray[np.int64]) -> torch.Tensor:
    """[classes]; every class has rows, for the labels of a task are those of its train split."""
    classes = np.unique(labels)
    return torch.tensor(compute_class_weight("balanced", classes=classes, y=labels)).float()


def _labels(stream: Stream) -> NDArray[np.int64]:
    assert isinstance(stream.rows, EncoderRows) and stream.rows.labels
    return np.asarray(stream.rows.labels)
