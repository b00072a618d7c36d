"""Wrong flags, files, folders, types and keys of every program: what a user then sees.

Each line is a command, its exit status (2 for the command line and its config, 1 for data, files
and checkpoints) and a part of the message. The message has one or two lines, without a traceback.
"""

import shlex
import sys

import numpy as np
import pytest

from perceiver_io import cli

CONFIGS = 'demo, finetune, kinetics700, kinetics700_fast, small'

# RUN is a run, CLIP a video, WORK a folder for output that does not exist, and the other names are
# the files that the fixture `places` makes.
WRONG = [
    # The dispatcher.
    ('', 2, 'no command is given'),
    ('trian', 2, 'did you mean train?'),
    ('nonsense', 2, 'commands: train'),
    ('--workdir=WORK', 2, 'no command'),
    ('completion', 2, 'name a shell'),
    ('completion fish', 2, 'name a shell'),
    # Training: flags and configs.
    ('train', 2, '--config'),
    ('train --config=demo', 2, '--workdir'),
    ('train --workdir=WORK', 2, '--config'),
    ('train --config --workdir=WORK', 2, CONFIGS),
    ('train --config= --workdir=WORK', 2, CONFIGS),
    (
        'train --config=nope.py --workdir=WORK',
        2,
        CONFIGS,
    ),
    (
        'train --config=FOLDER --workdir=WORK',
        2,
        CONFIGS,
    ),
    ('train --config=SYNTAX.py --workdir=WORK', 2, 'SyntaxError'),
    ('train --config=RAISES.py --workdir=WORK', 2, 'no good'),
    ('train --config=EMPTY.py --workdir=WORK', 2, 'get_config'),
    ('train --config=OPENS.py --workdir=WORK', 2, 'not_there'),
    ('train --config=demo --workdirs=WORK', 2, "'workdirs'"),
    ('train --config=demo --workdir', 2, 'workdir'),
    ('train --config=demo --workdir=', 2, '--workdir'),
    ('train demo --workdir=WORK', 2, 'demo'),
    ('train --config=demo extra --workdir=WORK', 2, 'extra'),
    ('train --config=demo --workdir=WORK --config.model.latens=3', 2, 'latents'),
    ('train --config=demo --workdir=WORK --config.modell.latents=3', 2, "has no key 'modell'"),
    ('train --config=demo --workdir=WORK --config.steps=9', 2, 'did you mean training.steps?'),
    ('train --config=demo --workdir=WORK --training.steps=9', 2, 'set by --config.KEY=VALUE'),
    ('train --config=demo --workdir=WORK --config.model.latents=many', 2, 'many'),
    ('train --config=demo --workdir=WORK --config.model.latents=1.5', 2, '1.5'),
    ('train --config=demo --workdir=WORK --config.model.remat=perhaps', 2, 'perhaps'),
    ('train --config=demo --workdir=WORK --config.model=3', 2, 'model'),
    ('train --config=demo --workdir=WORK --config.optimizer.learning_rate=fast', 2, 'fast'),
    ('train --config=demo --workdir=WORK --verbosity=loud', 2, 'loud'),
    # Training: values that are wrong, or do not fit each other or the data.
    ('train --config=demo --workdir=WORK --config.training.steps=0', 2, 'steps=0'),
    ('train --config=demo --workdir=WORK --config.training.seed=-1', 2, 'seed=-1'),
    (
        'train --config=demo --workdir=WORK --config.model.height=47',
        2,
        'height=47 must be divisible',
    ),
    ('train --config=demo --workdir=WORK --config.model.attention=fast', 2, 'attention'),
    ('train --config=demo --workdir=WORK --config.model.dtype=int8', 2, 'dtype'),
    ('train --config=demo --workdir=WORK --config.model.video_patch=4', 2, 'video_patch'),
    ("train --config=demo --workdir=WORK --config.model.modalities=('smell',)", 2, 'smell'),
    ('train --config=demo --workdir=WORK --config.data.source=moon', 2, 'moon'),
    ('train --config=demo --workdir=WORK --config.optimizer.name=sgd', 2, "'adamw' or 'muon'"),
    ('train --config=demo --workdir=WORK --config.mesh.context=3', 2, 'context=3'),
    ('train --config=demo --workdir=WORK --config.data.fraction=2.0', 2, 'fraction=2.0'),
    ('train --config=demo --workdir=WORK --config.optimizer.head_first=9', 2, 'init_from'),
    ('train --config=demo --workdir=WORK --config.sampling.audio_masked=2.0', 2, 'audio_masked=2'),
    ('train --config=demo --workdir=WORK --config.sampling.latents_kept=(317,)', 2, 'latents=316'),
    ('train --config=demo --workdir=WORK --config.data.source=folder', 2, 'data.path'),
    ('train --config=demo --workdir=WORK --config.data.fraction=0.0', 2, 'must be above 0'),
    ('train --config=demo --workdir=WORK --config.data.colour_jitter=1.0', 2, 'in [0, 1)'),
    ('train --config=demo --workdir=WORK --config.training.batch_sizes=4', 2, 'batch_size'),
    (
        'train --config=demo --workdir=WORK --config.training.batch_size=3'
        ' --config.training.accumulate=2',
        2,
        'batch_size=3 must be divisible by 2',
    ),
    ('train --config=demo --workdir=WORK --config.data.windows_per_read=0', 2, 'per_read=0'),
    ('train --config=demo --workdir=WORK --config.data.windows_per_read=7', 2, 'per_read=7'),
    ('eval --checkpoint=RUN --output=WORK --data.windows_per_read=0', 2, 'per_read=0'),
    # Training: data, files and folders.
    (
        'train --config=demo --workdir=WORK --config.data.source=folder --config.data.path=GONE',
        1,
        'GONE',
    ),
    (
        'train --config=demo --workdir=WORK --config.data.source=folder --config.data.path=FOLDER',
        1,
        'labels.csv',
    ),
    (
        'train --config=demo --workdir=WORK --config.data.source=folder --config.data.path=FOLDER'
        ' --config.data.csv=wrong.csv',
        1,
        'file',
    ),
    (
        'train --config=demo --workdir=WORK --config.data.source=folder --config.data.path=FOLDER'
        ' --config.data.csv=gone.csv',
        1,
        'gone.csv',
    ),
    ('train --config=demo --workdir=WORK --config.data.source=tfds', 2, 'data.path'),
    (
        'train --config=demo --workdir=WORK --config.data.source=tfds --config.data.path=FOLDER',
        1,
        'FOLDER',
    ),
    ('train --config=demo --workdir=TEXT', 1, 'TEXT'),
    ('train --config=demo --workdir=RUN', 1, 'RUN'),
    ('train --config=finetune --workdir=WORK', 2, 'init_from'),
    ('train --config=finetune --workdir=WORK --config.init_from=GONE', 1, 'GONE'),
    # Evaluation.
    ('eval', 2, '--checkpoint'),
    ('eval --checkpoint=RUN', 2, '--output'),
    ('eval --checkpoint=GONE --output=WORK', 1, 'GONE'),
    ('eval --checkpoint=FOLDER --output=WORK', 1, 'FOLDER'),
    ('eval --checkpoint=TEXT --output=WORK', 1, 'TEXT'),
    ('eval --checkpoint=RUN --output=TEXT', 1, 'TEXT'),
    ('eval --checkpoint=RUN --output=WORK --batch_size=0', 2, 'batch_size'),
    ('eval --checkpoint=RUN --output=WORK --batch_size=few', 2, 'few'),
    ('eval --checkpoint=RUN --output=WORK --videos=-1', 2, 'videos'),
    ('eval --checkpoint=RUN --output=WORK --data.pathh=x', 2, 'pathh'),
    ('eval --checkpoint=RUN --output=WORK --data.workers=some', 2, 'some'),
    ('eval --checkpoint=RUN --output=WORK --data.source=moon', 2, 'moon'),
    ('eval --checkpoint=RUN --output=WORK --data.path=GONE', 1, 'GONE'),
    ('eval --checkpoint=RUN --output=WORK --data.eval_windows=0', 2, 'eval_windows'),
    ('eval --checkpoint=RUN --output=WORK --data.eval_split=none', 2, 'none'),
    ('eval RUN --checkpoint=RUN --output=WORK', 2, 'RUN'),
    ('eval --checkpoint=RUN --output=WORK --hide=label', 2, 'hide'),
    ('eval --checkpoint=RUN --output=WORK --latents=9', 2, '9 latents cannot be kept of the 8'),
    ('eval --checkpoint=RUN --output=WORK --latents=0', 2, 'latents'),
    # Files through a model.
    ('reconstruct', 2, '--checkpoint'),
    ('reconstruct --checkpoint=RUN --output=WORK', 2, 'no file'),
    ('reconstruct CLIP --checkpoint=RUN', 2, '--output'),
    ('reconstruct CLIP --output=WORK', 2, '--checkpoint'),
    ('reconstruct CLIP --checkpoint=GONE --output=WORK', 1, 'GONE'),
    ('reconstruct GONE.mp4 --checkpoint=RUN --output=WORK', 1, 'GONE.mp4'),
    ('reconstruct TEXT --checkpoint=RUN --output=WORK', 1, 'TEXT'),
    ('reconstruct CLIP --checkpoint=RUN --output=TEXT', 1, 'TEXT'),
    ('reconstruct CLIP --checkpoint=RUN --output=WORK --bach_size=2', 2, 'batch_size'),
    ('reconstruct CLIP --checkpoint=RUN --output=WORK --hide=smell', 2, 'hide'),
    ('reconstruct CLIP --checkpoint=RUN --output=WORK --latents=9', 2, 'of the 8'),
    ('encode', 2, '--checkpoint'),
    ('encode --checkpoint=RUN --output=WORK.npz', 2, 'no file'),
    ('encode CLIP --checkpoint=RUN', 2, '--output'),
    ('encode GONE.mp4 --checkpoint=RUN --output=WORK.npz', 1, 'GONE.mp4'),
    ('encode CLIP --checkpoint=RUN --output=FOLDER', 2, 'FOLDER'),
    ('encode CLIP --checkpoint=RUN --output=CLIP', 2, 'name another'),
    ('embed CLIP --checkpoint=RUN --output=WORK.npz --batch_size=-1', 2, 'batch_size'),
    ('decode', 2, '--checkpoint'),
    ('decode --checkpoint=RUN --output=WORK', 2, 'one file of latents'),
    ('decode GONE.npz --checkpoint=RUN --output=WORK', 1, 'GONE.npz'),
    ('decode CLIP --checkpoint=RUN --output=WORK', 1, 'CLIP'),
    ('decode OTHER.npz --checkpoint=RUN --output=WORK', 1, 'OTHER.npz'),
    ('decode CLIP CLIP --checkpoint=RUN --output=WORK', 2, 'one file of latents'),
    # Weights.
    ('convert', 2, 'two names'),
    ('convert RUN', 2, 'two names'),
    ('convert GONE WORK', 1, 'GONE'),
    ('convert TEXT WORK', 1, 'TEXT'),
    ('convert RUN FOLDER', 1, 'FOLDER'),
    ('convert RUN WORK.pt', 1, 'WORK.pt'),
    ('convert RUN WORK --checkpoint=RUN', 2, 'checkpoint'),
    # Datasets.
    ('prepare', 2, 'missing'),
    ('prepare --source=FOLDER', 2, '--dataset_dir'),
    ('prepare --source= --dataset_dir=WORK', 2, '--source='),
    ('prepare --source=GONE --dataset_dir=WORK', 1, 'GONE'),
    ('prepare FOLDER --source=FOLDER --dataset_dir=WORK', 2, 'FOLDER'),
    ('prepare --source=FOLDER --dataset_dir=WORK --name=imagenet', 2, 'imagenet'),
    ('prepare --source=FOLDER --dataset_dir=WORK --workers=-1', 2, 'workers'),
    ('prepare --source=FOLDER --dataset_dir=WORK --min_seconds=long', 2, 'long'),
    ('prepare --source=FOLDER --dataset_dir=WORK --missing_audio=hum', 2, 'hum'),
    ('prepare --source=FOLDER --dataset_dir=WORK --decoded --keep_original', 2, 'exclude'),
    ('prepare --source=FOLDER --dataset_dir=WORK --name=av_folder', 1, 'labels.csv'),
    ('prepare --source=FOLDER --dataset_dir=WORK', 1, 'FOLDER'),
    ('prepare --source=FOLDER --dataset_dir=TEXT --name=rendered', 1, 'TEXT'),
    ('inspect', 2, '--output'),
    ('inspect --output=WORK --path=GONE', 1, 'GONE'),
    ('inspect --output=WORK --path=FOLDER', 1, 'labels.csv'),
    ('inspect --output=WORK --dataset_dir=FOLDER', 1, 'FOLDER'),
    ('inspect --output=WORK --dataset_dir=FOLDER --path=FOLDER', 2, 'exclude each other'),
    ('inspect --output=WORK --path=FOLDER --csv=wrong.csv', 1, 'file'),
    ('inspect --output=WORK --rows=0', 2, 'rows'),
    ('inspect FOLDER --output=WORK', 2, 'FOLDER'),
    ('sweep', 2, '--output'),
    ('sweep --output=WORK', 2, 'included are bottleneck, table5'),
    ('sweep bottleneck', 2, '--output'),
    ('sweep nope --output=WORK', 2, 'bottleneck, table5'),
    ('sweep FOLDER --output=WORK', 2, 'no such sweep'),
    ('sweep SYNTAX.py --output=WORK', 2, 'SyntaxError'),
    ('sweep EMPTY.py --output=WORK', 2, 'get_sweep'),
    ('sweep bottleneck --output=WORK --index=5', 2, '0 to 4'),
    ('sweep bottleneck --output=WORK --index=-1', 2, 'index'),
    ('sweep bottleneck --output=WORK --set=training.steps', 2, 'KEY=VALUE'),
    ('sweep bottleneck --output=WORK --set=training.stepps=9', 2, 'training.steps'),
    ('sweep bottleneck --output=WORK --set=training.steps=many', 2, 'many'),
    ('sweep bottleneck --output=WORK --set=model.latents=9', 2, 'differ by this key'),
    ('sweep table5 --output=WORK --set=data.source=moon', 2, 'point 0 (latents=784)'),
    ('sweep bottleneck --output=TEXT', 1, 'TEXT'),
    ('compile', 2, '--topology=v5e:16x16'),
    ('compile --config=demo', 2, '--topology'),
    ('compile --config=demo --topology=x:2', 2, 'give one of v4, v5e, v5p, v6e'),
    ('compile --config=demo --topology=v5e:2x2 --programs=run', 2, 'init,train,eval'),
]


@pytest.fixture(scope='module')
def places(run, clips, tmp_path_factory):
    """The names in WRONG and what they stand for."""
    work = tmp_path_factory.mktemp('wrong_usage')
    folder = work / 'folder'
    folder.mkdir()
    (folder / 'wrong.csv').write_text('name;kind\na.mp4;ring\n')
    text = work / 'text.txt'
    text.write_text('no model, no media\n')
    configs = {
        'SYNTAX.py': 'def get_config(:\n',
        'RAISES.py': 'def get_config():\n    raise ValueError("no good")\n',
        'EMPTY.py': '',
        'OPENS.py': 'def get_config():\n    return open("/not_there/at/all")\n',
    }
    for name, source in configs.items():
        (work / name).write_text(source)
    np.savez(work / 'OTHER.npz', latents=np.zeros(3))
    names = {name: work / name for name in configs}
    names |= {name: work / name for name in ('GONE.mp4', 'GONE.npz', 'OTHER.npz')}
    names |= {'RUN': run, 'CLIP': clips[0], 'TEXT': text, 'FOLDER': folder, 'GONE': work / 'gone'}
    return {name: str(path) for name, path in names.items()}


def test_the_table_is_long_enough():
    commands = [command for command, _, _ in WRONG]
    assert len(commands) == len(set(commands)) >= 60
    assert {command.split()[0] for command in commands if command} >= {*cli.COMMANDS}


@pytest.mark.parametrize('command, status, said', WRONG, ids=[line[0] or 'none' for line in WRONG])
def test_wrong_usage_is_one_or_two_lines(
    command, status, said, places, tmp_path, monkeypatch, capfd
):
    places = places | {f'WORK{end}': str(tmp_path / f'work{end}') for end in ('', '.npz', '.pt')}
    for name, path in sorted(places.items(), key=lambda item: -len(item[0])):
        command, said = command.replace(name, path), said.replace(name, path)
    arguments = shlex.split(command.replace("('smell',)", '"(\'smell\',)"'))
    monkeypatch.setattr(sys, 'argv', ['perceiver-io', *arguments])
    monkeypatch.delitem(sys.modules, 'config_config', raising=False)  # of an earlier command
    monkeypatch.delenv(cli.TRACEBACK, raising=False)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    errors = capfd.readouterr().err
    lines = [line for line in errors.splitlines() if line.strip() and '\r' not in line]
    assert stop.value.code == status, errors
    assert 1 <= len(lines) <= 2 and 'Traceback' not in errors, errors
    assert said in errors, errors
    left = {path.name for path in tmp_path.rglob('*')}
    if command.startswith('reconstruct'):  # the table of what failed
        left -= {'work', 'results.csv'}
    if not command.startswith('prepare'):  # TFDS has written which version it is
        assert not left, 'a command that failed left something behind'
