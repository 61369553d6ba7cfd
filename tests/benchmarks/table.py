"""Results as text."""

import sys
from collections.abc import Sequence
from typing import Any

MIB = 2**20
MATRIX = {"mkldnn::_linear_pointwise", "aten::addmm", "aten::mm"}
"""Operators that multiply states with the model's matrices. Attention's products are aten::bmm."""


def comparison(found: dict[str, Any]) -> str:
    """Two lines a task: ours, and lm-eval with its batch size."""
    exact = any("from_exact" in task["ours"] for task in found["tasks"].values())
    rows: list[tuple[str, ...]] = [
        (
            *("task", "examples", "side", "seconds", "ratio", "tokens", "peak MiB", "utilisation"),
            *("metrics", "ties", "|d log p|", "unlike", "from float64" if exact else ""),
        )
    ]
    for name, task in found["tasks"].items():
        apart = task["difference"]
        likelihood, unlike = apart["log_likelihood"], apart["predictions"]
        differing = (
            _nats(likelihood),
            _count(unlike),
        )
        ratio, side = f"{task['ratio']:.2f}x", f"lm-eval, {task['batch_size']}"
        examples = str(task["examples"])
        errors = [_from_exact(task[one].get("from_exact")) for one in ("ours", "lm-eval")]
        rows.append((name, examples, "ours", *_costs(task["ours"], ratio), *differing, errors[0]))
        rows.append(("", "", side, *_costs(task["lm-eval"], ""), "", "", errors[1]))
    loaded = ", ".join(f"{side} {mib(size)} MiB" for side, size in found["loaded"].items())
    return "\n".join([*_head(found), f"resident with the model loaded: {loaded}", *aligned(rows)])


def scaling(found: dict[str, Any]) -> str:
    """One line a task: a quarter of the examples, and all of them."""
    rows = [("task", "examples", "seconds", "ratio", "tokens", "peak MiB")]
    for name, task in found["tasks"].items():
        few, many = task["few"], task["many"]
        rows.append(
            (
                name,
                f"{few['examples']} -> {many['examples']}",
                f"{few['seconds']:.2f} -> {many['seconds']:.2f}",
                f"{task['ratio']:.2f}x",
                f"{few['tokens']} -> {many['tokens']}",
                f"{mib(few['peak'])} -> {mib(many['peak'])}",
            )
        )
    return "\n".join([*_head(found), *aligned(rows)])


def profile(found: dict[str, Any]) -> str:
    """A line an operator that takes a hundredth of the time or more."""
    rows = [("task", "operator", "seconds", "share", "of the rate")]
    for name, task in found["tasks"].items():
        operators = task["operators"]
        whole, products = sum(operators.values()), sum(map(operators.get, MATRIX & {*operators}))
        rate = task["operations"] / products / found["matrix_rate"]
        rows.append((name, "all", f"{whole:.2f}", "100.0%", ""))
        rows.append(("", "products with matrices", *_share(products, whole), f"{rate:.1%}"))
        for one in sorted({*operators} - MATRIX, key=operators.get, reverse=True):
            if operators[one] * 100 >= whole:
                rows.append(("", one, *_share(operators[one], whole), ""))
    return "\n".join([*_head(found), *aligned(rows)])


def _share(seconds: float, whole: float) -> tuple[str, str]:
    return f"{seconds:.2f}", f"{seconds / whole:.1%}"


def _head(found: dict[str, Any]) -> list[str]:
    rate = f"{found['matrix_rate'] / 1e9:.1f} GFLOP/s"
    lines = [f"{found['dtype']}, {found['threads']} threads, matrix products {rate}"]
    if not found["peak_resets"]:
        lines.append("peaks are since each process began: this system does not reset them")
    return lines


def _costs(side: dict[str, Any], ratio: str) -> tuple[str, ...]:
    metrics = ", ".join(f"{name} {value:.6f}" for name, value in side["metrics"].items())
    return (
        *(f"{side['seconds']:.2f}", ratio, str(side["tokens"]), mib(side["peak"])),
        *(f"{side['utilisation']:.1%}", metrics, _count(side["ties"])),
    )


def _count(examples: int | None) -> str:
    return "" if examples is None else str(examples)


def _from_exact(apart: dict[str, Any] | None) -> str:
    if apart is None:
        return ""
    told = _nats(apart["log_likelihood"])
    unlike = apart["predictions"]
    return told if unlike is None else f"{told} {unlike} unlike".lstrip()


def _nats(difference: float | None) -> str:
    return "" if difference is None else f"{difference:.1e}"


def mib(size: int) -> str:
    return f"{size / MIB:.0f}"


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def say(line: str) -> None:
    """Where the work stands, beside the results."""
    print(line, file=sys.stderr, flush=True)
