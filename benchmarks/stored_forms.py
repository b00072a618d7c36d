"""The two forms of a prepared dataset, transcoded and original: bytes, preparing, reading.

    python benchmarks/stored_forms.py --clips FOLDER

Every media file of the folder is stored in both forms, and windows of 16 x 224 x 224 with their
sound are read from both, all on one core; processor time, forms in turn. The rows are means over
the clips that can be used, with sizes and preparing also per 10 s, as long as Kinetics' clips are.
"""

import argparse
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks import measure  # noqa: E402
from perceiver_io.core.clip import ClipSpec
from perceiver_io.data import sampling
from perceiver_io.data.prepare import transcode
from perceiver_io.media import reader

FORMS = {'transcoded': transcode.Settings(), 'original': transcode.Settings(keep_original=True)}
WINDOWS = 4  # of each clip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--clips', required=True, help='folder of media files')
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--output', default='runs/benchmarks/stored_forms.json')
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        stored, sources = {name: [] for name in FORMS}, []
        for path in sorted(pathlib.Path(args.clips).iterdir()):
            try:
                clips = [transcode.store(path, settings, folder) for settings in FORMS.values()]
            except transcode.Rejected as error:
                print(f'{path.name} is left out: {error.reason} {error.detail}')
                continue
            sources.append(path)
            for name, clip in zip(FORMS, clips):
                copy = folder / f'{name}_{path.stem}{path.suffix if name == "original" else ".mp4"}'
                copy.write_bytes(clip.media)
                stored[name].append((copy, clip.seconds))
        if not sources:
            raise SystemExit(f'no usable clip in {args.clips}: give a folder of media files')

        tasks = {}
        for name, settings in FORMS.items():
            tasks['prepare', name] = lambda settings=settings: [
                transcode.store(path, settings, folder) for path in sources
            ]
            tasks['read', name] = lambda name=name: read_windows(stored[name])
        times = measure.interleaved(tasks, args.runs)

        rows = []
        for name in FORMS:
            size = sum(copy.stat().st_size for copy, _ in stored[name]) / 1e6
            seconds = sum(seconds for _, seconds in stored[name])
            preparing = times['prepare', name].cpu_seconds
            reading = times['read', name].cpu_seconds / (len(sources) * WINDOWS)
            rows.append(
                {
                    'form': name,
                    'clips': len(sources),
                    'seconds a clip': seconds / len(sources),
                    'MB a clip': size / len(sources),
                    'MB per 10 s': 10 * size / seconds,
                    'prepared clips/s': len(sources) / preparing,
                    'prepared 10 s/s': seconds / 10 / preparing,
                    'windows/s': 1 / reading,
                }
            )
    measure.report(args.output, rows)


def read_windows(clips: list[tuple[pathlib.Path, float]]) -> None:
    """Reads `WINDOWS` windows of each clip."""
    spec = ClipSpec()
    for path, seconds in clips:
        for start in sampling.uniform_starts(seconds, spec, WINDOWS):
            reader.read_window(path, start, spec)


if __name__ == '__main__':
    main()
