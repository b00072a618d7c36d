"""The notebook: without outputs in the repository, and running from top to bottom."""

import json
import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / 'notebooks' / 'autoencode_a_clip.ipynb'


def code_cells():
    cells = json.loads(NOTEBOOK.read_text())['cells']
    return [cell for cell in cells if cell['cell_type'] == 'code']


def test_outputs_are_cleared():
    assert all(cell['outputs'] == [] and cell['execution_count'] is None for cell in code_cells())


def test_one_line_changes_the_model():
    lines = [line for cell in code_cells() for line in cell['source']]
    assert sum(line.startswith('CHECKPOINT = None') for line in lines) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings('default')  # of the packages that run notebooks
def test_it_runs_from_top_to_bottom(tmp_path, monkeypatch):
    """With fewer steps of training, and then with the run that this made as the checkpoint."""
    import nbclient
    import nbformat

    paths = [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(paths))
    for checkpoint in (None, 'autoencode_a_clip/run'):
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        [first] = [cell for cell in notebook.cells if 'STEPS = 150' in cell.source]
        first.source = first.source.replace('STEPS = 150', 'STEPS = 6')
        first.source = first.source.replace('CHECKPOINT = None', f'CHECKPOINT = {checkpoint!r}')
        nbclient.NotebookClient(
            notebook, timeout=400, resources={'metadata': {'path': str(tmp_path)}}
        ).execute()
        outputs = [out for cell in notebook.cells for out in cell.get('outputs', ())]
        text = ''.join(out.get('text', '') for out in outputs)
        assert 'latents (64, 128), 8,192 values' in text and 'audio' in text
        shown = [kind for out in outputs for kind in out.get('data', ())]
        assert shown.count('image/svg+xml') == 1
        videos = [out for out in outputs if '<video' in out.get('data', {}).get('text/html', '')]
        assert len(videos) == 2
