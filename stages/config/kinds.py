"""Kinds of model and of task: which fit, which can be learned."""

ANSWERS = {
    "encoder": (
        "classification",
        "linear-probe",
        "retrieval",
        "pair-classification",
        "relation",
        "token-classification",
        "extractive-qa",
        "multi-label",
        "regression",
        "pair-regression",
        "masked-lm",
        "minimal-pairs",
        "bias-pairs",
    ),
    "causal": (
        "multiple-choice",
        "language-modelling",
        "news-writing",
        "instruction-following",
        "minimal-pairs",
        "bias-pairs",
        "refusal",
        "completion",
        "chat",
        "lm-eval",
    ),
    "seq2seq": ("completion",),
}
"""The kinds of task that a kind of model can be asked."""
WRITTEN = ("completion", "chat")
"""Kinds whose answers are texts that the model writes, held against texts that are accepted."""
UNTAUGHT = {
    "instruction-following": "its rows have checks, but no answers to learn from",
    "minimal-pairs": "it asks which sentence is likelier; language-modelling teaches the good ones",
    "bias-pairs": "neither of its sentences is to be learned; list it under retain",
    "refusal": "its rows say what to refuse, but not in which words; list it under retain",
    "lm-eval": "lm-eval says how to ask and judge, not what to learn from; list it under retain",
}
"""Kinds that no model can be tuned for, and why."""
HEADS = {
    "classification": "classes",
    "linear-probe": "classes",
    "pair-classification": "classes",
    "relation": "entities",
    "token-classification": "words",
    "extractive-qa": "span",
    "multi-label": "labels",
    "regression": "value",
    "pair-regression": "value",
}
"""Kinds that an encoder answers by a linear head, a trained one or a probe; and what that gives.

classes: a softmax over labels, of each text. entities: the same, from the states of two entities in
it. words: the same of each word. span:
a softmax over tokens, for an answer's first one and one for its last. labels: a sigmoid for each
label, of each text. value: a number, of each text.
"""
WITH_HEAD = tuple(HEADS)
"""Kinds of target that a head is trained for."""
LABELLED = ("classification", "linear-probe", "pair-classification", "relation")
"""Kinds whose examples have one label each."""
AVERAGED = (*LABELLED, "multiple-choice")
"""Kinds whose records have probabilities that the models of an ensemble can be averaged by."""
