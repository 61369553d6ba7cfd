"""The benchmark of `compare`, on few records: what it writes must be what the stages write now."""

import re
import subprocess
import sys

from tiny import ROOT


def test_records_are_compared_and_counted() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.compare", "--records", "400"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = re.fullmatch(
        r"(\d+) records: [\d.]+ s \([\d.]+ s of processor\), (\d+) MiB\n", done.stdout
    )
    assert told, done.stdout
    records, mib = map(int, told.groups())
    assert 350 < records <= 400
    assert 50 < mib < 2000
