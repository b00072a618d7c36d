"""Fixtures that the tests of several programs share: one run and its clips."""

import pytest
from helpers.runs import make_run, render_clips


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    return tmp_path_factory.mktemp('programs')


@pytest.fixture(scope='session')
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp('run') / 'run')


@pytest.fixture(scope='session')
def clips(run):
    return render_clips(run)
