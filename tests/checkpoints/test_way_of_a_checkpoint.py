"""From `--checkpoint` to parameters: how many files of the package run."""

import inspect
import sys

import pytest
from helpers.runs import ROOT, make_run
from helpers.small_checkpoints import make_checkpoint

from perceiver_io.checkpoints import writing
from perceiver_io.checkpoints.loading import load_checkpoint

MOST = 9  # and the module of the command


@pytest.fixture(scope='module')
def forms(tmp_path_factory):
    folder = tmp_path_factory.mktemp('forms')
    writing.write_pystate(folder / 'x.pystate', make_checkpoint())
    writing.write_transformers(folder / 'library' / 'model.safetensors', make_checkpoint())
    make_run(folder / 'run')
    return folder


def files_that_run(function, *arguments):
    """The files of the package of which functions are called; imports do not count."""
    package = str(ROOT / 'perceiver_io')
    found = set()

    def note(frame, event, _):
        code = frame.f_code
        is_function = code.co_flags & inspect.CO_OPTIMIZED  # not the body of a module or class
        if event == 'call' and is_function and code.co_filename.startswith(package):
            found.add(code.co_filename.removeprefix(package))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function(*arguments)
    finally:
        sys.setprofile(before)
    return found


@pytest.mark.parametrize('name', ['x.pystate', 'library', 'run'])
def test_the_way_is_short(forms, name):
    found = files_that_run(load_checkpoint, forms / name)
    assert '/checkpoints/loading.py' in found and len(found) <= MOST, sorted(found)
    assert not [file for file in found if file.startswith(('/training', '/data', '/evaluation'))]
    assert '/models/autoencoder.py' not in found  # no model is traced
