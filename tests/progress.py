"""One line of progress, instead of a letter for each of a thousand tests."""

import pytest


def register(config):
    """Unless more was asked for by `-v`, or less by `-p no:terminal`."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    is_worker = hasattr(config, "workerinput")
    if reporter and not is_worker and config.get_verbosity() <= 0:
        config.pluginmanager.register(Progress(reporter))


class Progress:
    """Writes 10 %, 20 %, ... and a letter for what fails."""

    def __init__(self, reporter):
        self._reporter = reporter
        self._session = None
        self._finished = self._tenths = 0

    def pytest_sessionstart(self, session):
        self._session = session

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self):
        category, letter, word = yield
        if category in ("passed", "skipped"):
            letter = word = ""
        return category, letter, word

    def pytest_runtest_logfinish(self):
        self._finished += 1
        tenths = 10 * self._finished // self._session.testscollected
        if tenths > self._tenths:
            self._tenths = tenths
            self._reporter.write(f" {10 * tenths} %", flush=True)
