"""The README, the pages of docs/ and the project files agree with the project."""

import inspect
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
from helpers.tiny import TINY_DEMO

import perceiver_io
from perceiver_io import cli, sweep
from perceiver_io.configs import kinetics700
from perceiver_io.metrics import baselines, registry
from perceiver_io.sweeps import points

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / 'README.md').read_text()
PAGES = [
    *(ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md')),
    *sorted((ROOT / 'docs').glob('*.md')),
]

# Flags that make the demo a matter of seconds.
SHRUNK = TINY_DEMO | {'training.steps': 3}


def block_under(heading: str, language: str) -> str:
    """The first code block of a section."""
    section = re.search(rf'^## {heading}\n(.*?)(?=^## |\Z)', README, re.M | re.S)[1]
    return re.search(rf'^```{language}\n(.*?)^```', section, re.M | re.S)[1]


def line_under(heading: str) -> str:
    block = block_under(heading, 'bash')
    assert block.count('\n') == 1, f'{heading} is more than one line'
    return block.strip()


def test_run_it(tmp_path):
    """Its programs, one after the other, with the demo shrunk still further."""
    steps = line_under('Run it').split(' && ')
    assert steps[0] == 'python3 -m venv .venv'
    assert steps[1] == '.venv/bin/pip install -q -r requirements.txt'
    programs = [shlex.split(step) for step in steps[2:]]
    assert [program[:2] for program in programs] == [
        ['.venv/bin/python', 'train.py'],
        ['.venv/bin/python', 'eval.py'],
    ]
    programs[0] += [f'--config.{name}={value}' for name, value in SHRUNK.items()]
    programs[0] += [f'--config.data.cache={tmp_path}/cache']
    for program in programs:
        arguments = [argument.replace('runs/demo', str(tmp_path / 'run')) for argument in program]
        done = subprocess.run(
            [sys.executable, *arguments[1:]], cwd=ROOT, text=True, capture_output=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
    assert 'mean colour' in done.stdout
    last = pathlib.Path(done.stdout.split()[-1])
    assert last.name.endswith('_side_by_side.mp4') and last.stat().st_size > 1000


def test_test_it():
    assert line_under('Test it').endswith('-m pytest -q -n 2 --dist loadfile')
    assert '-r requirements-dev.txt' in line_under('Test it')


def test_the_python_snippet_runs():
    names: dict = {}
    exec(block_under('Python', 'python'), names)
    config = names['config']
    assert names['latents'].shape == (1, config.latents, config.latent_channels)
    assert names['clip'].video.shape == names['video'].shape
    assert names['clip'].audio.shape == names['audio'].shape
    assert names['pixels'].video.shape == (1, 8, 3)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_paths_in_the_layout_exist():
    table = README.split('## Layout')[1].split('##')[0]
    paths = re.findall(r'`([\w/.]+)`', table)
    assert len(paths) > 12
    for path in paths:
        assert (ROOT / path).exists() or (ROOT / 'perceiver_io' / path).exists(), path


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_and_commands_of_pages_exist(page):
    text = page.read_text()
    for target in re.findall(r'\]\(([^)#]+)[^)]*\)', text):
        assert target.startswith('https://') or (page.parent / target).exists(), target
    for module in re.findall(r'python -m (perceiver_io[\w.]*)', text):
        gone = page.name in ('migration.md', 'CHANGELOG.md') and '.data.' in module
        path = ROOT / module.replace('.', '/')
        assert gone or path.with_suffix('.py').exists(), module
    for script in re.findall(r'python ([\w/]+\.py)', text):
        assert (ROOT / script).exists(), script
    for test in re.findall(r'`(tests/[a-z_/.0-9]+)`', text):
        assert (ROOT / test).exists(), test
    for command in re.findall(r'perceiver-io ([a-z]\w*)', text):
        assert command in cli.COMMANDS, command
    for name in re.findall(r'perceiver-io train --config=(\w+)', text):
        assert name in cli.shipped_configs(), name


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_config_keys_of_pages_exist(page):
    keys = kinetics700.get_config().to_dict()
    text = page.read_text()
    named = re.findall(r'--config\.(\w+)\.(\w+)=', text)
    named += re.findall(r'`(data|sampling|loss|optimizer|training|mesh)\.(\w+)`', text)
    for group, key in named:
        assert key in keys[group], f'{group}.{key}'


def test_every_page_is_in_the_table_of_the_first():
    index = (ROOT / 'docs/index.md').read_text()
    missing = [page.name for page in (ROOT / 'docs').glob('*.md') if f']({page.name})' not in index]
    assert missing == ['index.md']


def test_the_sweep_of_its_page_can_be_trained():
    page = (ROOT / 'docs/sweeps.md').read_text()
    values: dict = {}
    exec(re.search(r'^```python\n(.*?)^```', page, re.M | re.S)[1], values)
    made = points.make_sweep('mine', values['get_sweep'](), {})
    assert len(made.points) == 5
    assert len(sweep.complete_configs(made)) == 5


def test_every_hyperparameter_of_the_paper_is_documented_with_its_source():
    config = kinetics700.get_config().to_dict()
    tags = re.findall(r'config\.(\w+)\.(\w+) = .*# \[(.*?)\]', inspect.getsource(kinetics700))
    page = (ROOT / 'docs' / 'reproducing.md').read_text()
    rows = re.findall(r'^\| `(\w+)\.(\w+)` \| `(.*?)` \| (.*?) \|', page, re.MULTILINE)
    expected = [
        (group, key, repr(config[group][key]), 'released code' if tag == 'code' else tag)
        for group, key, tag in tags
        if group in ('model', 'sampling', 'loss', 'optimizer', 'training')
    ]
    assert len(expected) > 60
    assert rows == expected


def test_every_metric_is_documented():
    page = (ROOT / 'docs' / 'metrics.md').read_text()
    records = [*registry.ALL_METRICS, *baselines.ALL_BASELINES]
    assert len(records) > 15
    assert [record.name for record in records if f'`{record.name}`' not in page] == []


def test_the_version_to_cite():
    assert f'version: {perceiver_io.__version__}\n' in (ROOT / 'CITATION.cff').read_text()
