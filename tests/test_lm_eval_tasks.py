"""Tasks of lm-evaluation-harness through the five stages, against lm-eval's own `hf` model."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import lm_eval
import numpy as np
import pandas as pd
import pytest
import tiny
import tiny_causal
import yaml
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager

from stages import check
from stages.errors import UserError
from stages.models.causal import CausalTokenizer, load_causal, longest_input
from stages.records import pair, read_records, read_table, write_records
from stages.scoring.causal import CausalScorer
from stages.scoring.frame import record_frame
from stages.scoring.lm_eval_case import ASK
from stages.scoring.lm_eval_model import LMEvalModel
from stages.storage import content_id, read_json
from stages.tasks.examples import SPLITS, Examples, Task

CASE, TARGET, FOLDER = "tiny-gpt", "animal-tales", "own/lm"
SIZES = {"validation": 10, "test": 14}
SEED = 20
ROWS = 24
ANIMALS = ("cat", "dog", "fox", "hen", "owl", "pig", "rat", "cow")

UTILS = '''
def tidy(dataset):
    """Not to be done twice: the column is gone."""
    return dataset.rename_column("asked", "question")


def share(references, predictions):
    """Of the letters of the answer, those that are vowels: part of a point."""
    answer = predictions[0].lower()
    return sum(letter in "aeiou" for letter in answer) / max(1, len(answer))


def corpus(items):
    return max(items)
'''
YAMLS = {
    "quiz": """
        task: quiz
        output_type: multiple_choice
        training_split: train
        test_split: test
        fewshot_split: train
        fewshot_config: {sampler: first_n}
        num_fewshot: 2
        process_docs: !function utils.tidy
        doc_to_text: "Q: {{question}}\\nA:"
        doc_to_choice: "{{options}}"
        doc_to_target: right
        metric_list:
          - {metric: acc_norm, aggregation: mean, higher_is_better: true}
          - {metric: acc, aggregation: mean, higher_is_better: true}
        """,
    "gaps": """
        task: gaps
        output_type: multiple_choice
        test_split: test
        doc_to_text: right
        doc_to_choice: "{{['The ' ~ options[0], 'The ' ~ options[1]]}}"
        doc_to_target: "ran home."
        metric_list:
          - {metric: acc}
        """,
    "endings": """
        task: endings
        output_type: loglikelihood
        test_split: test
        doc_to_text: "{{asked}}"
        doc_to_target: " {{options[right]}}"
        metric_list:
          - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
          - {metric: acc, aggregation: mean, higher_is_better: true}
        """,
    "pages": """
        task: pages
        output_type: loglikelihood_rolling
        test_split: test
        doc_to_text: ""
        doc_to_target: "{{page}}"
        """,
    "letters": """
        task: letters
        output_type: generate_until
        validation_split: test
        doc_to_text: "{{asked}}"
        doc_to_target: "{{letter}}"
        generation_kwargs: {until: ["."], max_gen_toks: 12}
        filter_list:
          - name: first
            filter: [{function: regex, regex_pattern: "([a-z])"}, {function: take_first}]
          - name: last
            filter:
              - {function: regex, regex_pattern: "([a-z])", group_select: -1}
              - {function: take_first}
        metric_list:
          - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}
          - {metric: bleu}
        """,
    "vowels": """
        task: vowels
        output_type: generate_until
        test_split: test
        num_fewshot: 3
        fewshot_split: test
        doc_to_text: "{{asked}}"
        doc_to_target: " {{letter}}"
        generation_kwargs: {until: ["."], max_gen_toks: 6, num_beams: 1}
        metric_list:
          - {metric: !function utils.share, aggregation: mean, higher_is_better: true}
        """,
}
ASKED: dict[str, dict[str, Any]] = {
    "quiz": {},
    "gaps": {},
    "endings": {"metric": "acc"},
    "pages": {},
    "letters": {"filter": "last"},
    "vowels": {},
}
"""What params.yaml adds to the task's name."""
METRIC = {
    "quiz": "acc_norm",
    "gaps": "acc",
    "endings": "acc",
    "pages": "bits_per_byte",
    "letters": "exact_match",
    "vowels": "share",
}


def _documents() -> list[dict[str, Any]]:
    tales = tiny_causal.texts()
    return [
        {
            "asked": f"One day the {ANIMALS[number % 8]} saw number {number}, and then the",
            "options": [ANIMALS[(number + step) % 8] for step in (1, 3, 4)],
            "right": number % 2,
            "letter": "aeioustn"[number % 8],
            # One of them is longer than the model.
            "page": " ".join(tales[number : number + 1 + number % 3] * (9 if number == 8 else 1)),
            "day": f"2020-01-{number % 28 + 1:02d}",
        }
        for number in range(ROWS + 8)
    ]


def _write_lm(folder: Path) -> None:
    """YAML files, their code, and 24 documents; the quiz has 8 more to learn from."""
    (folder / "data").mkdir(parents=True)
    (folder / "utils.py").write_text(UTILS, encoding="utf-8")
    documents = _documents()
    splits = {"test": documents[:ROWS], "train": documents[ROWS:]}
    for split, rows in splits.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"data/{split}.jsonl").write_text(text, encoding="utf-8")
    files = ", ".join(f"{split}: {FOLDER}/data/{split}.jsonl" for split in splits)
    for name, told in YAMLS.items():
        lines = [line[8:] for line in told.strip("\n").splitlines()]
        lines += ["dataset_path: json", f"dataset_kwargs: {{data_files: {{{files}}}}}"]
        (folder / f"{name}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _entry(project: Path, task: str, **told: Any) -> dict[str, Any]:
    pin = tiny.pinned(project, FOLDER)["sha256"]
    data = {"reader": "lm-eval", "task": task, "include_path": FOLDER, "sha256": pin, **told}
    return {"kind": "lm-eval", "data": data, "max_length": 256, **SIZES}


def _params(project: Path) -> dict[str, Any]:
    real = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    first = next(iter(real["runs"].values()))
    recipe = {
        key: value for key, value in first.items() if key not in ("head", "head_learning_rate")
    }
    sizes = {"max_length": 128, "train": 30, "validation": 10, "test": 20}
    table = {**tiny.pinned(project, "own/tales.jsonl"), "columns": {"text": "tale"}}
    tasks = {name: _entry(project, name, **told) for name, told in ASKED.items()}
    tasks["quiz"]["train"] = 10
    return {
        "launch": "python",
        "seed": SEED,
        "models": {"gpt": {**tiny.pinned(project, "own/model"), "kind": "causal"}},
        "tasks": {
            TARGET: {"kind": "language-modelling", "data": {"reader": "table", **table}, **sizes},
            **tasks,
        },
        "cases": {CASE: {"model": "gpt", "targets": [TARGET], "retain": list(ASKED)}},
        "runs": {
            "full": {
                **recipe,
                "case": CASE,
                "teacher": f"models/base/{CASE}.json",
                "methods": {},
                "learning_rate": 0.01,
                "steps": 10,
                "batch_size": 8,
                "precision": "fp32",
                "validate_every": 10,
                "validation_rows": 10,
                "checkpoint_every": 50,
                "seeds": [0],
            }
        },
        "variants": {"full": []},
        "evaluation": {
            **real["evaluation"],
            "precision": "fp32",
            "batch_tokens": 1024,
            "noise_repeats": 2,
            "noise": {"tasks": "all", "conditions": ["typos-0.1"]},
        },
        "compare": {**real["compare"], "resamples": 200},
    }


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that no stage has run in."""
    folder = tmp_path_factory.mktemp("sources")
    tiny_causal.write_sources(folder)
    _write_lm(folder / FOLDER)
    tiny.write_params(folder, _params(folder))
    return folder


@pytest.fixture(scope="module")
def project(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five stages, run in this process. The documents are gone once they are prepared."""
    folder = tmp_path_factory.mktemp("walk") / "project"
    tiny._copy(sources, folder)
    with pytest.MonkeyPatch.context() as patch, tiny.one_thread():
        patch.chdir(folder)
        check.check()
        tiny.run_stage("prepare", CASE)
        patch.setattr(datasets, "load_dataset", None)
        tiny.run_stage("pretrain_baseline_eval", CASE)
        tiny.run_stage("finetune", "full")
        tiny.run_stage("retention_eval", "full")
        tiny.run_stage("compare")
    return folder


Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def evaluate(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evaluate]:
    """lm-eval by its own front door."""

    def evaluated(tasks: list[str], **model: Any) -> dict[str, Any]:
        found: dict[str, Any] = lm_eval.simple_evaluate(
            tasks=tasks,
            task_manager=TaskManager(include_path=FOLDER, include_defaults=False),
            device="cpu",
            batch_size=1,
            bootstrap_iters=0,
            fewshot_random_seed=SEED,
            **model,
        )
        return found

    with pytest.MonkeyPatch.context() as patch, tiny.one_thread():
        patch.chdir(project)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield evaluated


@pytest.fixture(scope="module")
def oracle(evaluate: Evaluate) -> dict[str, Any]:
    """lm-eval's stock model on the same weights and tasks, whole texts without a second BOS."""
    stock = {"pretrained": "own/model", "dtype": "float32"}
    found = evaluate([task for task in YAMLS if task != "pages"], model="hf", model_args=stock)
    bare = {**stock, "add_bos_token": False}
    texts = evaluate(["pages"], model="hf", model_args=bare)
    return {key: {**found[key], **texts[key]} for key in ("results", "samples")}


def _records(project: Path, task: str, who: str = "base") -> pd.DataFrame:
    """All that were asked once, by example."""
    records, _ = read_table(project / f"metrics/records/{CASE}/{who}.parquet")
    chosen = records[(records["task"] == task) & (records["condition"] == "clean")]
    return chosen.set_index("example_id")


def _rows(project: Path, task: str, split: str = "test") -> pd.DataFrame:
    return pd.read_parquet(project / f"data/{CASE}/retain/{split}/{task}.parquet")


def _samples(oracle: dict[str, Any], task: str, chosen: str | None = None) -> dict[str, Any]:
    """Of each document, by the name that it goes by here."""

    def identity(document: dict[str, Any]) -> str:
        text = json.dumps(document, ensure_ascii=False, default=lambda day: day.isoformat())
        return content_id(text)

    samples = oracle["samples"][task]
    return {
        identity(one["doc"]): one for one in samples if chosen is None or one["filter"] == chosen
    }


@pytest.mark.parametrize("task", ["quiz", "gaps", "endings"])
def test_likelihoods_and_scores_are_lm_evals(
    project: Path, oracle: dict[str, Any], task: str
) -> None:
    records, samples = _records(project, task), _samples(oracle, task)
    assert len(records) == ROWS
    assert set(records.index) == set(samples)
    for identity, sample in samples.items():
        record = records.loc[identity]
        expected = [float(response[0][0]) for response in sample["resps"]]
        found = [-record["nll"]] if task == "endings" else list(record["choice_logprobs"])
        assert found == pytest.approx(expected, abs=1e-4)
        assert record["score"] == sample[METRIC[task]]
    assert records["score"].mean() == oracle["results"][task][f"{METRIC[task]},none"]
    assert set(records["chance"]) == {{"quiz": 1 / 3, "gaps": 1 / 2, "endings": 0.0}[task]}
    if task != "endings":  # a random model continues nothing as it should
        assert set(records["score"]) == {0.0, 1.0}


def test_text_is_measured_in_lm_evals_bits_per_byte(project: Path, oracle: dict[str, Any]) -> None:
    records, samples = _records(project, "pages"), _samples(oracle, "pages")
    assert records["score"].isna().all()
    assert records["tokens"].max() > 256  # in windows
    for identity, sample in samples.items():
        assert -records["nll"][identity] == pytest.approx(float(sample["resps"][0][0]), abs=1e-3)
        assert records["bytes"][identity] == len(sample["doc"]["page"].encode())
    found = records["nll"].sum() / math.log(2) / records["bytes"].sum()
    expected = oracle["results"]["pages"]["bits_per_byte,none"]
    assert found == pytest.approx(expected, rel=1e-6)


def test_answers_are_filtered_as_lm_eval_does(project: Path, oracle: dict[str, Any]) -> None:
    records, samples = _records(project, "letters"), _samples(oracle, "letters", "last")
    assert set(records.index) == set(samples)
    for identity, sample in samples.items():
        assert records["prediction"][identity] == sample["resps"][0][0].strip()
        assert records["target"][identity] == sample["target"]
        assert records["score"][identity] == sample["exact_match"]
    assert set(records["score"]) == {0.0, 1.0}
    assert oracle["results"]["letters"]["exact_match,first"] != records["score"].mean()


def test_lm_eval_itself_finds_the_same_with_our_scorer(
    project: Path, oracle: dict[str, Any], evaluate: Evaluate
) -> None:
    """Few-shot examples drawn its own way, and every filter and metric."""
    folder = project / "own/model"
    model = load_causal(folder)
    tokenizer = CausalTokenizer(folder, longest_input(model))
    scorer = CausalScorer(model, tokenizer, batch_tokens=1024, batch_size=8, shared=True)
    found = evaluate(list(YAMLS), model=LMEvalModel(scorer, SEED))["results"]
    figures = 0
    for task, expected in oracle["results"].items():
        for name, value in expected.items():
            if isinstance(value, float):
                assert found[task][name] == pytest.approx(value, rel=1e-5), (task, name)
                figures += 1
    assert figures >= len(YAMLS) + 3


def test_a_metric_may_give_part_of_a_point(project: Path) -> None:
    records = _records(project, "vowels")
    assert records["score"].between(0, 1, inclusive="neither").any()
    told = read_json(project / "metrics/scores.json")[CASE]["full"]["vowels"]
    assert told["share"]["value"] == pytest.approx(
        _records(project, "vowels", "full").query("split == 'test'")["score"].mean(), abs=6e-5
    )
    assert told["drop"]["mcnemar_p"] == []
    assert told["drop"]["flips"] == {}


def test_base_and_run_pair_by_document(project: Path) -> None:
    base, about = read_table(project / f"metrics/records/{CASE}/base.parquet")
    run, _ = read_table(project / f"metrics/records/{CASE}/full.parquet")
    joined = pair(base[base["condition"] != "rescored"], run)
    assert len(joined) == (run["split"] != "train").sum()
    assert {name: about["tasks"][name]["metric"] for name in ASKED} == METRIC
    assert about["tasks"][TARGET]["metric"] is None
    assert set(run["condition"]) == {"clean"}  # no noise on tasks of this kind
    for task in ASKED:
        splits = {split: set(_rows(project, task, split)["example_id"]) for split in SPLITS}
        assert {split: len(ids) for split, ids in splits.items()} == {
            **SIZES,
            "train": 8 if task == "quiz" else 0,
        }
        assert len(set.union(*splits.values())) == sum(map(len, splits.values()))
        assert set(_records(project, task, "full").index) == splits["test"] | splits["validation"]


def test_the_report_names_the_metric(project: Path) -> None:
    report = (project / "metrics/report.md").read_text(encoding="utf-8")
    for named in ("% acc\\_norm |", "% exact match |", "% share", "bits/byte"):
        assert named in report
    card = read_json(project / f"metrics/cards/{CASE}.json")["tasks"]["letters"]
    assert card["data"]["metric"] == "exact_match"
    assert card["data"]["source"] == f"file:{FOLDER}"


def test_target_rows_that_stand_in_a_test_text_are_out(project: Path) -> None:
    tales, pages = tiny_causal.texts(), _rows(project, "pages")
    shown = [tale for tale in tales if any(tale in page for page in pages["text"])]
    train = pd.read_parquet(project / f"data/{CASE}/target/train/{TARGET}.parquet")
    assert shown
    assert not set(shown) & set(train["text"])
    removed = read_json(project / f"metrics/cards/{CASE}.json")["tasks"][TARGET]["overlap_removed"]
    assert removed["exact"] > 0
    assert removed["13-gram"] > 0


Edit = Callable[[Path, dict[str, Any]], None]
"""Of the folder of YAML files, and of the task's entry in params.yaml."""


def _edited(sources: Path, folder: Path, task: str, edit: Edit) -> Path:
    """A copy of the project whose case retains `task` and another one."""
    tiny._copy(sources, folder)
    params = tiny.read_params(folder)
    edit(folder / FOLDER, params["tasks"][task])
    for entry in params["tasks"].values():
        if "include_path" in entry["data"]:
            entry["data"]["sha256"] = tiny.pinned(folder, FOLDER)["sha256"]
    params["cases"][CASE]["retain"] = [task, "gaps" if task != "gaps" else "quiz"]
    tiny.write_params(folder, params)
    return folder


@pytest.fixture
def prepare(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str, Edit], Path]]:
    def prepared(task: str, edit: Edit) -> Path:
        folder = tmp_path / f"project-{len(list(tmp_path.iterdir()))}"
        monkeypatch.chdir(_edited(sources, folder, task, edit).resolve())
        check.check()
        tiny.run_stage("prepare", CASE)
        return folder

    with tiny.one_thread():
        yield prepared


def _nothing(folder: Path, entry: dict[str, Any]) -> None:
    pass


def _replace(old: str, new: str, file: str) -> Edit:
    def edit(folder: Path, entry: dict[str, Any]) -> None:
        text = (folder / file).read_text(encoding="utf-8")
        assert old in text
        (folder / file).write_text(text.replace(old, new), encoding="utf-8")

    return edit


def _add(file: str, text: str) -> Edit:
    def edit(folder: Path, entry: dict[str, Any]) -> None:
        (folder / file).write_text(text, encoding="utf-8")

    return edit


def _set(**values: Any) -> Edit:
    """Of the entry, where `values` names a size, else of its data."""

    def edit(folder: Path, entry: dict[str, Any]) -> None:
        for key, value in values.items():
            (entry if key in entry else entry["data"])[key] = value

    return edit


def _both(*edits: Edit) -> Edit:
    def edit(folder: Path, entry: dict[str, Any]) -> None:
        for one in edits:
            one(folder, entry)

    return edit


def _prompts(project: Path, task: str) -> dict[str, str]:
    rows = pd.concat([_rows(project, task, split) for split in ("test", "validation")])
    return {
        str(row["example_id"]): str(json.loads(row["requests"])[0][0])
        for row in rows.to_dict("records")
    }


def test_preparing_again_gives_the_same(
    project: Path, prepare: Callable[[str, Edit], Path]
) -> None:
    again = prepare("vowels", _nothing)
    for split in ("test", "validation"):
        assert _rows(again, "vowels", split).equals(_rows(project, "vowels", split))


def test_neither_order_nor_other_documents_matter(
    project: Path, prepare: Callable[[str, Edit], Path]
) -> None:
    def turn(folder: Path, entry: dict[str, Any]) -> None:
        lines = (folder / "data/test.jsonl").read_text(encoding="utf-8").splitlines()
        text = "\n".join([*lines[::-1], lines[0]]) + "\n"
        (folder / "data/test.jsonl").write_text(text, encoding="utf-8")

    before, after = _rows(project, "quiz"), _rows(prepare("quiz", turn), "quiz")
    assert after.equals(before)
    assert read_json(Path(f"metrics/cards/{CASE}.json"))["tasks"]["quiz"]["duplicates"] == 1


def test_another_seed_takes_other_documents_and_examples(
    project: Path, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _edited(sources, tmp_path / "project", "vowels", _nothing)
    tiny.edit_params(folder, seed=SEED + 1)
    monkeypatch.chdir(folder)
    tiny.run_stage("prepare", CASE)
    before, after = (set(_rows(at, "vowels")["example_id"]) for at in (project, folder))
    assert before != after
    assert _prompts(project, "vowels") != _prompts(folder, "vowels")


def test_few_shot_examples_are_other_documents(
    project: Path, prepare: Callable[[str, Edit], Path]
) -> None:
    """Also where lm-eval would show a document as its own example: with a validation split."""
    leaky = "validation_split: test\nfewshot_split: test"
    edit = _both(_replace("validation_split: test", leaky, "letters.yaml"), _set(num_fewshot=3))
    for task, at in (("vowels", project), ("letters", prepare("letters", edit))):
        prompts = _prompts(at, task)
        assert len(prompts) == ROWS
        for prompt in prompts.values():
            numbers = re.findall(r"number (\d+),", prompt)
            assert len(numbers) == len(set(numbers)) == 4
        assert len({prompt.split("\n\n")[0] for prompt in prompts.values()}) > 3


def test_examples_do_not_change_what_a_document_is_called(
    project: Path, prepare: Callable[[str, Edit], Path]
) -> None:
    asked = prepare("quiz", _set(num_fewshot=0))
    assert set(_prompts(asked, "quiz")) == set(_prompts(project, "quiz"))
    for identity, prompt in _prompts(asked, "quiz").items():
        longer = _prompts(project, "quiz")[identity]
        assert longer.endswith(prompt)
        assert longer.count("Q: ") == 3


FROM_HUB = _replace("dataset_path: json", "dataset_path: someone/quiz", "quiz.yaml")
REFUSED: list[tuple[str, Edit, str]] = [
    ("quiz", _set(task="quizz"), "tasks.quiz.data.task = 'quizz': no YAML of own/lm has it; did"),
    (
        "quiz",
        _both(_set(task="everything"), _add("all.yaml", "group: everything\ntask: [quiz, gaps]\n")),
        "tasks.quiz.data.task = 'everything': a group of tasks: give each its own entry: gaps, ",
    ),
    (
        "endings",
        lambda folder, entry: entry["data"].pop("metric"),
        "tasks.endings.data.metric = 'perplexity': not a mean over documents of which more is "
        "better, by lm-eval's own code; give one of acc",
    ),
    ("letters", _set(metric="bleu"), "'bleu': not a mean over documents"),
    (
        "letters",
        _set(metric="rouge"),
        "'rouge': letters has no such metric; give one of exact_match",
    ),
    (
        "vowels",
        _replace("aggregation: mean", "aggregation: !function utils.corpus", "vowels.yaml"),
        "'share': not a mean over documents of which more is better, by lm-eval's own code; nor is",
    ),
    (
        "letters",
        _set(filter="firs"),
        "tasks.letters.data.filter = 'firs': no filter of letters: give one of first, last",
    ),
    (
        "quiz",
        FROM_HUB,
        "tasks.quiz.data.revision = None: someone/quiz is a data set of the hub: give a commit",
    ),
    (
        "quiz",
        _set(revision=40 * "0"),
        "tasks.quiz.data.revision = '0000000000000000000000000000000000000000': quiz loads nothing",
    ),
    (
        "quiz",
        _replace("own/lm/data/test.jsonl", "own/tales.jsonl", "quiz.yaml"),
        "tasks.quiz.data.include_path = 'own/lm': own/tales.jsonl lies outside of it",
    ),
    (
        "quiz",
        _both(
            _replace("dataset_path: json", "dataset_path: own/lm", "quiz.yaml"),
            _add("lm.py", "open('was-run', 'w')\n"),
        ),
        "tasks.quiz.data.task = 'quiz': Dataset scripts are no longer supported, but found lm.py",
    ),
    (
        "letters",
        _replace("task: letters", "task: letters\nunsafe_code: true", "letters.yaml"),
        "tasks.letters.data.task = 'letters': it runs code that the model wrote",
    ),
    ("letters", _set(max_length=12), "tasks.letters.max_length = 12: letters writes up to 12"),
    (
        "vowels",
        _replace("max_gen_toks: 6", "max_new_tokens: 600", "vowels.yaml"),
        ".max_length = 256: vowels writes up to 600",
    ),
    (
        "vowels",
        _replace(", max_gen_toks: 6", "", "vowels.yaml"),
        ".max_length = 256: vowels writes up to 256",
    ),
    (
        "letters",
        _replace("max_gen_toks: 12", "max_gen_toks: 12, num_beams: 4", "letters.yaml"),
        "tasks.letters.data.task = 'letters': its generation_kwargs have num_beams: 4, which",
    ),
    ("pages", _set(num_fewshot=2), "tasks.pages.data.num_fewshot = 2: pages is asked without"),
    ("quiz", _set(test=ROWS), "task quiz: no documents are left for validation: 24 distinct ones"),
    (
        "quiz",
        _replace('rename_column("asked"', 'rename_column("never"', "utils.py"),
        "tasks.quiz.data.task = 'quiz': Original column name never not in the dataset",
    ),
    (
        "vowels",
        _replace("/ max(1, len(answer))", "+ 7", "utils.py"),
        "tasks.vowels.data.task = 'vowels': share is 7, no number from 0 to 1",
    ),
]


@pytest.mark.parametrize(("task", "edit", "said"), REFUSED, ids=[said[:50] for *_, said in REFUSED])
def test_prepare_refuses_in_one_line(
    prepare: Callable[[str, Edit], Path], task: str, edit: Edit, said: str
) -> None:
    with pytest.raises(UserError) as refused:
        prepare(task, edit)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not Path("data").exists()
    assert not Path("was-run").exists()


def test_a_folder_that_changed_is_refused(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By scoring too, which runs its code again."""
    folder = tmp_path / "project"
    tiny._copy(project, folder)
    utils = folder / FOLDER / "utils.py"
    utils.write_text(utils.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    for stage in ("prepare", "pretrain_baseline_eval"):
        with pytest.raises(UserError, match=r"file:own/lm: expected sha256 \w+, got"):
            tiny.run_stage(stage, CASE)


def test_what_asked_must_judge(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("stages.tasks.lm_eval_task.version", lambda _: "9.9")
    with pytest.raises(UserError, match=r"prepared with lm-eval 0\.4\.\d+, but 9\.9 is installed"):
        tiny.run_stage("pretrain_baseline_eval", CASE)


@pytest.mark.parametrize("stage", ["prepare", "pretrain_baseline_eval"])
def test_without_the_extra(project: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError) as refused:
        tiny.run_stage(stage, CASE)
    assert re.sub(r"^task \S+: ", "", str(refused.value)) == (
        "tasks of kind lm-eval need lm-evaluation-harness: pip install '.[harness]'"
    )


def test_only_such_a_task_loads_lm_eval(environment: dict[str, str]) -> None:
    program = (
        "import sys, stages.prepare, stages.pretrain_baseline_eval, stages.retention_eval\n"
        "sys.exit('lm_eval' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tiny.ROOT, env=environment)
    assert done.returncode == 0


def test_a_hub_that_cannot_be_reached_fails_in_prepare(
    sources: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    edit = _both(FROM_HUB, _set(revision=40 * "0"))
    folder = _edited(sources, tmp_path / "project", "quiz", edit)
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONPATH": str(tiny.ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "stages.prepare", CASE],
        cwd=folder,
        env={**environment, **offline},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(told) == 1
    assert told[0].startswith("error: tasks.quiz.data.task = 'quiz': Couldn't reach 'someone/quiz'")


@pytest.mark.parametrize(
    ("role", "change", "said"),
    [
        (
            "retain",
            {"sha256": None},
            "tasks.quiz.data.sha256 = None: include_path 'own/lm' needs a",
        ),
        ("retain", {"include_path": None}, "': pins include_path, which is not given"),
        ("retain", {"revision": "main"}, "tasks.quiz.data.revision = 'main': "),
        ("retain", {"num_fewshots": 1}, "num_fewshots = 1: unknown key; did you mean num_fewshot?"),
        ("targets", {}, f"cases.{CASE}.targets = 'quiz': no target: lm-eval says how to ask"),
    ],
)
def test_params_that_are_refused(
    sources: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    role: str,
    change: dict[str, Any],
    said: str,
) -> None:
    params = tiny.read_params(sources)
    params["tasks"]["quiz"]["data"].update(change)
    if role == "targets":
        params["cases"][CASE] = {"model": "gpt", "targets": ["quiz"], "retain": ["gaps", "pages"]}
    monkeypatch.chdir(tmp_path)
    tiny.write_params(tmp_path, params)
    with pytest.raises(UserError) as refused:
        check.check()
    assert said in str(refused.value)


def test_tasks_of_lm_evals_own(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hellaswag, whose YAML names a function; its data set stands in for the hub's."""
    revision = 40 * "a"
    asked: list[dict[str, Any]] = []

    def load(path: str, name: str | None, **kwargs: Any) -> datasets.DatasetDict:
        asked.append({"path": path, **kwargs})
        rows = [
            {
                "ctx_a": f"The {ANIMALS[number % 8]} runs {number} times.",
                "ctx_b": "the dog",
                "activity_label": "Running",
                "endings": ["sees it. [title]", "sleeps.", "eats.", "sings."],
                "label": str(number % 4),
            }
            for number in range(ROWS)
        ]
        return datasets.DatasetDict(
            {split: datasets.Dataset.from_list(rows) for split in ("train", "validation")}
        )

    def own(folder: Path, entry: dict[str, Any]) -> None:
        entry["data"] = {"reader": "lm-eval", "task": "hellaswag", "revision": revision}
        entry["data"]["metric"] = "acc_norm"

    folder = _edited(sources, tmp_path / "project", "quiz", own)
    monkeypatch.chdir(folder)
    with monkeypatch.context() as patch:
        hub = datasets.load_dataset
        patch.setattr(
            datasets,
            "load_dataset",
            lambda path, name=None, **told: (hub if path == "json" else load)(path, name, **told),
        )
        tiny.run_stage("prepare", CASE)
    (told,) = asked
    assert told["revision"] == revision
    assert "trust_remote_code" not in told
    with tiny.one_thread():
        tiny.run_stage("pretrain_baseline_eval", CASE)
    row = _rows(folder, "quiz").iloc[0]
    assert row["text"].startswith("Running: The ")  # process_docs was there
    assert list(row["choices"])[1:] == ["sleeps.", "eats.", "sings."]
    assert set(_records(folder, "quiz").query("split == 'test'").index) == set(
        _rows(folder, "quiz")["example_id"]
    )
    card = read_json(Path(f"metrics/cards/{CASE}.json"))["tasks"]["quiz"]["data"]
    assert card["source"] == f"hf:datasets/{told['path']}"
    params = tiny.read_params(folder)
    params["tasks"]["quiz"]["data"]["task"] = "mmlu"
    tiny.write_params(folder, params)
    with pytest.raises(UserError, match=r"'mmlu': a group of tasks: .*mmlu_abstract_algebra, "):
        tiny.run_stage("prepare", CASE)


def test_likelihoods_of_several_right_answers_and_of_none_can_be_read_again(
    tmp_path: Path,
) -> None:
    """Shares that sum to one give -2e-16 nats; a document without a right answer has none."""
    draw = np.random.default_rng(0)
    rows = pd.DataFrame({"target": ["a"] * 40, "choices": [["a", "b", "c"]] * 40})
    rows = rows.assign(example_id=[f"e{n}" for n in range(40)], group="g", slice="all")

    def read_again(answers: list[list[int]]) -> pd.DataFrame:
        asked = Examples(Task("t", "lm-eval", 16, (), {"metric": "acc"}), rows)
        asked.rows["answers"] = answers
        found = SimpleNamespace(
            logprobs=draw.normal(-3, 2, 120),
            **dict.fromkeys(("greedy", "truncated", "tokens"), np.zeros(120, dtype=int)),
        )
        model: Any = SimpleNamespace(likelihoods=lambda _: found)
        texts = [("q", f" {choice}") for choice in "abc"]
        requests = [
            [Instance("loglikelihood", {}, text, n) for n, text in enumerate(texts)]
            for _ in answers
        ]
        for one in chain(*requests):
            one.repeats = 1
        columns = ASK["multiple_choice"](model, requests, asked)
        del columns["truncated"]
        write_records(tmp_path / "r.parquet", record_frame(asked, "test", **columns), {})
        return read_records(tmp_path / "r.parquet")[0]

    assert read_again([[0, 1, 2]] * 40)["nll"].between(0, 1e-9).all()
    assert read_again([[]] + [[1]] * 39)["nll"].isna().all()
    assert (read_again([[1]] * 40)["nll"] > 0).all()
