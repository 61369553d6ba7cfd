"""params.yaml of strangers: names that are paths or commands, secrets, endless aliases."""

from pathlib import Path
from typing import Any

import tiny
import yaml

from bad_inputs.bad import Bad, Spoil, words

HOSTILE = {
    "a path upwards": "../../evil",
    "an absolute path": "/tmp/evil",
    "a command after a semicolon": "x; touch was-run",
    "a command in $(…)": "$(touch was-run)",
    "a command in backticks": "`touch was-run`",
    "a command behind a quote": "x'; touch was-run; '",
    "a command behind a line break": "x\ntouch was-run",
    "an option": "--force",
    "a variable of DVC": "${launch}",
}
"""Names of cases and runs that would be a path or a command."""
TOKEN = "hf_" + "aB3" * 12


def _text(text: str) -> Spoil:
    def spoil(project: Path) -> None:
        (project / "params.yaml").write_text(text, encoding="utf-8")

    return spoil


def _entry(section: str, name: str, stands_for: str) -> Spoil:
    def spoil(project: Path) -> None:
        params = tiny.read_params(project)
        params[section][name] = params[section][stands_for]
        tiny.write_params(project, params)

    return spoil


def _set(**values: Any) -> Spoil:
    return lambda project: tiny.edit_params(project, **values)


def _model(**values: Any) -> Spoil:
    def spoil(project: Path) -> None:
        params = tiny.read_params(project)
        params["models"]["bert"].update(values)
        tiny.write_params(project, params)

    return spoil


def _laughs() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(lines) + "\n"


PARAMS = [
    *(
        Bad(
            f"a case named by {what}",
            _entry("cases", name, tiny.CASE),
            words("params.yaml: cases = ", "a name is lower-case letters, digits and hyphens"),
            ("prepare", name),
        )
        for what, name in HOSTILE.items()
    ),
    *(
        Bad(
            f"a run named by {what}",
            _entry("runs", name, "full"),
            words("params.yaml: runs = ", "a name is lower-case letters, digits and hyphens"),
            ("finetune", name),
        )
        for what, name in HOSTILE.items()
    ),
    Bad(
        "a run of a case that is a path",
        _set(runs__full__case="../../evil"),
        words("params.yaml: runs.full.case = '../../evil': use lower-case letters"),
        ("finetune", "full"),
    ),
    Bad(
        "a run of a case that is a command",
        _set(runs__full__case="tiny; touch was-run"),
        words("params.yaml: runs.full.case = ", "use lower-case letters"),
        ("finetune", "full"),
    ),
    Bad(
        "a model's folder outside its source",
        _model(path="../../../etc"),
        words("file:own/model, folder '../../../etc': no *.safetensors there"),
    ),
    Bad(
        "a table outside its source",
        lambda project: _outside(project),
        words("file:own/color-qa.jsonl: no file '../../etc/passwd.csv'"),
    ),
    Bad(
        "a source that is a command",
        _model(source="file:own/model; touch was-run"),
        words("file:own/model; touch was-run: no such file or folder"),
    ),
    Bad(
        "a token for a value",
        _model(pooling=TOKEN),
        words("params.yaml: models.bert.pooling: looks like a secret (not shown)"),
    ),
    Bad(
        "a password in a URL",
        _set(launch="python https://me:hunter2hunter2@example.com"),
        words("params.yaml: launch: looks like a secret (not shown)"),
    ),
    Bad(
        "a token for a name",
        _entry("models", TOKEN, "bert"),
        words("params.yaml: a name under models: looks like a secret (not shown)"),
    ),
    Bad("an empty params.yaml", _text(""), words("params.yaml: holds no mapping")),
    Bad("params.yaml with a tab", _text("a:\n\t- b\n"), words("params.yaml: not YAML")),
    Bad("params.yaml cut off", _text("seed: 20\ncases: {tiny: {mod"), words("params.yaml: not")),
    Bad(
        "params.yaml that makes Python objects",
        _text("seed: !!python/object/apply:os.system ['touch was-run']\n"),
        words("params.yaml: not YAML: could not determine a constructor for the tag"),
    ),
    Bad(
        "params.yaml that unfolds to billions of texts",
        _text(_laughs()),
        words("params.yaml: more than 100000 texts: aliases of aliases?"),
    ),
    Bad(
        "params.yaml that holds itself",
        _text("seed: 20\nmodels: &m\n  a: *m\n"),
        words("params.yaml: "),
    ),
    Bad(
        "params.yaml nested 100,000 levels deep",
        _text("a: " + "[" * 100_000),
        words("params.yaml: not YAML: nested too deeply"),
    ),
]


def _outside(project: Path) -> None:
    params = tiny.read_params(project)
    params["tasks"][tiny.TARGET]["data"]["files"] = {"all": "../../etc/passwd.csv"}
    (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
