"""Files through the model, window by window, in bounded memory: there and back, or one way."""

import contextlib
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.core.clip import Clip, ClipSpec, Output, to_float
from perceiver_io.media.side_by_side import SideBySide
from perceiver_io.media.writer import MediaWriter
from perceiver_io.metrics import quality
from perceiver_io.models.autoencoder import Autoencoder

SIDE_BY_SIDE = '_side_by_side.mp4'  # ends the name of a file with both
NO_SOUND = 'it has no sound: silence went in'


class Window(NamedTuple):
    """A window before and after. t is the number of its real frames: the padding is cut off.

    Attributes:
        original: video uint8 [t, h, w, 3], audio int16 [s, 1], as far as the model has them;
            None where it comes from latents.
        reconstruction: the same of what comes out, clipped to the range and rounded.
        video_error: [t] mean squared error of each frame (see `metrics`), or None.
        audio_error: [t] the same of the sound that belongs to each frame, or None.
        scores: [k] of the classes (softmax), or None.
    """

    original: Clip | None
    reconstruction: Clip
    video_error: np.ndarray | None
    audio_error: np.ndarray | None
    scores: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Summary:
    """What came out over all windows of a file; None for what the model does not have.

    Attributes:
        frames: real ones, at the rate of the spec.
        windows: that they came in.
        video_psnr, audio_psnr: dB, of the squared error averaged over all real frames; audio_psnr
            is None for digital silence.
        scores: [k] of the classes, averaged over the windows by their real frames (ours).
    """

    frames: int
    windows: int
    video_psnr: float | None
    audio_psnr: float | None
    scores: np.ndarray | None


def make_reconstruct_step(model: Autoencoder) -> Callable:
    """step(params, clip) -> Window of a batch, all [b, ...], jitted; the label is hidden.

    The clip has video uint8 [b, t, h, w, 3] and audio int16 [b, s, 1].
    """
    frames = model.config.frames

    def error_of_frames(ours, target, low):
        parts = [x.reshape(len(x) * frames, -1) for x in (ours, target)]
        return quality.squared_error(*parts, low).reshape(-1, frames)

    @jax.jit
    def step(params: hk.Params, clip: Clip) -> Window:
        target = to_float(clip)
        output = model.reconstruct(params, video=target.video, audio=target.audio)
        video_error = audio_error = None
        if output.video is not None:
            video_error = error_of_frames(output.video, target.video, 0.0)
        if output.audio is not None:
            audio_error = error_of_frames(output.audio, target.audio, -1.0)
        return _window(output)._replace(
            original=clip, video_error=video_error, audio_error=audio_error
        )

    return step


def make_encode_step(model: Autoencoder) -> Callable:
    """step(params, clip) -> latents [b, n, d] as of `Autoencoder.reconstruct`, float32 throughout.

    The clip is as in `make_reconstruct_step`.
    """
    model = model.in_float32()

    @jax.jit
    def step(params: hk.Params, clip: Clip) -> jax.Array:
        clip = to_float(clip)
        return model.encode(params, video=clip.video, audio=clip.audio)

    return step


def make_decode_step(model: Autoencoder) -> Callable:
    """step(params, latents) -> Window without an original, of latents [b, n, d]."""

    @jax.jit
    def step(params: hk.Params, latents: jax.Array) -> Window:
        return _window(model.decode_clip(params, latents))

    return step


def _window(output: Output) -> Window:
    """What the model says of whole clips, in the integers of files."""
    video, audio, label = output
    if video is not None:
        video = jnp.round(jnp.clip(video, 0, 1) * 255).astype(jnp.uint8)
    if audio is not None:
        audio = jnp.clip(jnp.round(audio * 32768), -32768, 32767).astype(jnp.int16)
    scores = None if label is None else jax.nn.softmax(label.astype(jnp.float32))
    return Window(None, Clip(video, audio), None, None, scores)


def run_windows(
    step: Callable, params: hk.Params, windows: Iterable[tuple[Any, int]], batch_size: int
) -> Iterator[tuple[Any, int]]:
    """Runs a step over (window, real frames), as `media.read_windows` yields them.

    Every batch has `batch_size` windows, the last one filled up, so that one program is compiled.
    """
    windows = iter(windows)
    while part := list(itertools.islice(windows, batch_size)):
        inputs = [window for window, _ in part]
        inputs += inputs[-1:] * (batch_size - len(inputs))
        batch = jax.tree.map(lambda *leaves: np.stack(leaves), *inputs)
        done = jax.device_get(step(params, batch))
        for index, (_, real) in enumerate(part):
            yield jax.tree.map(lambda leaf: leaf[index], done), real  # noqa: B023


def reconstruct_windows(
    step: Callable,
    params: hk.Params,
    windows: Iterable[tuple[Any, int]],
    spec: ClipSpec,
    batch_size: int,
) -> Iterator[Window]:
    """`run_windows` for a step that makes a `Window`, cut to its real frames."""
    for window, real in run_windows(step, params, windows, batch_size):
        yield _trimmed(window, real, spec)


def write_windows(
    windows: Iterable[Window],
    spec: ClipSpec,
    *,
    side_by_side: str | os.PathLike | None = None,
    alone: str | os.PathLike | None = None,
) -> Summary:
    """Writes the windows of a file, one after the other, and sums up.

    Args:
        windows: at least one.
        spec: their sizes and rates.
        side_by_side: the target of the video with both, see `showcase.SideBySide`; None for none.
        alone: the target of the reconstruction alone; None for none.

    The targets get their names when all windows are written, and not at all after an error.
    """
    sound = spec.sample_rate if spec.audio else None
    drawing = SideBySide(spec)
    frames, video_errors, audio_errors, scores = [], [], [], []
    has_sound = False
    with contextlib.ExitStack() as stack:
        both = (
            None
            if side_by_side is None
            else stack.enter_context(
                MediaWriter(
                    side_by_side,
                    width=drawing.width,
                    height=drawing.height,
                    frame_rate=spec.frame_rate,
                    sample_rate=sound,
                    channels=2,
                )
            )
        )
        single = (
            None
            if alone is None
            else stack.enter_context(
                MediaWriter(
                    alone,
                    width=spec.width if spec.video else None,
                    height=spec.height if spec.video else None,
                    frame_rate=spec.frame_rate,
                    sample_rate=sound,
                )
            )
        )
        for window in windows:
            video, audio, _ = window.reconstruction
            if both is not None:
                drawn = drawing.draw(window.original, window.reconstruction)
                both.write(drawn.video, drawn.audio)
            if single is not None:
                single.write(video, audio)
            frames.append(len(audio) // spec.samples_per_frame if video is None else len(video))
            video_errors.append(window.video_error)
            audio_errors.append(window.audio_error)
            original = window.original
            if original is not None and original.audio is not None:
                has_sound = has_sound or quality.has_sound(original.audio)
            scores.append(window.scores)
    return Summary(
        sum(frames),
        len(frames),
        _psnr(video_errors),
        _psnr(audio_errors) if has_sound else None,
        None if scores[0] is None else np.average(scores, axis=0, weights=frames),
    )


def output_stems(paths: Sequence[str | os.PathLike], output: pathlib.Path) -> list[str]:
    """A stem for the outputs of each file: its own, or with a number if that one is taken.

    Taken are stems whose files would replace those of another input, or an input itself.
    """
    taken = {os.path.realpath(path).casefold() for path in paths}
    stems = []
    for path in map(pathlib.Path, paths):
        for number in itertools.count(1):
            stem = path.stem if number == 1 else f'{path.stem}_{number}'
            targets = {
                os.path.realpath(output / f'{stem}{end}').casefold()
                for end in ('.mp4', SIDE_BY_SIDE)
            }
            if not targets & taken:
                break
        taken |= targets
        stems.append(stem)
    return stems


def _trimmed(window: Window, real: int, spec: ClipSpec) -> Window:
    def cut(clip):
        video, audio = clip.video, clip.audio
        return Clip(
            None if video is None else video[:real],
            None if audio is None else audio[: real * spec.samples_per_frame],
        )

    errors = [
        None if error is None else error[:real]
        for error in (window.video_error, window.audio_error)
    ]
    original = None if window.original is None else cut(window.original)
    return Window(original, cut(window.reconstruction), *errors, window.scores)


def _psnr(errors: list) -> float | None:
    return None if errors[0] is None else float(quality.psnr(np.concatenate(errors).mean()))
