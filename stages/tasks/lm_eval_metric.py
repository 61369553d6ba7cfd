"""Which metric of an lm-eval task becomes the score of a document."""

from collections.abc import Mapping
from typing import Any

from lm_eval.api import registry
from lm_eval.api.metrics import mean

from stages.config.reading import mistake
from stages.errors import UserError

BITS_PER_BYTE = {"metric": "bits_per_byte"}
"""What every loglikelihood_rolling task is judged by: its perplexities say the same."""


def metrics(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of the task's metric_list, or lm-eval's default for its output_type."""
    output = config.get("output_type", "generate_until")
    if output == "loglikelihood_rolling":
        return [BITS_PER_BYTE]
    return config.get("metric_list") or [
        {"metric": name} for name in registry.DEFAULT_METRIC_REGISTRY[output]
    ]


def name_of(entry: Mapping[str, Any]) -> str:
    """A `!function` goes by its own name."""
    metric = entry["metric"]
    return str(metric.__name__ if callable(metric) else metric)


def choose_metric(key: str, config: Mapping[str, Any], wanted: str | None) -> str:
    """`wanted`, or the first one. Raises UserError where no document has a value of it."""
    entries = {name_of(entry): entry for entry in metrics(config)}
    name = wanted or next(iter(entries))
    if entries.get(name) is BITS_PER_BYTE:
        return name
    fit = [one for one, entry in entries.items() if _is_mean(entry, config)]
    if name in fit:
        return name
    reason = f"{config['task']} has no such metric"
    if name in entries:
        reason = "not a mean over documents of which more is better, by lm-eval's own code"
    instead = f"give one of {', '.join(fit)}" if fit else "nor is any other metric of the task"
    raise UserError(mistake(f"{key}.metric", name, f"{reason}; {instead}"))


def _is_mean(entry: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    metric, aggregation = entry["metric"], entry.get("aggregation")
    if not callable(metric):
        # What lm-eval does not know it would look for on the hub.
        own = callable(config.get("process_results")) or metric in registry.metric_registry
        if not own or entry.get("hf_evaluate"):
            return False
        aggregation = aggregation or registry.get_metric_aggregation(metric)
    if isinstance(aggregation, str):
        aggregation = registry.get_aggregation(aggregation)
    higher = entry.get("higher_is_better")
    if higher is None and not callable(metric):
        higher = registry.is_higher_better(metric)
    return aggregation is mean and bool(higher)
