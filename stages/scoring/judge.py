"""Who reads generated news: a frozen encoder, and a topic probe fitted on real articles."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.models.base import materialise
from stages.models.encoder import embed, load_encoder, longest_input
from stages.models.packed import pack
from stages.models.pretrained import kept_to
from stages.models.probe import fit_probe
from stages.models.texts import Tokenizer
from stages.tasks.examples import Examples

READ_TOKENS = 64
"""What is read of a text to tell its topic: its beginning, as generated texts are short too."""


class Judge:
    """Topics and sentence vectors. The encoder is never tuned, so base and run have one judge."""

    def __init__(
        self,
        manifest: dict[str, Any],
        train: Examples,
        batch_tokens: int,
        where: torch.device,
        used: torch.dtype,
    ) -> None:
        """`manifest`: the encoder's. `train`: articles, whose `slice` is their topic."""
        folder = materialise(manifest)
        self._encoder = load_encoder(folder, manifest["pooling"]).to(where, used)
        pack(self._encoder)
        tokenizer = Tokenizer(folder, longest_input(self._encoder))
        self._tokenizer = kept_to(self._encoder.body, tokenizer, folder)
        self._batch_tokens = batch_tokens
        topics = train.column("slice")
        self._topics = sorted(set(topics))
        labels = np.array([self._topics.index(topic) for topic in topics])
        embedded = self._embed(train.column("text"))
        self._probe = fit_probe(embedded, labels, len(self._topics))

    def topics(self, texts: list[str]) -> list[str]:
        """The topic of each text."""
        chosen = self._probe.probabilities(self._embed(texts)).argmax(axis=1)
        return [self._topics[index] for index in chosen]

    def vectors(self, texts: list[str]) -> NDArray[np.floating[Any]]:
        """Unit vectors [texts, hidden]."""
        embedded = self._embed(texts)
        return np.asarray(embedded / np.linalg.norm(embedded, axis=1, keepdims=True))

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        rows = self._tokenizer(texts, READ_TOKENS)
        return embed(self._encoder, rows, self._tokenizer.pad_id, self._batch_tokens)
