"""A task of lm-evaluation-harness: the YAML that says what it is, and the object that judges."""

import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import lm_eval.tasks
import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from stages.errors import UserError
from stages.sources.pinned import open_source
from stages.tasks.examples import Task
from stages.tasks.lm_eval_metric import metrics, name_of

BUILT_IN = Path(lm_eval.tasks.__file__).parent

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of its own defaults


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn whatever lm-eval, `datasets` or the code of a task raises into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(f"{what}: {(lines or [type(error).__name__])[0]}") from error


@contextmanager
def definitions(include_path: str | None, sha256: str | None) -> Iterator[Path]:
    """The folder of YAML files, with the code that they name: lm-eval's own, or the user's.

    The user's is read again by every stage and checked against its sha256, as the files of a
    model are: an out of DVC would be a second copy of what params.yaml pins. Code is run from a
    copy of the checked bytes, since running it in place would leave `__pycache__` in the folder,
    and the folder would no longer be what its sha256 says.
    """
    if include_path is None:
        yield BUILT_IN
        return
    source = open_source(f"file:{include_path}", sha256=sha256)
    with TemporaryDirectory() as temporary:
        for name in source.names():
            path = Path(temporary, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read(name))
        yield Path(temporary)


def read_config(path: Path) -> dict[str, Any]:
    """A task's YAML with what it includes; `!function` tags are functions."""
    return dict(load_yaml(path))


def make_task(config: Mapping[str, Any], documents: Sequence[Any] | None = None) -> Any:
    """lm-eval's task of a config; with `documents`, they stand for all of its splits."""

    class Given(ConfigurableTask):  # type: ignore[misc]
        def download(self, *_: Any, **__: Any) -> None:
            given = datasets.Dataset.from_list(list(documents or ()))
            self.dataset: dict[str, Any] = defaultdict(lambda: given)

    kept = {key: value for key, value in config.items() if key not in ("tag", "group", "task_list")}
    return (ConfigurableTask if documents is None else Given)(config=kept)


@contextmanager
def open_judge(task: Task) -> Iterator[Any]:
    """The task as `prepare` made it, for `judge`: without a network and without its data.

    Raises UserError where lm-eval is not the version that the data were prepared with: what asked
    must also judge, and base and run alike.
    """
    options = task.options
    expected, found = options["lm_eval"], version("lm_eval")
    if found != expected:
        raise UserError(
            f"task {task.name}: prepared with lm-eval {expected}, but {found} is installed: "
            f"install lm-eval=={expected}, or run prepare again"
        )
    with definitions(options["include_path"], options["sha256"]) as root:
        with told(f"task {task.name}"):
            config = read_config(root / options["file"])
            # Its documents are ready, and no examples are drawn any more.
            done = {"process_docs": None, "fewshot_config": None, "custom_dataset": None}
            chosen = narrowed(config, options["metric"], options["filter"])
            # lm-eval concludes from its first document whether there may be several answers.
            made = make_task({**chosen, **done}, [json.loads(options["first"])])
        yield made


def instances(task: Any, document: Any, requests: Sequence[Sequence[Any]]) -> list[Instance]:
    """What is asked about one document. `requests`: their arguments."""
    kind = "loglikelihood" if task.OUTPUT_TYPE == "multiple_choice" else task.OUTPUT_TYPE
    about = (task.config.task, 0, task.config.repeats)
    return [
        Instance(request_type=kind, doc=document, arguments=tuple(one), idx=index, metadata=about)
        for index, one in enumerate(requests)
    ]


def judge(task: Any, asked: Sequence[Sequence[Instance]]) -> list[dict[str, Any]]:
    """Filter the answers (`resps`) of the instances of each document; lm-eval's results of each."""
    task._instances = [instance for of_document in asked for instance in of_document]
    task.apply_filters()
    results = []
    for of_document in asked:
        (name,) = of_document[0].filtered_resps  # `narrowed` leaves one filter
        answers = [instance.filtered_resps[name] for instance in of_document]
        results.append(task.process_results(of_document[0].doc, answers))
    return results


def score_of(results: Mapping[str, Any], metric: str) -> float:
    """The metric of one document. Raises ValueError where it is no number from 0 to 1."""
    value = results[metric]
    if not isinstance(value, int | float | np.number | np.bool_) or not 0 <= value <= 1:
        raise ValueError(f"{metric} is {value!r}, no number from 0 to 1")
    return float(value)


def narrowed(config: Mapping[str, Any], metric: str, chosen: str | None) -> dict[str, Any]:
    """The config with one metric and one filter (None: lm-eval's default)."""
    found = {**config, "metric_list": [one for one in metrics(config) if name_of(one) == metric]}
    if chosen is not None:
        found["filter_list"] = [one for one in config["filter_list"] if one["name"] == chosen]
    return found
