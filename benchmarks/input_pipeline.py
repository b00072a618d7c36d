"""Clips/s from a prepared dataset to batches, compared with other readers of the same clips.

    python benchmarks/input_pipeline.py [--clips=FOLDER] [--rival-python=PYTHON]

The clips are prepared as `prepare` does it: H.264 at 25 frames/s, short side 256, a key frame every
12 frames, AAC at 48 kHz, in ArrayRecord. The project reads that dataset, in the process itself
(workers 0) and in worker processes; the others read the same bytes as files. A batch is 8 random
windows of 16 x 224 x 224 and 30,720 samples. Each run is a process on as many cores as it has
readers; the readers take turns, and medians are reported.
"""

import argparse
import csv
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

BATCH = 8
WARM_UP = 3  # batches
LEAST_SECONDS = 9  # shorter clips are left out: whole-clip decoding would look better


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--clips', help='folder of media files; rendered clips if not given')
    parser.add_argument(
        '--rival-python',
        default=sys.executable,
        help='the Python that decord and torchcodec are installed in',
    )
    parser.add_argument('--workers', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--threads', type=int, default=1, help='in each process')
    parser.add_argument('--count', type=int, default=240, help='clips in a run')
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--output', default='runs/benchmarks/input_pipeline.json')
    parser.add_argument('--measure', type=int, help=argparse.SUPPRESS)  # workers, in a subprocess
    args = parser.parse_args()
    if args.measure is not None:
        print(json.dumps(read_batches(args.clips, args.measure, args.threads, args.count)))
        return

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        sizes = make_clips(args.clips, folder)
        ours = [
            sys.executable,
            __file__,
            f'--clips={folder}',
            f'--count={args.count}',
            f'--threads={args.threads}',
        ]
        rivals = [args.rival_python, ROOT / 'benchmarks' / 'input_rivals.py']
        commands = {
            _ours(workers): (max(workers, 1), [*ours, f'--measure={workers}'])
            for workers in (0, *args.workers)
        }
        commands |= {
            name: (1, [*rivals, name, folder, str(args.count // 4)])
            for name in ('decord', 'torchcodec')
        }
        commands['whole clip'] = (
            1,
            [sys.executable, rivals[1], 'whole clip', folder, str(args.count // 4)],
        )
        rows = compare(commands, args.runs)

    from benchmarks import measure  # brings JAX, which the measured processes do without

    measure.report(
        args.output,
        rows,
        clips=len(sizes),
        cores=os.cpu_count(),
        megabytes_per_clip=statistics.mean(sizes) / 1e6,
        **scaling(rows),
    )


def _ours(workers: int) -> str:
    return f'ours, workers={workers}'


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
            print(f'{name}: {found[name][-1]["clips"] / found[name][-1]["seconds"]:.1f} clips/s')
    return [
        {
            'reader': name,
            'cores': commands[name][0],
            'clips/s': statistics.median(one['clips'] / one['seconds'] for one in results),
            'clips/cpu s': statistics.median(one['clips'] / one['cpu_seconds'] for one in results),
        }
        for name, results in found.items()
    ]


def scaling(rows: list[dict]) -> dict[str, float]:
    """How many times as fast each number of workers is as one, each with a core of its own."""
    rates = {row['reader']: row['clips/s'] for row in rows}
    one = rates.get(_ours(1))
    return {
        f'{row["cores"]} workers on {row["cores"]} cores over 1 on 1': row['clips/s'] / one
        for row in rows
        if one and row['cores'] > 1
    }


def read_batches(folder: str, workers: int, threads: int, count: int) -> dict[str, float]:
    """Reads `count` clips through the loader; seconds on the clock and of all processors."""
    from perceiver_io.core.clip import ClipSpec
    from perceiver_io.data.config import DataConfig
    from perceiver_io.data.loader import train_batches
    from perceiver_io.data.sources import open_source

    spec = ClipSpec()
    source = open_source(DataConfig(source='tfds', path=folder), 'train', spec, needs_label=True)
    batches = train_batches(
        source, spec, batch_size=BATCH, seed=0, workers=workers, threads=threads
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


def make_clips(clips: str | None, folder: pathlib.Path) -> list[int]:
    """Prepares the dataset in `folder`, and writes its media as files beside it; returns sizes."""
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
        data_dir=folder, config='transcoded', min_seconds=LEAST_SECONDS, missing_audio='skip'
    )
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=folder))
    print(builder.summary())
    records = prepared.open_prepared(folder, Selection('train', ClipSpec())).records
    media = [record.load() for record in records]
    for index, content in enumerate(media):
        (folder / f'{index:03}.mp4').write_bytes(content)
    return [len(content) for content in media]


if __name__ == '__main__':
    main()
