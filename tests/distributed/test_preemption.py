"""Signals that ask a run to stop: that they have come is said while a step still runs."""

import signal
import subprocess
import sys
import time

import pytest
from helpers.several_processes import ROOT, free_port

from perceiver_io.distributed import preemption
from perceiver_io.distributed.preemption import Stopped, StopSignals


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(preemption, '_PATIENCE', 0.1)


def test_a_signal_in_a_long_step_is_confirmed_once(capfd):
    with pytest.raises(Stopped), StopSignals() as stop:
        signal.raise_signal(signal.SIGUSR1)
        time.sleep(0.5)
        said = capfd.readouterr().err
        signal.raise_signal(signal.SIGUSR1)
        time.sleep(0.3)
        stop.check()
    assert said == 'SIGUSR1: the run stops when its present step has ended\n'
    assert capfd.readouterr().err == ''


def test_a_run_that_stops_at_once_says_nothing_more(capfd):
    with pytest.raises(Stopped), StopSignals() as stop:
        signal.raise_signal(signal.SIGINT)
        stop.check()
    time.sleep(0.3)
    assert capfd.readouterr().err == ''


def test_other_signals_are_not_its_business(capfd):
    before = signal.signal(signal.SIGUSR2, lambda *_: None)
    try:
        with StopSignals() as stop:
            signal.raise_signal(signal.SIGUSR2)
            time.sleep(0.3)
            stop.check()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert capfd.readouterr().err == ''
    assert signal.set_wakeup_fd(-1) == -1  # that of before is back


def test_sigterm_ends_an_evaluation_of_several_processes():
    program = (
        'import os, signal, sys, time\n'
        'from perceiver_io.distributed import preemption, start\n'
        'start.initialize(f"localhost:{sys.argv[1]}", 1, 0)\n'
        'preemption.end_at_sigterm()\n'
        'os.kill(os.getpid(), signal.SIGTERM)\n'
        'time.sleep(60)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', program, str(free_port())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert 'process 0 waits for all 1 at localhost:' in done.stderr
