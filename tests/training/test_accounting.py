"""Where the time of a run goes, and what is said when it is stuck."""

import subprocess
import sys
import time

import pytest

from perceiver_io.training.accounting import PARTS, Accounting, watchdog


def test_the_seconds_of_each_part_add_up():
    clock = iter([10.0, 12.0, 15.0, 16.0, 20.0, 20.0])
    account = Accounting(lambda: next(clock))
    for part in ('compile', 'data', 'step', 'data'):
        account.now(part)
    assert account.seconds() == dict.fromkeys(PARTS, 0.0) | {
        'start': 2.0,
        'compile': 3.0,
        'data': 1.0,
        'step': 4.0,
    }


def test_the_line_has_all_parts():
    clock = iter([0.0, 30.0, 40.0])
    account = Accounting(lambda: next(clock))
    account.now('step')
    assert str(account) == (
        '40 s in all: start 30 s (75%), compile 0 s (0%), data 0 s (0%), step 10 s (25%), '
        'replay 0 s (0%), evaluate 0 s (0%), save 0 s (0%)'
    )


@pytest.mark.parametrize(
    'part, says',
    [('data', 1), ('step', 1), ('replay', 1), ('save', 1), ('evaluate', 1), ('compile', 0)],
)
def test_the_watchdog_says_once_where_a_run_is_stuck(capfd, part, says):
    account = Accounting()
    account.batch(7, ['a.mp4', 'b.mp4'])
    account.now(part)
    with watchdog(account, minutes=0.1 / 60, ends=False):
        time.sleep(0.5)
    shown = capfd.readouterr().err
    assert shown.count('no progress for') == says
    assert shown.count('step 7: a.mp4, b.mp4. All threads:') == says
    assert ('test_the_watchdog_says_once' in shown) == bool(says)  # a line of the main thread


def test_a_run_with_progress_is_left_alone(capfd):
    account = Accounting()
    with watchdog(account, minutes=0.2 / 60, ends=False):
        for _ in range(50):
            account.now('step')
            time.sleep(0.01)
    assert capfd.readouterr().err == ''


def test_it_ends_the_process_if_asked_to():
    program = (
        'import time\n'
        'from perceiver_io.training.accounting import Accounting, watchdog\n'
        'account = Accounting()\n'
        'account.now("step")\n'
        'with watchdog(account, minutes=0.1 / 60, ends=True):\n'
        '    time.sleep(60)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 1 and 'no progress' in done.stderr
