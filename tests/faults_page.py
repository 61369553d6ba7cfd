"""tests/FAULTS.md: which fault is injected by which test, and what came of it.

A pytest plugin. A test that asks for the fixture `fault` says what it injected and what it saw;
when the session ends, the rows of the tests that ran are put into the page. Rows of tests that did
not run stay; a session over all tests drops those of tests that are gone.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

PAGE = Path(__file__).with_name("FAULTS.md")
HEAD = """# Faults

What can go wrong, the test that makes it go wrong, and what is seen then. Written by the test run
itself (`make test`; the rows of `test_interruption.py::test_many_*` by `make faults`); a row's
outcome is what the test saw after its assertions held.

| fault | test | outcome |
|---|---|---|
"""
ROW = re.compile(r"\| (?P<fault>.*) \| `(?P<test>.*)` \| (?P<outcome>.*) \|")

FAILED = "**the test failed**"
SAID, ASKED = "fault said", "fault asked for"
"""Properties that a test has for its report: a fault and its outcome; that it asks for the fixture,
and by which parameters."""

Fault = Callable[[str, str], None]
"""fault(what was injected, what came of it)"""
Rows = dict[tuple[str, str], str]
"""(test, fault) -> outcome."""


def _cell(text: str) -> str:
    """On one line of a table, and no markup."""
    signs = "".join(f"\\{sign}" if sign in "\\|<>*_[]`" else sign for sign in text)
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in signs)


def read(path: Path) -> Rows:
    if not path.exists():
        return {}
    matches = map(ROW.fullmatch, path.read_text(encoding="utf-8").splitlines())
    return {(row["test"], row["fault"]): row["outcome"] for row in matches if row}


def write(path: Path, rows: Rows) -> None:
    lines = [f"| {fault} | `{test}` | {outcome} |\n" for (test, fault), outcome in rows.items()]
    path.write_text(HEAD + "".join(sorted(lines, key=_place)), encoding="utf-8")


def _place(line: str) -> tuple[str, str]:
    row = ROW.fullmatch(line.rstrip("\n"))
    assert row, line
    return row["test"], row["fault"]


def _is_there(test: str) -> bool:
    """Whether a test of that file and name is still there."""
    name, _, function = test.partition("::")
    file = PAGE.parent / name
    return file.exists() and f"def {function}(" in file.read_text(encoding="utf-8")


class FaultsPage:
    """Of all that ran, in this process or in workers of pytest-xdist, whose reports come here."""

    def __init__(self) -> None:
        self.found: Rows = {}
        self.broken: Rows = {}
        self.ran: set[str] = set()

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        # The test's file and function; what its parameters change is the fault's to say.
        test = re.sub(r"\[.*", "", report.nodeid.removeprefix("tests/"), flags=re.DOTALL)
        self.ran.add(test)
        for kind, value in report.user_properties:
            if kind == SAID:
                assert isinstance(value, tuple | list)  # a worker's report has no tuples
                what, outcome = value
                self.found[test, what] = outcome
            elif kind == ASKED and report.failed:
                self.broken[test, str(value)] = FAILED

    @pytest.hookimpl
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        rows = {
            (test, fault): outcome
            for (test, fault), outcome in read(PAGE).items()
            if outcome != FAILED or test not in self.ran
        }
        whole = not session.config.getoption("keyword") and session.config.args == ["tests"]
        if whole:
            # Parametrised tests say all their faults in a session over all tests.
            rows = {
                (test, fault): outcome
                for (test, fault), outcome in rows.items()
                if test not in self.ran and _is_there(test)
            }
        rows |= self.found | self.broken
        if rows != read(PAGE):
            write(PAGE, rows)


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Fault:
    told = request.node.user_properties
    call = getattr(request.node, "callspec", None)
    told.append((ASKED, _cell(call.id if call else "-")))
    return lambda what, outcome: told.append((SAID, (_cell(what), _cell(outcome))))


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(FaultsPage(), "faults-page")
