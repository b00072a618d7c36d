"""Clips/s from a prepared dataset to batches, compared with other readers of the same clips.

    python benchmarks/input_pipeline.py [--clips=FOLDER] [--rival-python=PYTHON]
    python benchmarks/input_pipeline.py [--clips=FOLDER] --no-rivals --workers 1 \
        --forms transcoded decoded --windows-per-read 1 2 4

The clips are prepared as `prepare` does it, in ArrayRecord; by default H.264 at 25 frames/s, short
side 256, a key frame every 12 frames, AAC at 48 kHz. The project reads that dataset, in the process
itself (workers 0) and in worker processes; the others read the same bytes as files. A batch is 8
random windows of 16 x 224 x 224 and 30,720 samples. Each run is a process on as many cores as it
has readers; the readers take turns, and medians are reported.
"""

import argparse
import csv
import itertools
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

BATCH = 8
WARM_UP = 3  # batches
LEAST_SECONDS = 9  # shorter clips are left out: whole-clip decoding would look better


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--clips', help='folder of media files; rendered clips if not given')
    parser.add_argument('--folder', help='of the prepared clips, which a later run finds again')
    parser.add_argument(
        '--rival-python',
        default=sys.executable,
        help='the Python that decord and torchcodec are installed in',
    )
    parser.add_argument('--no-rivals', dest='rivals', action='store_false')
    parser.add_argument('--forms', nargs='+', default=['transcoded'], help='of the prepared clips')
    parser.add_argument('--windows-per-read', type=int, nargs='+', default=[1])
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--threads', type=int, default=1, help='in each process')
    parser.add_argument('--count', type=int, default=240, help='clips in a run')
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--output', default='runs/benchmarks/input_pipeline.json')
    parser.add_argument('--measure', help=argparse.SUPPRESS)  # an `Ours` as JSON, in a subprocess
    args = parser.parse_args()
    if args.measure is not None:
        ours = Ours(*json.loads(args.measure))
        print(json.dumps(read_batches(args.clips, ours, args.threads, args.count)))
        return

    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(args.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        sizes = {form: make_clips(args.clips, folder, form) for form in args.forms}
        command = [
            sys.executable,
            __file__,
            f'--clips={folder}',
            f'--count={args.count}',
            f'--threads={args.threads}',
        ]
        commands = {
            str(ours): (max(ours.workers, 1), [*command, f'--measure={json.dumps(ours)}'])
            for ours in itertools.starmap(
                Ours, itertools.product(args.forms, args.windows_per_read, args.workers)
            )
        }
        if args.rivals:
            rivals = ROOT / 'benchmarks' / 'input_rivals.py'
            for name in ('decord', 'torchcodec', 'whole clip'):
                python = sys.executable if name == 'whole clip' else args.rival_python
                commands[name] = (1, [python, rivals, name, folder, str(args.count // 4)])
        rows = compare(commands, args.runs)

    from benchmarks import measure  # brings JAX, which the measured processes do without

    measure.report(
        args.output,
        rows,
        clips=len(sizes[args.forms[0]]),
        cores=os.cpu_count(),
        megabytes_per_clip={form: statistics.mean(each) / 1e6 for form, each in sizes.items()},
        **scaling(rows, str(Ours(args.forms[0], args.windows_per_read[0], 1))),
    )


class Ours(NamedTuple):
    """How this project reads."""

    form: str
    windows_per_read: int
    workers: int

    def __str__(self) -> str:
        return f'{self.form}, {self.windows_per_read} per read, workers={self.workers}'


def compare(commands: dict[str, tuple[int, list]], runs: int) -> list[dict]:
    """A row for each command: medians over the runs; one that fails is left out, with a word."""
    found = {name: [] for name in commands}
    for _ in range(runs):
        for name in list(found):
            cores, command = commands[name]
            done = subprocess.run(
                [str(part) for part in command],
                capture_output=True,
                text=True,
                preexec_fn=lambda cores=cores: os.sched_setaffinity(0, range(cores)),
            )
            if done.returncode:
                print(f'{name} left out: {(done.stderr.strip().splitlines() or ["?"])[-1]}')
                del found[name]
                continue
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
            clips, seconds, cpu_seconds = found[name][-1].values()
            print(
                f'{name}: {clips / seconds:.1f} clips/s, {clips / cpu_seconds:.1f} per cpu second',
                flush=True,
            )
    return [
        {
            'reader': name,
            'cores': commands[name][0],
            'clips/s': statistics.median(one['clips'] / one['seconds'] for one in results),
            'clips/cpu s': statistics.median(one['clips'] / one['cpu_seconds'] for one in results),
        }
        for name, results in found.items()
    ]


def scaling(rows: list[dict], base: str) -> dict[str, float]:
    """How many times as fast each reader of this project is as the one named `base`."""
    rates = {row['reader']: row['clips/s'] for row in rows if 'workers=' in row['reader']}
    return {
        f'{reader} over {base}': rate / rates[base]
        for reader, rate in rates.items()
        if base in rates and reader != base
    }


def read_batches(folder: str, ours: Ours, threads: int, count: int) -> dict[str, float]:
    """Reads `count` clips through the loader; seconds on the clock and of all processors."""
    from perceiver_io.core.clip import ClipSpec
    from perceiver_io.data.config import DataConfig
    from perceiver_io.data.loader import train_batches
    from perceiver_io.data.sources import open_source

    spec = ClipSpec()
    config = DataConfig(source='tfds', path=folder, dataset=f'av_folder/{ours.form}')
    source = open_source(config, 'train', spec, needs_label=True)
    batches = train_batches(
        source,
        spec,
        batch_size=BATCH,
        seed=0,
        windows_per_read=ours.windows_per_read,
        workers=ours.workers,
        threads=threads,
    )
    for _ in range(WARM_UP):
        next(batches)
    clock, processor = time.perf_counter(), processor_seconds()
    for _ in range(count // BATCH):
        next(batches)
    return {
        'clips': count // BATCH * BATCH,
        'seconds': time.perf_counter() - clock,
        'cpu_seconds': processor_seconds() - processor,
    }


def processor_seconds() -> float:
    """Of this process and its worker processes so far; Linux only."""
    seconds = time.process_time()
    for child in multiprocessing.active_children():
        fields = pathlib.Path(f'/proc/{child.pid}/stat').read_text().rsplit(')', 1)[1].split()
        seconds += sum(map(int, fields[11:13])) / os.sysconf('SC_CLK_TCK')
    return seconds


def make_clips(clips: str | None, folder: pathlib.Path, form: str) -> list[int]:
    """Prepares the dataset in `folder`; returns sizes. Transcoded, also as files beside it."""
    import tensorflow_datasets as tfds

    from perceiver_io.core.clip import ClipSpec
    from perceiver_io.data import prepared, rendered
    from perceiver_io.data.prepare import tfds_builders
    from perceiver_io.data.records import Selection

    if clips is None:
        clips = (
            rendered.render_folder(
                folder / 'rendered', train_clips=12, val_clips=1, size=256, seconds=10.0
            )
            / 'train'
        )
    with open(folder / 'labels.csv', 'w', newline='', encoding='utf-8') as file:
        table = csv.writer(file)
        table.writerow(['file', 'label', 'split'])
        table.writerows(
            [path.resolve(), 'any', 'train'] for path in sorted(pathlib.Path(clips).iterdir())
        )
    builder = tfds_builders.AvFolder(
        data_dir=folder, config=form, min_seconds=LEAST_SECONDS, missing_audio='skip'
    )
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=folder))
    print(builder.summary())
    selection = Selection('train', ClipSpec())
    records = prepared.open_prepared(folder, selection, f'av_folder/{form}').records
    media = [record.load() for record in records]
    if form == 'transcoded':
        for index, content in enumerate(media):
            (folder / f'{index:03}.mp4').write_bytes(content)
    return [len(content) for content in media]


if __name__ == '__main__':
    main()
