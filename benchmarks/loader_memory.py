"""Memory while reading: flat over 20,000 examples, or something leaks.

    python benchmarks/loader_memory.py [--workers=N]

Reads windows of small rendered clips through the loader, as in training, and notes the resident
memory of this process and of its workers at every thousandth example.
"""

import argparse
import multiprocessing
import os
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

BATCH = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--examples', type=int, default=20_000)
    parser.add_argument('--every', type=int, default=1000)
    parser.add_argument('--workers', type=int, default=0)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--output', default='runs/benchmarks/loader_memory.json')
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        rows = read(folder, args)

    from benchmarks import measure  # brings JAX, whose memory is not meant

    half = [row['megabytes'] for row in rows[len(rows) // 2 :]]
    measure.report(args.output, rows, growth_in_the_second_half_mb=half[-1] - half[0])


def read(folder: str, args: argparse.Namespace) -> list[dict]:
    """A row for each `args.every` examples: how many, megabytes, and seconds since the start."""
    from perceiver_io.core.clip import ClipSpec
    from perceiver_io.data import folder as folders
    from perceiver_io.data import loader, rendered
    from perceiver_io.data.records import Selection

    root = rendered.render_folder(folder, train_clips=60, val_clips=1, size=32, seconds=1.0)
    spec = ClipSpec(frames=4, height=32, width=32)
    source = folders.open_folder(root, Selection('train', spec))
    batches = loader.train_batches(
        source, spec, batch_size=BATCH, seed=0, workers=args.workers, threads=args.threads
    )
    start, rows = time.perf_counter(), []
    for count in range(BATCH, args.examples + 1, BATCH):
        next(batches)
        if count % args.every == 0:
            rows.append(
                {
                    'examples': count,
                    'megabytes': resident_megabytes(),
                    'seconds': time.perf_counter() - start,
                }
            )
            print(rows[-1], flush=True)
    batches.close()
    return rows


def resident_megabytes() -> float:
    """Of this process and its children; Linux only."""
    processes = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    pages = sum(int(pathlib.Path(f'/proc/{pid}/statm').read_text().split()[1]) for pid in processes)
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6


if __name__ == '__main__':
    main()
