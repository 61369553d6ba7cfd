"""What tells two measurements apart."""

from pathlib import Path

import pytest

from stages import provenance
from stages.report.made_with import unlike


def _told(monkeypatch: pytest.MonkeyPatch, cpuinfo: Path, text: str) -> str:
    cpuinfo.write_text(text, encoding="utf-8")
    monkeypatch.setattr(provenance, "CPUINFO", cpuinfo)
    return str(provenance.provenance([])["processor"])


def test_processors_of_one_name_are_told_apart_by_how_they_multiply(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = "processor\t: {}\nmodel name\t: Some Chip\nflags\t\t: fpu avx2 avx512f avx512_bf16{}\n\n"
    found = [
        _told(monkeypatch, tmp_path / "cpuinfo", one.format(0, more) + one.format(1, more))
        for more in ("", " amx_bf16 amx_tile")
    ]
    assert found == ["Some Chip, avx512_bf16", "Some Chip, amx_bf16"]
    base, run = ({"processor": name} for name in found)
    (line,) = unlike(base, run, "bert-full")
    assert "another processor" in line and "amx_bf16" in line


def test_a_processor_without_a_name_is_told_of_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert _told(monkeypatch, tmp_path / "cpuinfo", "flags\t: fpu\n")
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "none")
    assert provenance.provenance([])["processor"]
