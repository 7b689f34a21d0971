"""Commands that documents show are understood, and would run."""

import re
import shlex

import conftest
import programs
import pytest

from mpt_keras.experiments import RunError, commands, sweeping
from mpt_keras.experiments.experiment import Experiment

# On a line of its own, or within a text or a table.
_COMMAND = re.compile(
    r"(?:\.venv/bin/|`)(?:python examples/)?"
    r"(mpt-keras (?:search|tickets|distil|sweep)"
    r"|(?:cifar10_biprop|imagenet_biprop|lottery_ticket|kd_ticket)\.py)"
    r"( --[^`\n]*)"
)


def shown():
    docs = conftest.ROOT / "docs"
    pages = [*docs.glob("*.md"), *docs.glob("[!_]*/*.md")]
    for document in (conftest.ROOT / "README.md", *sorted(pages)):
        text = document.read_text(encoding="utf-8")
        for program, words in _COMMAND.findall(text):
            if "..." not in words and "--help" not in words:
                yield program, tuple(shlex.split(words))


@pytest.fixture
def nothing_runs(monkeypatch):
    """What would run ends in an error that says so."""

    def run(experiment, *_):
        experiment.followed()
        raise RunError("It would run.")

    def run_sweep(*_, **__):
        raise RunError("It would run.")

    monkeypatch.setattr(Experiment, "run", run)
    monkeypatch.setattr(sweeping, "run_sweep", run_sweep)


@pytest.mark.parametrize(
    ("program", "words"), sorted(set(shown())), ids=lambda value: value[0]
)
def test_commands_would_run(program, words, nothing_runs):
    if program.endswith(".py"):
        message = programs.fail(f"examples/{program}", *words)
        assert message == f"{program}: It would run."
        return
    _, name = program.split()
    with pytest.raises(RunError, match="It would run"):
        commands.parse([name, *words])()
