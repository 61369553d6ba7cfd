"""A causal model on its own kind of text: samples from its BOS token, scored by itself.

The proxy for what it was pre-trained on, where that is not at hand.
"""

import numpy as np

from stages.models.loading import CausalModel
from stages.scoring.causal import OVERLAP, CausalScorer
from stages.scoring.generation import Sampling

TEXTS, TOKENS = 32, 64


def own_text(loaded: CausalModel, batch_tokens: int, seed: int) -> dict[str, list[float]]:
    """`bits` and `bytes` of each text of its own, drawn at temperature 1; empty ones left out."""
    # A first token has no beginning to share.
    scorer = CausalScorer(loaded.model, loaded.tokenizer, batch_tokens, TEXTS, shared=False)
    beginning, _ = scorer.tokenizer.pair("", "A")
    written = scorer.write([beginning] * TEXTS, TOKENS, Sampling(1.0, 1.0, seed))
    texts = [text for text in map(scorer.tokenizer.decode, written) if text.strip()]
    if not texts:
        return {"bits": [], "bytes": []}
    # What was cut within a character is written out as signs of several tokens each.
    found = scorer.likelihoods([("", text) for text in texts], TOKENS * 2, OVERLAP)
    bits = -found.logprobs / np.log(2)
    return {
        "bits": [round(float(one), 3) for one in bits],
        "bytes": [float(len(text.encode())) for text in texts],
    }
