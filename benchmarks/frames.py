"""Which frames are reconstructed well, and from which frames the latents read.

    python benchmarks/frames.py runs/demo

For each run: the video PSNR of every frame of a window, the mean over the first windows of the
clips of the evaluation split; and for each layer of the latents along t, its mean attention to the
frames.
"""

import argparse
import pathlib
import sys

import haiku as hk
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks.open_run import open_run
from perceiver_io.core.clip import Clip
from perceiver_io.metrics import quality
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.report.gather import first_windows
from perceiver_io.training.initialization.places import latent_places

CLIPS = 5  # whose attention is looked at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', nargs='+', help='with the placed start')
    args = parser.parse_args()
    for run in args.runs:
        loaded, experiment, records = open_run(run)
        sees_both = {'video', 'audio'} <= {*experiment.model.modalities}
        if experiment.initialization.shuffle or not sees_both:
            parser.error(f'{run}: its latents are shuffled, or it has no video or no audio')
        model = Autoencoder(experiment.model)
        windows = first_windows(records, experiment.clip_spec)
        print(run)
        psnr = np.mean([frame_psnr(model, loaded.params, window) for window in windows], axis=0)
        print(f'  PSNR of each frame in dB: {rounded(psnr, 1)}')

        places = latent_places(experiment.model, experiment.initialization)
        first = len(places['audio'].points) if 'audio' in places else 0
        index = np.arange(first, first + len(places['video'].points))
        shares = [frames_read(model, loaded.params, window, index) for window in windows[:CLIPS]]
        for t in np.unique(places['video'].points[:, 0]):
            layer = places['video'].points[:, 0] == t
            share = np.mean(shares, axis=0)[layer].mean(axis=0)
            print(
                f'  share of each frame in what the latents at t={t:+.2f} read: {rounded(share, 2)}'
            )


def frame_psnr(model: Autoencoder, params: hk.Params, window: Clip) -> np.ndarray:
    """[t]: the PSNR of the reconstruction of each frame."""
    video = window.video[None]
    output = np.clip(model.reconstruct(params, video=video, audio=window.audio[None]).video, 0, 1)
    error = np.square(output.reshape(video.shape) - video / 255)
    return quality.psnr(error.mean(axis=(0, 2, 3, 4)))


def frames_read(
    model: Autoencoder, params: hk.Params, window: Clip, index: np.ndarray
) -> np.ndarray:
    """[r, t]: the attention of the latents `index` to the tokens of each frame."""
    weights = model.encoder_attention(
        params, index=index, video=window.video[None], audio=window.audio[None]
    )['video']
    _, y, x = model.config.video_token_shape
    return np.sum(np.reshape(weights[0], (len(index), -1, y * x)), axis=2)


def rounded(values: np.ndarray, digits: int) -> list[float]:
    return [round(float(value), digits) for value in values]


if __name__ == '__main__':
    main()
