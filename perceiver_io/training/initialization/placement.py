"""Config of the placed start."""

import dataclasses

from perceiver_io.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Placement:
    """What the placed start aims at (not in the paper). Used if `model.initialization='placed'`.

    How much an attention reads is measured by its perplexity: exp(entropy) of the weights of one
    latent or query, the median over latents or queries. The scales of the logits are solved for
    these targets.

    Attributes:
        audio_share: share of the latents that the audio gets if the model also has video. Latents
            that do not fill the video's grid go to the audio, too.
        video_grid: video latents along (t, y, x); None for the grid of `places.best_grid`.
        time_ends: whether the first and last video latents along t lie in the first and last frame.
            False: at the centres of equal parts of the window. Latents that read one frame each
            then leave the frames beyond them to be extrapolated.
        spread: standard deviation of the kernel of each axis, as a multiple of its length over the
            number of latents along it.
        time_spread: factor for `spread` along t.
        tokens_per_latent: tokens that a video latent reads, as a multiple of the modality's tokens
            per latent.
        audio_tokens_per_latent: the same for the audio.
        latents_per_query: latents that a query reads along each axis with two latents or more.
        self_attends: factor for the output layers of the self-attends. If they are small, the
            latents that the decoder reads are still close to the initial ones.
        readouts: factor for the weights of the readouts.
        shuffle: whether the latents come in a random order, so that the first of them lie
            everywhere, as `sampling.latents_kept` needs; False: the audio's, then the video's.
        video_mean: initial bias of the video's readout: the mean of the training pixels in [0, 1].
    """

    audio_share: float = 0.25
    video_grid: tuple[int, int, int] | None = None
    time_ends: bool = False
    spread: float = 1.0
    time_spread: float = 1.0
    tokens_per_latent: float = 1.0
    audio_tokens_per_latent: float = 1.0
    latents_per_query: float = 2.0
    self_attends: float = 0.3
    readouts: float = 0.1
    shuffle: bool = False
    video_mean: float = 0.45

    def __post_init__(self) -> None:
        if not 0 < self.audio_share < 1:
            raise UserError(f'initialization.audio_share={self.audio_share} must be in (0, 1)')
        if self.video_grid is not None and min(self.video_grid) < 1:
            raise UserError(
                f'initialization.video_grid={self.video_grid} must have three positive numbers'
            )
        for name in ('spread', 'time_spread', 'tokens_per_latent', 'audio_tokens_per_latent'):
            if getattr(self, name) <= 0:
                raise UserError(f'initialization.{name}={getattr(self, name)} must be positive')
        if self.latents_per_query < 1:
            raise UserError(
                f'initialization.latents_per_query={self.latents_per_query} must be at least 1'
            )
        for name in ('self_attends', 'readouts'):
            if getattr(self, name) < 0:
                raise UserError(f'initialization.{name}={getattr(self, name)} must not be negative')
