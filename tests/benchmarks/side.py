"""One side of the comparison, in a process of its own: our scorer or lm-eval's `hf`."""

import gc
import io
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from stages.models import device
from stages.models.attention import attend_in_blocks
from stages.models.causal import CausalTokenizer, decoder, load_causal, longest_input
from stages.models.memory import keep_freed_memory
from stages.models.packed import pack
from stages.scoring.causal import CausalScorer
from stages.scoring.lm_eval_model import LMEvalModel
from stages.scoring.trees import reads_trees

from .exchange import About, Outcome, Profile, Settings
from .host import matrix_rate, peak_memory, reset_peak
from .work import Work

BATCH_TOKENS, WRITTEN_AT_ONCE = 1024, 24
"""As the pipeline has them."""
EXACT = "fp64"
FEWSHOT_SEED = 1234
"""lm-eval's own, for tasks that draw their shots."""


class Side:
    """A model that stays loaded, and the tasks that it is asked."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        self._dtype = torch.float64
        if settings.precision != EXACT:
            self._dtype = device.dtype(settings.precision, torch.device("cpu"))
        make = _ours if settings.ours else _lm_eval
        self._lm, model = make(settings.model, self._dtype)
        self._work = Work(decoder(model), model.get_output_embeddings())
        self._manager = TaskManager(include_path=settings.tasks, include_defaults=False)
        self._tasks: dict[str, Any] = {}
        with torch.inference_mode():
            model(input_ids=torch.tensor([[0, 1]]))  # weights may be read only when they are used
        gc.freeze()  # looking through all that stays takes longer than a small task
        self._resets = reset_peak()
        self._loaded = peak_memory()

    def about(self) -> About:
        return About(
            dtype=str(self._dtype).removeprefix("torch."),
            loaded=self._loaded,
            peak_resets=self._resets,
            tasks=tuple(self._manager.all_subtasks),
        )

    def matrix_rate(self) -> float:
        """Operations a second, in the model's dtype."""
        return matrix_rate(self._dtype)

    def examples(self, name: str) -> int:
        return len(self._task(name).eval_docs)

    def score(self, name: str, limit: int | None, batch_size: int | None) -> Outcome:
        """The first `limit` examples of a task. `batch_size` is lm-eval's."""
        if batch_size is not None:
            self._lm.batch_size_per_gpu = batch_size
        task = self._task(name)
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
        timed = Timed(self._lm)
        self._work.reset()
        found = evaluate(timed, {"tasks": {name: task}}, limit=limit, bootstrap_iters=0)
        return Outcome(
            seconds=timed.seconds,
            tokens=self._work.tokens,
            states=self._work.states,
            operations=self._work.operations,
            peak=timed.peak,
            metrics={
                metric.partition(",")[0]: float(value)
                for metric, value in found["results"][name].items()
                if "," in metric and isinstance(value, float)
            },
            answers=[sample["filtered_resps"] for sample in found["samples"][name]],
        )

    def profile(self, name: str, limit: int | None) -> Profile:
        """Of `score`, which takes longer while it is watched."""
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as watched:
            outcome = self.score(name, limit, None)
        operators = {one.key: one.self_cpu_time_total / 1e6 for one in watched.key_averages()}
        return Profile(operators, outcome.operations)

    def _task(self, name: str) -> Any:
        if name not in self._tasks:
            self._tasks[name] = self._manager.load([name])["tasks"][name]
        return self._tasks[name]


def _ours(folder: Path, dtype: torch.dtype) -> tuple[LM, Any]:
    model = load_causal(folder)
    shared = reads_trees(model)
    model = model.to(dtype)
    pack(model)
    attend_in_blocks(model)
    keep_freed_memory()
    tokenizer = CausalTokenizer(folder, longest_input(model))
    scorer = CausalScorer(model, tokenizer, BATCH_TOKENS, WRITTEN_AT_ONCE, shared)
    return LMEvalModel(scorer, seed=0), model


def _lm_eval(folder: Path, dtype: torch.dtype) -> tuple[LM, Any]:
    from lm_eval.models.huggingface import HFLM  # not what our process is to load

    lm = HFLM(pretrained=str(folder), device="cpu", dtype=dtype)
    return lm, lm.model


class Timed(LM):  # type: ignore[misc]
    """Passes requests on; nothing but the answering is timed."""

    def __init__(self, lm: LM) -> None:
        super().__init__()
        self._lm = lm
        self.seconds = 0.0
        self.peak = 0

    def loglikelihood(self, requests: Sequence[Instance]) -> Any:
        return self._timed(self._lm.loglikelihood, requests)

    def loglikelihood_rolling(self, requests: Sequence[Instance]) -> Any:
        return self._timed(self._lm.loglikelihood_rolling, requests)

    def generate_until(self, requests: Sequence[Instance]) -> Any:
        return self._timed(self._lm.generate_until, requests)

    def _timed(self, ask: Callable[..., Any], requests: Sequence[Instance]) -> Any:
        reset_peak()
        with redirect_stderr(io.StringIO()):  # progress bars
            start = time.perf_counter()
            answers = ask(requests)
            self.seconds += time.perf_counter() - start
        self.peak = max(self.peak, peak_memory())
        return answers
