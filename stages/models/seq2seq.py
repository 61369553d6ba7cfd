"""A sequence-to-sequence model: text in, text out."""

from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from tqdm import tqdm

from stages.errors import UserError
from stages.models.encoder import batches_by_tokens
from stages.models.pretrained import load_tokenizer, load_weights

BATCH_TOKENS = 2048


class Seq2Seq:
    def __init__(self, folder: Path, device: torch.device) -> None:
        """Load in fp32. Raises UserError where the folder holds no such model, or not all of it."""
        self._tokenizer = load_tokenizer(folder)
        model, missing = load_weights(transformers.AutoModelForSeq2SeqLM, folder)
        if missing:
            raise UserError(f"{folder}: weights are missing, such as {missing[0]}")
        self._model = model.to(device).eval()
        self._device = device

    @torch.inference_mode()
    def write(self, texts: Sequence[str], longest: int, beams: int) -> list[str]:
        """What the model makes of each text by beam search, special tokens left out.

        At most `longest` tokens of a text are read, and twice as many and 16 are written.
        """
        longest = min(longest, self._tokenizer.model_max_length)
        rows = self._tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]
        written = [""] * len(rows)
        batches = list(batches_by_tokens([len(row) for row in rows], BATCH_TOKENS))
        for batch in tqdm(batches, desc="translation", unit="batch", disable=None):
            given = self._tokenizer.pad(
                {"input_ids": [rows[i] for i in batch]}, return_tensors="pt"
            )
            ids = self._model.generate(
                **given.to(self._device),
                num_beams=beams,
                do_sample=False,
                max_new_tokens=2 * given["input_ids"].shape[1] + 16,
            )
            found = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
            for place, text in zip(batch, found, strict=True):
                written[place] = text.strip()
        return written
