"""make study: what it runs, in a workspace of its own, and its table from its records alone."""

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
import tiny_causal
import yaml
from tiny_causal import CASE

from stages import check, study
from stages.config.study import chosen, laid_over, read_study, runs_of
from stages.errors import UserError
from stages.records import read_records, read_table
from stages.report import study as report
from stages.report.frontier import frontier_among
from stages.statistics.frontier import Frontier
from stages.statistics.measures import SPEARMAN, values
from stages.storage import read_json

WISE = ["wise-0.25", "wise-0.5", "wise-0.75"]


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the real params.yaml and the real study."""
    shutil.copy(tiny.ROOT / "params.yaml", tmp_path)
    shutil.copytree(tiny.ROOT / "studies", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_study_is_sound(real: Path) -> None:
    asked = read_study("frontier")
    runs, params = runs_of(asked), laid_over(asked)
    assert params["runs"].keys() == runs.keys() == params["variants"].keys()
    counts = {case: sum(run.case == case for run in runs.values()) for case in asked.cases}
    # Eight methods (WiSE-FT trains nothing) at three rates and three seeds; five at two.
    assert counts == {"medical-bert": 72, "news-gpt": 30, "sentiment-bert": 72}
    seeds = {run.recipe: set[int]() for run in runs.values()}
    for run in runs.values():
        seeds[run.recipe].add(run.seed)
        assert run.settings["seeds"] == [run.seed]
        assert params["variants"][f"{run.recipe}-s{run.seed}"] == (
            WISE if run.method == "full" else []
        )
    assert all(found == {0, 1, 2} for found in seeds.values())
    assert runs["medical-bert-full-5e-5-s0"].settings["learning_rate"] == 5e-5
    assert runs["medical-bert-lp-ft-1e-4-s2"].settings["head"] == "probe"
    tiny.write_params(real, params)
    check.check()


def test_margins_of_other_cases_are_no_mistake_of_the_study(real: Path) -> None:
    params = tiny.read_params(real)
    params["compare"]["gate"]["margins"] = {"capitals": 0.1, "news-retrieval": 0.2}
    tiny.write_params(real, params)
    laid = laid_over(read_study("sequence"))
    retained = {task for case in laid["cases"].values() for task in case["retain"]}
    kept = {"news-retrieval": 0.2} if "news-retrieval" in retained else {}
    assert "capitals" not in retained
    assert laid["compare"]["gate"]["margins"] == kept
    tiny.write_params(real, laid)
    check.check()


def test_the_study_of_a_sequence_is_sound(real: Path) -> None:
    asked = read_study("sequence")
    runs, params = runs_of(asked), laid_over(asked)
    tiny.write_params(real, params)
    check.check()
    assert len(runs) == 2 * 3 * 3
    for seed in asked.seeds:
        for method in ("full", "replay"):
            way = [f"sequence-bert-{method}-1e-4-{step}" for step in (1, 2, 3)]
            for number, recipe in enumerate(way):
                run = runs[f"{recipe}-s{seed}"]
                assert run.steps == tuple(way[: number + 1])
                assert (
                    run.settings["learns"]
                    == params["cases"]["sequence-bert"]["targets"][number : number + 1]
                )
                begun = {"teacher": f"models/tuned/{way[number - 1]}-s{seed}", "starts": "teacher"}
                base = {"teacher": "models/base/sequence-bert.json"}
                assert (begun if number else base).items() <= run.settings.items()
                replayed = run.settings["methods"].get("replay", {}).get("tasks", [])
                learned = params["cases"]["sequence-bert"]["targets"][:number]
                assert replayed == (learned if method == "replay" else [])


def test_a_recipe_for_each_step(real: Path) -> None:
    path = real / "studies/sequence.yaml"
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    told["cases"]["sequence-bert"]["methods"]["replay"]["steps"] = [{}]
    path.write_text(yaml.safe_dump(told), encoding="utf-8")
    with pytest.raises(UserError) as refused:
        read_study("sequence")
    assert str(refused.value) == (
        "studies/sequence.yaml: cases.sequence-bert.methods.replay.steps = 1 recipes: the sequence "
        "has 3 steps: give one for each"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seeds": [0, 0]}, "studies/frontier.yaml: seeds = [0, 0]: duplicate seed"),
        ({"sedes": [0]}, "studies/frontier.yaml: sedes = [0]: unknown key; did you mean seeds?"),
        ({"cases": {"other": 0}}, "studies/frontier.yaml: cases.other = 0: give keys with values"),
    ],
)
def test_mistakes_name_the_studys_file(real: Path, change: dict[str, Any], said: str) -> None:
    path = real / "studies/frontier.yaml"
    told = {**yaml.safe_load(path.read_text(encoding="utf-8")), **change}
    path.write_text(yaml.safe_dump(told), encoding="utf-8")
    with pytest.raises(UserError) as refused:
        read_study("frontier")
    assert str(refused.value) == said


def test_what_is_not_there(real: Path) -> None:
    with pytest.raises(UserError, match=r"^studies/fronteer\.yaml: not there, or no text; did you"):
        study.main("fronteer")
    with pytest.raises(UserError, match=r"STUDY=\.\./params: give the name of a file of studies"):
        study.main("../params")
    with pytest.raises(UserError, match="CASES=news: not in the study; did you mean news-gpt"):
        study.main("frontier", "news")
    with pytest.raises(UserError, match="SEEDS=7: not in the study"):
        study.main("frontier", "news-gpt", "0 7")
    with pytest.raises(UserError, match="no records of a study; run `make study`"):
        report.write_pages()
    assert chosen("c, a", ["a", "b", "c"], "CASES") == ["a", "c"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of two methods, one with a variant, and of the base with a prompt; compared."""
    folder = tmp_path_factory.mktemp("study")
    tiny_causal.write_sources(folder)
    params = tiny_causal.make_params(folder)
    params["runs"] = {run: params["runs"][run] for run in ("full", "lora")}
    params["variants"] = {"full": ["wise-0.5"], "lora": []}
    params["cases"][CASE]["shots"] = 2
    tiny.write_params(folder, params)
    with pytest.MonkeyPatch.context() as patch, tiny.one_thread():
        patch.chdir(folder)
        tiny.run_stage("prepare", CASE)
        tiny.run_stage("pretrain_baseline_eval", CASE)
        for run in params["runs"]:
            tiny.run_stage("finetune", run)
            tiny.run_stage("retention_eval", run)
        tiny.run_stage("compare")
    return folder


def kept_of(done: Path) -> list[Any]:
    """What is kept of the base and of both runs, and what is told of them."""
    base, about = read_records(done / f"metrics/records/{CASE}/base.parquet")
    parts = [report.compact(base, report.BASE)]
    for run in ("full", "lora"):
        records, _ = read_records(done / f"metrics/records/{CASE}/{run}.parquet")
        parts.append(report.compact(records, run))
    compare = tiny.read_params(done)["compare"]
    told = {
        "tasks": about["tasks"],
        "methods": {"full": "full", "lora": "lora"},
        "seen": [],
        "settings": {**{key: compare[key] for key in ("confidence", "resamples")}, "seed": 20},
        "git": "0123456789ab",
    }
    return [*parts, told]


def test_the_table_comes_from_the_compact_records_alone(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its attempts are those of compare, which had the whole records."""
    monkeypatch.chdir(tmp_path)
    *parts, told = kept_of(done)
    path = report.write_compact(CASE, pd.concat(parts, ignore_index=True), told)
    assert path.stat().st_size < sum(
        one.stat().st_size for one in (done / "metrics/records").rglob("*.parquet")
    )
    written: list[Frontier] = []

    def spied(*given: Any) -> Frontier:
        written.append(frontier_among(*given))
        return written[-1]

    monkeypatch.setattr(report, "frontier_among", spied)
    page = report.write_pages().read_text(encoding="utf-8")
    found = read_json(done / "metrics/frontier.json")[CASE]
    attempts = {one.name: one for one in written[0].attempts}
    assert (
        {one["name"] for one in found["attempts"]}
        == set(attempts)
        == {"full", "lora", "full@wise-0.5"}
    )
    for one in found["attempts"]:
        there = attempts[one["name"]]
        assert there.method == one["method"]
        assert there.validation == pytest.approx(one["validation"], abs=1e-4)
        for side in ("gain", "drop"):
            for end, value in one[side].items():
                assert getattr(getattr(there, side), end) == pytest.approx(value, abs=1e-4)
    assert [one.method for one in written[0].curves] == [one["method"] for one in found["curves"]]
    assert f"![drop over gain]({CASE}.svg)" in page
    assert "base with a few-shot prompt (base@shots-2) gains" in page
    every = page.split("Every attempt")[1]
    assert "gain on test, bits/byte" in every
    assert "| drop of each seed, points |" in every
    for one in written[0].attempts:
        row = re.search(rf"^\| {re.escape(one.name)} \| (\S+) \| (\S+) ", every, re.MULTILINE)
        assert row
        assert float(row[1]) == pytest.approx(one.validation[0], abs=6e-4)
        assert float(row[2]) == pytest.approx(one.gain.value, abs=6e-4)
    drawing = Path(f"metrics/study/{CASE}.svg").read_text(encoding="utf-8")
    assert all(f"{one.method}</text>" in drawing for one in written[0].curves)
    # Again, from the file alone: the same to the byte.
    report.main()
    assert report.PAGE.read_text(encoding="utf-8") == page


def figures_on_page() -> dict[str, list[str]]:
    """The cells of the last table, after the name, by attempt."""
    every = report.write_pages().read_text(encoding="utf-8").split("Every attempt")[1]
    rows = [line.strip("| ").split(" | ") for line in every.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows[2:]}


def test_seeds_that_disagree_stand_apart(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with the figure that it has on a page of its own."""
    monkeypatch.chdir(tmp_path)
    base, *runs, told = kept_of(done)
    seeds = [
        [one, one.assign(seed=1, score=1 - one["score"], nll=0.9 * one["nll"])] for one in runs
    ]
    alone = []
    for rows in zip(*seeds, strict=True):
        report.write_compact(CASE, pd.concat([base, *rows], ignore_index=True), told)
        alone.append(figures_on_page())
    together = pd.concat([base, *(one for of_run in seeds for one in of_run)], ignore_index=True)
    report.write_compact(CASE, together, told)
    found = figures_on_page()
    assert set(found) == {"full", "lora", "full@wise-0.5"}
    for name, cells in found.items():
        for mean, apart in ((1, 2), (3, 4)):
            own = [page[name][mean].split()[0] for page in alone]
            assert own[0] != own[1]
            assert cells[apart] == f"0: {own[0]}, 1: {own[1]}"


def test_what_the_readme_says_of_seeds() -> None:
    """As the page has it."""
    told = " ".join((tiny.ROOT / "README.md").read_text(encoding="utf-8").split())
    page = (tiny.ROOT / report.PAGE).read_text(encoding="utf-8")
    for attempt, cell, said in (
        (
            "medical-bert-lp-ft-2e-4",
            "0: +0.1, 1: +5.0",
            "the mean of 0.1 (seed 0) and 5.0 (seed 1)",
        ),
        ("medical-bert-replay-2e-4", "0: +1.1, 1: +2.9", "2.0 (seeds: 1.1 and 2.9)"),
        ("news-gpt-full-5e-4", "0: +0.044, 1: +0.041", "0.042 (seeds: 0.044 and 0.041)"),
        ("news-gpt-full-5e-4", "0: -0.8, 1: +4.3", "the mean of -0.8 (seed 0) and +4.3 (seed 1)"),
        ("news-gpt-replay-5e-4", "0: +0.1, 1: +4.4", "+2.2 is the mean of +0.1 and +4.4"),
        ("news-gpt-lwf-2e-4", "0: +0.5, 1: +0.4", "+0.5 and +0.4 at 2e-4"),
        ("news-gpt-lwf-5e-4", "0: +2.8, 1: +2.7", "+2.8 and +2.7 at 5e-4"),
    ):
        assert re.search(rf"^\| {attempt} \|.* {re.escape(cell)} \|", page, re.MULTILINE), attempt
        assert said in told
    records, _ = read_table(tiny.ROOT / "metrics/study/news-gpt.parquet")
    asked = records[(records["task"] == "agreement") & (records["split"] == "test")]
    asked = asked[(asked["condition"] == "clean") & (asked["variant"] == "final")]
    right = {run: rows.groupby("seed")["score"].mean() for run, rows in asked.groupby("run")}
    base, tuned = (100 * right[run] for run in ("base", "news-gpt-full-5e-4"))
    assert f"from {base.mean():.1f} to {tuned.mean():.1f} %, seeds {tuned[0]:.1f} and " in told
    assert f" and {tuned[1]:.1f}), which is not counted" in told


def test_a_figure_of_all_examples_together_is_made_of_the_kept_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spearman's needs both numbers of each example; of other tasks git keeps no answer."""
    monkeypatch.chdir(tmp_path)
    asked = {"split": "test", "condition": "clean", "variant": "final", "seed": 0}
    rows = pd.DataFrame(
        [
            {**asked, "task": task, "example_id": str(at), "group": str(at), "score": 0.5}
            | {"nll": 1.0, "bytes": 1.0, "target": f"{at}", "prediction": f"{at * at}"}
            for task in ("likeness", "mood")
            for at in range(5)
        ]
    )
    kinds = {"likeness": "regression", "mood": "classification"}
    about = {
        task: {"kind": kind, "role": "retain", "labels": [], "truncated": 0}
        for task, kind in kinds.items()
    }
    report.write_compact(CASE, report.compact(rows, "full"), {"tasks": about})
    kept, _ = read_table(Path(f"metrics/study/{CASE}.parquet"))
    assert values(kept[kept["task"] == "likeness"], SPEARMAN).mean() == pytest.approx(1.0)
    assert kept.loc[kept["task"] == "mood", ["target", "prediction"]].isna().all(axis=None)


STUDY = {
    "seeds": [0, 1],
    "params": {"evaluation": {"noise": {"tasks": [], "conditions": []}}},
    "cases": {
        tiny.CASE: {
            "recipe": {},
            "learning_rates": [0.005],
            "methods": {"full": {"variants": ["wise-0.5"]}, "freeze": {}},
        }
    },
}


@pytest.mark.slow
def test_through_dvc(
    tmp_path: Path,
    own: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A part, then all: what is done is not done again, and the project stays as it is."""
    project = tiny.make_project(tmp_path / "project", own, environment)
    monkeypatch.chdir(project.path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    recipe = dict(tiny.read_params(project.path)["runs"]["full"])
    for key in ("case", "pool", "teacher", "methods", "learning_rate", "seeds"):
        del recipe[key]
    told: Any = STUDY
    told["cases"][tiny.CASE]["recipe"] = recipe
    told["cases"][tiny.CASE]["methods"]["freeze"] = {
        "recipe": {"methods": {"freeze": {"layers": 1}}}
    }
    (project.path / "studies/tiny.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    project.commit("A study")

    done = tiny.with_make(project).call("make", "study", "STUDY=tiny", "SEEDS=0")
    assert done.returncode == 0, done.stderr
    first = tiny.ran(done.stdout)
    trained = {one for one in first if one.startswith("finetune@")}
    assert trained == {f"finetune@tiny-{one}-5e-3-s0" for one in ("full", "freeze")}
    page = report.PAGE.read_text(encoding="utf-8")
    assert "2 recipes of one seed each, at commit" in page

    study.main("tiny")
    second = tiny.ran(capfd.readouterr().out)
    assert {one.split("@")[1] for one in second} == {
        f"tiny-{one}-5e-3-s1" for one in ("full", "freeze")
    }
    assert "2 recipes of 2 seeds each, at commit" in report.PAGE.read_text(encoding="utf-8")

    # A commit later, which changes nothing that a stage reads, nothing runs.
    (project.path / "README.md").write_text("Other words.\n", encoding="utf-8")
    project.commit("Words")
    study.main("tiny", "tiny", "1,0")
    assert tiny.ran(capfd.readouterr().out) == []
    changed = project.git("diff", "--name-only").split()
    assert set(changed) == {"metrics/study/study.md", "metrics/study/tiny.parquet"}
    page = report.PAGE.read_text(encoding="utf-8")
    report.PAGE.unlink()
    assert project.call("python", "-m", "stages.report.study").returncode == 0
    assert report.PAGE.read_text(encoding="utf-8") == page
    assert not (project.path / "dvc.lock").exists()
    assert "-s0" not in project.dvc("stage", "list", "--all")
    assert list(
        (project.path / study.WORKSPACES / "tiny/metrics/records/tiny").glob("*-s1.parquet")
    )
