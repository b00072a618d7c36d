"""At least 60 faults at random moments: the run goes on, and ends as if nothing had happened.

The moments are drawn from CHAOS_SEED, or from the time. CHAOS_TABLE names a file to which the table
of the faults is added.
"""

import os
import pathlib
import random
import signal
import time

import pytest
from helpers.faults import SAVED_EVERY, STEPS, Run, Table, check_same, check_silent
from helpers.small_disk import fill, small_disk

from perceiver_io.checkpoints import files

pytestmark = pytest.mark.slow

DURING = ('read', 'step', 'evaluate', 'save')


@pytest.fixture
def rng(request):
    seed = int(os.environ.get('CHAOS_SEED', time.time_ns() % 10**6))
    print(f'CHAOS_SEED={seed}')
    return random.Random(f'{request.node.name} {seed}')


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp('cache')


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory, cache):
    """A function that gives the run of so many processes to which nothing happened."""
    runs = {}

    def get(processes: int) -> Run:
        if processes not in runs:
            with Run(tmp_path_factory.mktemp('undisturbed') / 'run', cache, processes) as run:
                run.start()
                assert run.end() == [0] * processes, run.shown()
            check_silent(run)
            runs[processes] = run
        return runs[processes]

    return get


def hurt(run: Run, number, victims, name, wanted, rng, table) -> bool:
    """Starts a run and sends a signal to it; False if it came to its end before."""
    run.start()
    phase = run.halt(wanted, rng)
    if not phase:
        assert set(run.end()) == {0}, run.shown()
        return False
    reached, begun = run.reached(), run.has_begun()
    run.send(number, victims)
    run.send(signal.SIGCONT)
    statuses = run.end()
    check_silent(run)
    texts = [run.shown(index) for index in range(len(statuses))]
    if number == signal.SIGKILL:
        for index, status in enumerate(statuses):
            if victims is None or index in victims:
                assert status == -signal.SIGKILL
            elif index == 0 or status != -signal.SIGABRT:  # by which JAX can end all but the first
                assert status == 1, texts
                assert texts[index].splitlines()[-1].startswith('error: '), texts
    elif not begun and statuses == [-number]:
        pass  # it was about to import libraries
    else:
        finished = run.saved()[-1] == STEPS and 'stopped by' not in texts[0]
        status = 128 + number if number == signal.SIGINT and not finished else 0
        assert set(statuses) == {status}, texts
        if not finished:
            for text in texts:
                assert 'stopped by SIG' in text and f'--workdir={run.workdir}' in text
    saved = max(run.saved(), default=0)
    lost = max(0, reached - saved)
    assert lost <= (2 * SAVED_EVERY if number == signal.SIGKILL else 0), texts
    table.add(name, phase, f'{lost} steps lost')
    return True


def hurt_often(faults, folder, undisturbed, rng, injure=hurt, **how) -> None:
    """Runs with these faults, one after the other; each run goes on to its end."""
    table, todo, number = Table(), list(faults), 0
    while todo:
        number += 1
        with Run(folder / f'run{number}', undisturbed.cache, undisturbed.processes, **how) as run:
            while todo and STEPS not in run.saved():
                if injure(run, *todo[0], rng, table):
                    todo.pop(0)
            run.start()
            assert set(run.end()) == {0}, run.shown()
            check_silent(run)
            check_same(run, undisturbed)
    table.show()
    assert table.count() == len(faults)


def in_any_order(items, rng) -> list:
    return rng.sample(items, len(items))


@pytest.mark.parametrize('part', ['first', 'second'])
@pytest.mark.parametrize('fault', ['SIGKILL', 'stop'])
def test_one_process(fault, part, tmp_path, undisturbed, rng):
    """Killed or stopped, in the middle of everything that a run does."""
    stopping = [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT]
    faults = []
    for phase in ('start', *DURING):
        number = signal.SIGKILL if fault == 'SIGKILL' else rng.choice(stopping)
        if phase == 'start' and number == signal.SIGINT:
            number = signal.SIGTERM
        faults.append((number, None, number.name, phase))
    hurt_often(in_any_order(faults, rng), tmp_path, undisturbed(1), rng)


def test_in_the_middle_of_a_compilation(tmp_path, undisturbed, rng):
    """Without a cache of compiled programs, so that it takes seconds."""
    alone = {name: value for name, value in os.environ.items() if 'COMPILATION_CACHE' not in name}
    numbers = 3 * [signal.SIGKILL] + 3 * [signal.SIGTERM]
    faults = [(number, None, number.name, 'compile') for number in numbers]
    hurt_often(in_any_order(faults, rng), tmp_path, undisturbed(1), rng, environment=alone)


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize('victims', ['both', 'one'])
def test_two_processes(number, victims, tmp_path, undisturbed, rng):
    """In the middle of everything, all of them or one."""
    name = f'{number.name} to {victims} of two'
    faults = []
    for phase in ('compile', *DURING):
        victim = [rng.randrange(2)] if victims == 'one' else None
        faults.append((number, victim, name, phase))
    hurt_often(in_any_order(faults, rng), tmp_path, undisturbed(2), rng)


@pytest.mark.parametrize('harm', ['delete', 'truncate', 'flip'])
def test_damaged_files(harm, tmp_path, undisturbed, rng):
    """Every file of a checkpoint in turn: of the newest, and at once of all but the oldest."""
    table, done = Table(), set()
    with Run(tmp_path / 'run', undisturbed(1).cache) as run:
        run.start()
        assert run.end() == [0]
        while True:
            harmed = {}
            for step in reversed(run.saved()[1:]):
                paths = by_place(run.workdir / 'checkpoints' / str(step))
                for place in [place for place in paths if place not in done][:1]:
                    harmed[step] = paths[place], paths[place].read_bytes()
                    damage(paths[place], harm, rng)
                    done.add(place)
            if not harmed:
                break
            run.start()
            assert run.end() == [0], run.shown()
            for step, (path, content) in harmed.items():
                name = path.relative_to(run.workdir / 'checkpoints' / str(step)).as_posix()
                named = f'the checkpoint of step {step} is damaged (' in run.shown()
                needed = name not in ('commit_success.txt', '_CHECKPOINT_METADATA', files.LIST)
                if needed:
                    assert f'step {step} is damaged ({name}' in run.shown(), (name, run.shown())
                if not named:
                    path.write_bytes(content)
                table.add(f'{harm} a file', 'newest checkpoint', 'set aside' if named else 'used')
            check_silent(run)
            check_same(run, undisturbed(1))
    table.show()
    assert table.count() > 20


def by_place(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The files of a checkpoint; those with random names, in folders `d`, by their number."""
    found: dict[str, pathlib.Path] = {}
    for path in sorted(path for path in folder.rglob('*') if path.is_file()):
        parent, name = path.relative_to(folder).parent.as_posix(), path.name
        if path.parent.name == 'd':
            name = str(sum(place.startswith(f'{parent}/') for place in found))
        found[f'{parent}/{name}'] = path
    return found


def damage(path: pathlib.Path, harm: str, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if harm == 'delete':
        path.unlink()
    elif harm == 'truncate':
        os.truncate(path, rng.randrange(len(content)))
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)


def test_a_full_disk(tmp_path, undisturbed, rng):
    """Another program fills it in the middle of something, with and without an older checkpoint."""
    disk = tmp_path / 'disk'
    disk.mkdir()

    def injure(run, wanted, rng, table) -> bool:
        run.start()
        phase = run.halt(wanted, rng)
        if not phase:
            assert set(run.end()) == {0}, run.shown()
            return False
        before, reached = run.saved(), run.reached()
        ballast = fill(disk, rng.choice([0, rng.randrange(40_000), rng.randrange(400_000)]))
        run.send(signal.SIGCONT)
        assert run.end() == [1], run.shown()
        check_silent(run)
        last = run.shown().splitlines()[-1]
        assert last.startswith('error: ') and str(disk) in last, run.shown()
        assert 'full' in last or 'No space left on device' in last, run.shown()
        after = run.saved()
        assert set(before) <= set(after)
        for step in after:
            assert files.damage(run.workdir / 'checkpoints' / str(step)) == ''
        ballast.unlink()
        name = 'a full disk, ' + ('with' if before else 'without') + ' an older checkpoint'
        table.add(name, phase, f'{max(0, reached - max(after, default=0))} steps lost')
        return True

    phases = ['start', 'compile', *in_any_order(['start', 'step', *DURING], rng)]
    faults = [(phase,) for phase in phases]
    with small_disk(disk, 64 * 1024):
        # If old checkpoints were deleted, there would be room again.
        keys = {'training.keep': STEPS}
        hurt_often(faults, disk, undisturbed(1), rng, injure, keys=keys, outputs=tmp_path)
