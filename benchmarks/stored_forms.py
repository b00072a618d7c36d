"""The forms of a prepared dataset, transcoded, original and decoded: bytes, preparing, reading.

    python benchmarks/stored_forms.py --clips FOLDER

Every media file of the folder is stored in each form, and windows of 16 x 224 x 224 with their
audio are read from all of them, one, two and four in a read, all on one core; processor time, forms
in turn. The rows are means over the clips that can be used, with sizes and preparing also per 10 s,
as long as Kinetics' clips are. PSNR is that of windows in RGB to the same windows of the original
file: the mean over clips, and the lowest.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks import measure  # noqa: E402
from perceiver_io.core.clip import ClipSpec
from perceiver_io.data import sampling
from perceiver_io.data.prepare import transcode
from perceiver_io.media import reader

FORMS = {
    'transcoded': transcode.Settings(),
    'original': transcode.Settings(keep_original=True),
    'decoded': transcode.Settings(decoded=True),
}
WINDOWS_PER_READ = (1, 2, 4)
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
            for count in WINDOWS_PER_READ:
                tasks['read', name, count] = lambda name=name, count=count: read_windows(
                    stored[name], count
                )
        times = measure.interleaved(tasks, args.runs)

        rows = []
        for name in FORMS:
            size = sum(copy.stat().st_size for copy, _ in stored[name]) / 1e6
            seconds = sum(seconds for _, seconds in stored[name])
            preparing = times['prepare', name].cpu_seconds
            found = [
                psnr(path, copy, seconds) for path, (copy, seconds) in zip(sources, stored[name])
            ]
            rates = {
                f'windows/s, {count} a read': len(sources)
                * WINDOWS
                / times['read', name, count].cpu_seconds
                for count in WINDOWS_PER_READ
            }
            rows.append(
                {
                    'form': name,
                    'clips': len(sources),
                    'seconds a clip': seconds / len(sources),
                    'MB a clip': size / len(sources),
                    'MB per 10 s': 10 * size / seconds,
                    'PSNR': statistics.mean(found),
                    'lowest PSNR': min(found),
                    'prepared clips/s': len(sources) / preparing,
                    'prepared 10 s/s': seconds / 10 / preparing,
                    **rates,
                }
            )
    measure.report(args.output, rows)


def read_windows(clips: list[tuple[pathlib.Path, float]], count: int) -> None:
    """Reads `WINDOWS` windows of each clip, `count` in a read, as training draws them."""
    spec, rng = ClipSpec(), np.random.default_rng(0)
    for path, seconds in clips:
        for _ in range(WINDOWS // count):
            starts = sampling.random_starts(rng, seconds, spec, count)
            reader.read_windows_at(path, starts, spec)


def psnr(original: pathlib.Path, copy: pathlib.Path, seconds: float) -> float:
    """Of windows of the copy, dB; infinite where nothing differs."""
    spec = ClipSpec(audio=False)
    starts = sampling.uniform_starts(seconds, spec, WINDOWS)[1:-1]
    one, other = (
        np.stack([clip.video for clip in reader.read_windows_at(path, starts, spec)])
        for path in (original, copy)
    )
    error = np.square(one - other.astype(float)).mean()
    return float(10 * np.log10(255**2 / error)) if error else float('inf')


if __name__ == '__main__':
    main()
