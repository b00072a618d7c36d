"""How the programs end when the user has to change something, or reads no further."""

import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from helpers.runs import ROOT

from perceiver_io import cli, completion
from perceiver_io import reconstruct as reconstruct_program
from perceiver_io.core.clip import Clip, ClipSpec
from perceiver_io.media import reader, side_by_side
from perceiver_io.models.autoencoder import AutoencoderConfig


def test_errors_of_the_user_are_told_from_bugs():
    def caught(function):
        with pytest.raises(Exception) as info:
            function()
        return cli.message(info.value)

    assert caught(lambda: ClipSpec(frames=0)) == 'frames=0 must be at least 1'
    assert caught(lambda: open('/nowhere/at/all')) == '/nowhere/at/all: No such file or directory'
    assert caught(lambda: reader.probe('/nowhere')) == 'there is no such file'
    assert caught(lambda: AutoencoderConfig(height=225)).startswith('height=225 must be divisible')
    assert caught(lambda: reconstruct_program.reconstruct_files([], '', '')).startswith('there is')
    assert caught(lambda: side_by_side.SideBySide(None)) is None
    spec = ClipSpec(frames=1, height=8, width=8)
    wrong = Clip(np.zeros((1, 8, 7, 3), np.uint8), np.zeros((1, 1), np.int16))
    other = Clip(np.zeros((2, 8, 8, 3), np.uint8), np.zeros((1, 1), np.int16))
    assert caught(lambda: side_by_side.SideBySide(spec).draw(wrong, other)) is None  # numpy's


def test_too_little_memory_is_no_bug():
    def error(text):
        return cli.message(jax.errors.JaxRuntimeError(text))

    assert 'lower the batch size' in error('RESOURCE_EXHAUSTED: 9 GB\nmore')
    assert error('INTERNAL: 9 GB') is None


def test_a_config_is_named_in_one_argument_or_two():
    path = cli.resolve_config(['train', '--config=demo'])[1]
    assert path.startswith('--config=/') and path.endswith('/demo.py')
    for given in (['--config', 'demo'], ['-config', 'demo'], ['-config=demo']):
        assert cli.resolve_config(['train', *given, 'x', '--', '--config', 'y']) == [
            *['train', path, 'x', '--', '--config', 'y']
        ]
    assert cli.resolve_config(['train', '--config']) == ['train', '--config']


def test_help_names_configs_and_what_can_be_repeated(capsys, monkeypatch):
    def shown(command):
        monkeypatch.setattr(sys, 'argv', ['perceiver-io', command, '--help'])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 0
        return ' '.join(capsys.readouterr().out.split())

    assert 'one of demo, finetune, kinetics700, kinetics700_fast, small.' in shown('train')
    assert 'audio_max_resolution int None' in shown('train')
    assert '--set= KEY=VALUE of the config, for all points; repeatable. --help' in shown('sweep')
    assert 'default: )' not in shown('inspect')


@pytest.mark.skipif(not shutil.which('bash'), reason='no bash')
@pytest.mark.parametrize(
    'words, found',
    [
        ('ev', 'eval'),
        ('train --config = sm', 'small'),
        ('train --watchdog_', '--watchdog_exit'),
        ('sweep b', 'bottleneck'),
        ('completion z', 'zsh'),
        ('convert --', '--help'),
    ],
)
def test_completion_in_bash(words, found):
    asked = f'COMP_WORDS=(perceiver-io {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))'
    lines = [completion.script('bash'), asked, '_perceiver_io', 'echo ${COMPREPLY[@]}']
    shown = subprocess.run(
        ['bash', '-c', '\n'.join(lines)], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == [found]


def test_output_that_nobody_reads_is_no_error():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, '-m', 'perceiver_io.inspect', '--help'],
        cwd=ROOT,
        env={**os.environ, 'PYTHONUNBUFFERED': ''},
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, '')
