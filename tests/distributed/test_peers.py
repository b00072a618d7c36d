"""A process that is gone ends the others, with one line."""

import signal
import time

import pytest
from helpers.several_processes import KEYS, start

from perceiver_io.distributed.peers import Peers


class FakeStore:
    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def key_value_set(self, key: str, value: str, allow_overwrite: bool = False) -> None:
        self.values[key] = value

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]:
        return [pair for pair in self.values.items() if pair[0].startswith(key)]


def test_a_silent_process_is_gone_after_ten_looks():
    store = FakeStore()
    one, two = Peers(store, 2, 0), Peers(store, 2, 1)
    for _ in range(15):  # both are alive
        two.beat()
        one.beat()
        assert one.gone() == ''
    looks = 0
    while not one.gone():
        one.beat()
        looks += 1
    assert looks == 9  # and the last one above
    assert one.gone() == 'process 1 is not heard of any more'


def test_the_end_of_a_process_is_no_failure_and_a_failure_is():
    store = FakeStore()
    one, two = Peers(store, 2, 0), Peers(store, 2, 1)
    two.say('done')
    one.beat()
    assert {one.gone() for _ in range(50)} == {''}
    two.say('failed')
    one.beat()
    assert [one.gone() for _ in range(2)] == ['', 'process 1 has failed']


@pytest.mark.slow
@pytest.mark.parametrize(
    'victim, number', [(1, signal.SIGKILL), (1, signal.SIGSTOP), (0, signal.SIGSTOP)]
)
def test_the_others_end(tmp_path, victim, number):
    """Killed, which breaks the connection; or halted, which only the timeout can tell."""
    keys = {'training.steps': 10_000, 'training.eval_every': 0, 'training.checkpoint_every': 5000}
    workdir = tmp_path / 'run'
    running = start(workdir, tmp_path / 'cache', 2, '--peer_timeout=10', keys=KEYS | keys)
    try:
        metrics = workdir / 'metrics.jsonl'
        while not (metrics.exists() and metrics.stat().st_size):
            assert [process.poll() for process in running] == [None, None]
            time.sleep(0.1)
        running[victim].send_signal(number)
        since = time.monotonic()
        shown = running[1 - victim].communicate(timeout=60)[0]
        assert time.monotonic() - since < 20
    finally:
        for process in running:
            process.kill()
            process.wait()
            process.stdout.close()
    assert running[1 - victim].returncode == 1, shown
    assert 'Traceback' not in shown and 'stack trace' not in shown
    last = shown.splitlines()[-1]
    reason = 'connection' if number == signal.SIGKILL else f'process {victim} is not heard of'
    assert last.startswith('error: ') and reason in last, shown
