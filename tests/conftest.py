"""Shared fixtures."""

import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope='session')
def shared_clips() -> pathlib.Path:
    """The folder of real clips that lies beside some checkouts; never part of the project."""
    folder = ROOT.parent / 'shared' / 'clips'
    if not folder.is_dir():
        pytest.skip('no ../shared/clips beside this checkout: real clips are not part of the project')
    return folder
