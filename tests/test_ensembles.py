"""Ensembles of runs: by hand, through compare, and what is refused."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import test_report as by_hand
import tiny
import yaml

from stages import check, compare
from stages.errors import UserError
from stages.records import read_records, write_records
from stages.statistics.ensemble import of_choices, of_labels
from stages.storage import read_json

LABELS = ("blue", "red")


def labelled(sure_of_red: list[float]) -> pd.DataFrame:
    """Three examples, all of them red."""
    return pd.DataFrame(
        {
            "split": "test",
            "example_id": ["a", "b", "c"],
            "target": "red",
            "score": [float(one > 0.5) for one in sure_of_red],
            "nll": [-math.log(one) for one in sure_of_red],
            "probabilities": [[1 - one, one] for one in sure_of_red],
            "prediction": ["red" if one > 0.5 else "blue" for one in sure_of_red],
        }
    )


def test_labels_by_hand() -> None:
    """One is sure and right, one unsure and wrong: together right; the other way round, wrong."""
    found = of_labels([labelled([0.9, 0.4, 0.2]), labelled([0.4, 0.3, 0.6])[::-1]], LABELS)
    assert list(found["example_id"]) == ["a", "b", "c"]
    means = [0.65, 0.35, 0.4]
    assert [one[1] for one in found["probabilities"]] == pytest.approx(means)
    assert list(found["prediction"]) == ["red", "blue", "blue"]
    assert list(found["score"]) == [1.0, 0.0, 0.0]
    assert list(found["nll"]) == pytest.approx([-math.log(one) for one in means])


def choosing(*likelihoods: list[float]) -> pd.DataFrame:
    """An example each: how likely its choices, of 1 and of 2 bytes, are."""
    return pd.DataFrame(
        {
            "split": "test",
            "example_id": [f"e{n}" for n in range(len(likelihoods))],
            "choice_logprobs": [np.log(one) for one in likelihoods],
            "choice_bytes": [[1, 2] for _ in likelihoods],
        }
    )


def test_choices_by_hand() -> None:
    """Means of 0.3 and 0.05 (per byte 0.22 for the second): the first; of 0.1 and 0.04 (per byte
    0.2): the second."""
    asked = {"e0": ([" x", " yy"], 0), "e1": ([" x", " yy"], 0)}
    found = of_choices(
        [choosing([0.5, 0.08], [0.1, 0.01]), choosing([0.1, 0.02], [0.1, 0.07])], asked
    )
    assert np.exp(found["choice_logprobs"][0]) == pytest.approx([0.3, 0.05])
    assert np.exp(found["choice_logprobs"][1]) == pytest.approx([0.1, 0.04])
    assert list(found["prediction"]) == ["x", "yy"]
    assert list(found["score"]) == [1.0, 0.0]
    assert list(found["nll"]) == pytest.approx([-math.log(0.3 / 0.35), -math.log(0.1 / 0.14)])
    assert found["probabilities"][1] == pytest.approx([0.1 / 0.14, 0.04 / 0.14], rel=1e-6)


def test_choices_that_are_compared_as_they_stand() -> None:
    """Means of 0.1 and 0.07: the first, which per byte is the second."""
    one = choosing([0.1, 0.07]).assign(choice_bytes=None)
    asked = {"e0": ([" x", " yy"], 0)}
    assert list(of_choices([one, one], asked)["prediction"]) == ["x"]
    assert list(of_choices([choosing([0.1, 0.07])], asked)["prediction"]) == ["yy"]


def test_one_model_is_its_own_ensemble() -> None:
    alone = labelled([0.9, 0.4, 0.2])
    found = of_labels([alone], LABELS)
    assert list(found["prediction"]) == list(alone["prediction"])
    assert list(found["nll"]) == pytest.approx(list(alone["nll"]), rel=1e-6)


RUNS = {"enc-full": "enc", "enc-lora": "enc", "gpt-full": "gpt"}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records by hand, of which compare makes an ensemble of three models, and one of two seeds."""
    folder = tmp_path_factory.mktemp("ensembles")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        by_hand.write_params(RUNS, (0, 1))
        named = {"both": ["enc-full", "enc-lora"], "seeds": ["gpt-full"]}
        tiny.edit_params(folder, compare__ensembles=named, **{"runs__enc-lora__seeds": [0]})
        by_hand.write_case("enc", "enc-lora", by_hand.encoder_tasks(), (0,))
        by_hand.write_case("enc", "enc-full", by_hand.encoder_tasks(), (0, 1))
        by_hand.write_case("gpt", "gpt-full", by_hand.causal_tasks(), (0, 1))
        _likelier(folder / "metrics/records/gpt")
        compare.main()
    return folder


def _likelier(records: Path) -> None:
    """Gives multiple choice the likelihoods that its answers came from; seed 1 is unsure."""
    for path in sorted(records.glob("*.parquet")):
        rows, told = read_records(path)
        chances = [
            [(0.3 if seed else 0.6) if said else 0.1 for said in _first_or_second(score)]
            for score, seed in zip(rows["score"], rows["seed"], strict=True)
        ]
        asked = rows["task"] == "capitals"
        rows["choice_logprobs"] = pd.Series([np.log(one) for one in chances]).where(asked, None)
        rows["choice_bytes"] = pd.Series([[4, 4, 4, 4] for _ in chances]).where(asked, None)
        write_records(path, rows, told)


def _first_or_second(score: float) -> list[bool]:
    """What was said: the first choice, which is right, or the second."""
    return [score == 1, score == 0, False, False]


def test_records_of_three_models_become_one(compared: Path) -> None:
    """Two seeds of enc-full and one of enc-lora, alike but for one answer of the second seed: the
    majority is as sure as the minority."""
    scores = read_json(compared / "metrics/scores.json")["enc"]
    told = scores["ensemble@both"]
    assert list(told) == ["color-qa", "mood"]
    first = by_hand.AFTER["color-qa"]
    assert told["color-qa"]["accuracy"]["value"] == pytest.approx(first)
    assert scores["enc-full"]["color-qa"]["accuracy"]["value"] == pytest.approx(first + 0.5 / 40)
    assert told["color-qa"]["gain"]["value"] == pytest.approx(first - by_hand.BEFORE["color-qa"])
    assert told["mood"]["drop"]["seen"] is False
    retention = read_json(compared / "metrics/retention.json")["enc"]
    assert set(retention["ensemble@both"]["drop"]) == {"mood"}
    assert retention["ensemble@both"]["gain"] == {
        "color-qa": pytest.approx(first - by_hand.BEFORE["color-qa"], abs=1e-4)
    }


def test_an_ensemble_of_the_seeds_of_a_causal_run(compared: Path) -> None:
    told = read_json(compared / "metrics/scores.json")["gpt"]["ensemble@seeds"]
    assert list(told) == ["capitals"]
    assert told["capitals"]["accuracy"]["value"] == pytest.approx(by_hand.AFTER["capitals"])
    assert "gain" not in read_json(compared / "metrics/retention.json")["gpt"]["ensemble@seeds"]


def test_the_reports_show_it_and_what_it_leaves_out(compared: Path) -> None:
    for page in ("report.md", "report.html"):
        text = (compared / "metrics" / page).read_text(encoding="utf-8")
        assert text.count("Ensembles") == 2
        assert "both: enc-full + enc-lora" in text
        assert "mean of 2" in text
        assert "Left out, since their records have no probabilities: twins (retrieval)." in text
        assert "news (news-writing), " in text
    gate = read_json(compared / "metrics/gate.json")["cases"]
    assert set(gate["enc"]) == {"enc-full", "enc-lora"}


def test_without_one_nothing_is_said(
    compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(compared, tmp_path / "bench")
    monkeypatch.chdir(tmp_path / "bench")
    tiny.edit_params(Path(), compare__ensembles={})
    compare.main()
    assert "ensemble" not in Path("metrics/scores.json").read_text(encoding="utf-8")
    assert "Ensembles" not in Path("metrics/report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (["bert-full"], "give two runs or more, or one of several seeds"),
        (["bert-full", "bert-fool"], "no such name under runs; did you mean bert-full?"),
        (["bert-full", "bert-full"], "a run stands there twice"),
        (["bert-full", "gpt-full"], "runs of medical-bert and news-gpt: give those of one case"),
    ],
)
def test_what_is_refused(
    members: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params: dict[str, Any] = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["compare"]["ensembles"] = {"mine": members}
    tiny.write_params(tmp_path, params)
    with pytest.raises(UserError) as refused:
        check.check()
    assert str(refused.value).startswith("params.yaml: compare.ensembles.mine = ")
    assert str(refused.value).endswith(said)


def test_two_seeds_are_two_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params: dict[str, Any] = yaml.safe_load((tiny.ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["compare"]["ensembles"] = {"mine": ["bert-full"]}
    params["runs"]["bert-full"]["seeds"] = [0, 1]
    tiny.write_params(tmp_path, params)
    check.check()
