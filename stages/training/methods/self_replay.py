"""Self-replay: what the base itself writes, among the rows of the target (arXiv 2505.13811,
context-free synthetic data)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from transformers import GenerationConfig

from stages.errors import UserError
from stages.models.loading import CausalModel
from stages.models.sharing import dealt
from stages.progress import bar
from stages.training import order
from stages.training.causal import CausalRows
from stages.training.methods.method import Fit, Method
from stages.training.stream import Stream
from stages.training.subject import Subject

AT_ONCE = 16
"""Texts that are written side by side."""


class SelfReplay(Method):
    """`fraction` r: the share of written rows among all rows, r/(1-r) a target row. `length`: their
    tokens, at most; they are drawn from the base's own distribution, after nothing but its BOS."""

    name: ClassVar[str] = "self-replay"
    fraction: Annotated[float, Field(gt=0, lt=1)]
    length: Annotated[int, Field(ge=2)]

    def misfit(self, fit: Fit) -> str | None:
        if fit.model != "causal":
            return f"a model of kind {fit.model} writes no texts from nothing: replay would fit"
        return None

    def streams(self, subject: Subject) -> list[Stream]:
        trainee = subject.writer()
        stream = Stream(self.name, trainee, CausalRows([], []), self.fraction / (1 - self.fraction))
        wanted = stream.drawn(subject.config.batch_size, subject.config.steps)
        if not wanted:
            raise UserError(
                f"runs.{subject.recipe.name}.methods.self-replay.fraction = {self.fraction}: no "
                f"row would come in {subject.config.steps} steps; raise it, or steps or batch_size"
            )
        return [Stream(self.name, trainee, self._write(subject, wanted), stream.share)]

    @torch.no_grad()
    def _write(self, subject: Subject, wanted: int) -> CausalRows:
        loaded = subject.loaded
        assert isinstance(loaded, CausalModel)
        subject.place(loaded.model)
        start = loaded.tokenizer.prompt("")
        ends = set(loaded.tokenizer.eos_ids)
        written: list[list[int]] = []
        settings = GenerationConfig(
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=self.length,
            eos_token_id=sorted(ends) or None,
            pad_token_id=loaded.tokenizer.pad_id,
        )

        def write(first: int) -> list[list[int]]:
            order.seed_step(subject.seed, first, 0)
            begun = torch.tensor([start] * min(AT_ONCE, wanted - first))
            with subject.accelerator.autocast(), _by(loaded.model, settings):
                drawn = loaded.model.generate(
                    input_ids=begun.to(subject.device),
                    attention_mask=torch.ones_like(begun).to(subject.device),
                    generation_config=settings,
                )
            return [_up_to_end(row, len(start), ends) for row in drawn.tolist()]

        name = f"{subject.recipe.name}, self-replay"
        with bar(total=wanted, desc=name, unit="text") as shown:
            for _, texts in dealt(range(0, wanted, AT_ONCE), write):
                written.extend(texts)
                shown.update(len(texts))
        # Each process stands where its own last batch left it, and an adapter is drawn next.
        order.seed_step(subject.seed, wanted, 0)
        return CausalRows(written, [len(start)] * len(written))


@contextmanager
def _by(model: Any, settings: GenerationConfig) -> Iterator[None]:
    """The model's own settings, as a penalty on what it repeats, would fill in what these leave
    open."""
    own = model.generation_config
    model.generation_config = settings
    try:
        yield
    finally:
        model.generation_config = own


def _up_to_end(row: list[int], start: int, ends: set[int]) -> list[int]:
    """A row without what stands behind its first end token."""
    for place in range(start, len(row)):
        if row[place] in ends:
            return row[: place + 1]
    return row
