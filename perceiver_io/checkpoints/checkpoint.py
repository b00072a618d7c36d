"""What a checkpoint holds, whatever its form on disk."""

import dataclasses

import haiku as hk

from perceiver_io.core.clip import ClipSpec
from perceiver_io.models.config import AutoencoderConfig


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A trained model, and what is known of the clips that it was trained on.

    Attributes:
        config: of the model.
        params: {module: {name: float32 array}}.
        classes: names of the classes by index. Empty for a model without labels; fewer than
            `config.classes` if the training clips had fewer classes.
        frame_rate: video frames per second; 25 in the paper.
        step: of training; None if it is not known.
    """

    config: AutoencoderConfig
    params: hk.Params
    classes: tuple[str, ...] = ()
    frame_rate: int = 25
    step: int | None = None

    @property
    def clip_spec(self) -> ClipSpec:
        """The sizes and rates to which files are read for this model."""
        return clip_spec(self.config, self.frame_rate)

    def class_name(self, index: int) -> str:
        """The name of a class; 'class 7' for one without a name."""
        return self.classes[index] if index < len(self.classes) else f'class {index}'


def clip_spec(config: AutoencoderConfig, frame_rate: int) -> ClipSpec:
    """The sizes and rates to which files are read for a model."""
    return ClipSpec(
        frames=config.frames,
        height=config.height,
        width=config.width,
        frame_rate=frame_rate,
        sample_rate=config.samples_per_frame * frame_rate,
        video='video' in config.modalities,
        audio='audio' in config.modalities,
    )
