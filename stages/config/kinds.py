"""Kinds of model and of task: which fit, which can be learned."""

ANSWERS = {
    "encoder": ("classification", "linear-probe", "retrieval"),
    "causal": (
        "multiple-choice",
        "language-modelling",
        "news-writing",
        "instruction-following",
        "lm-eval",
    ),
}
"""The kinds of task that a kind of model can be asked."""
UNTAUGHT = {
    "instruction-following": "its rows have checks, but no answers to learn from",
    "lm-eval": "lm-eval says how to ask and judge, not what to learn from; list it under retain",
}
"""Kinds that no model can be tuned for, and why."""
AVERAGED = ("classification", "linear-probe", "multiple-choice")
"""Kinds whose records have probabilities that the models of an ensemble can be averaged by."""
WITH_HEAD = ("classification", "linear-probe")
"""Kinds of target that a head is trained for."""
