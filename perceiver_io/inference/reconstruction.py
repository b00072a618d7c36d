"""Windows of clips through the model, in bounded memory: encoded, decoded, or both; and written."""

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.core.clip import Array, Clip, ClipSpec, Output, to_float
from perceiver_io.media.side_by_side import SideBySide
from perceiver_io.media.writer import MediaWriter
from perceiver_io.metrics import quality
from perceiver_io.models.autoencoder import Autoencoder

Inputs = TypeVar('Inputs')  # a pytree of one window
Outputs = TypeVar('Outputs')
Batch = TypeVar('Batch', contravariant=True)  # a pytree of a batch of windows
Result = TypeVar('Result', covariant=True)


class Step(Protocol[Batch, Result]):
    """A function of the parameters and of a batch, jitted."""

    def __call__(self, params: hk.Params, batch: Batch, /) -> Result: ...


class Window(NamedTuple):
    """A window before and after the model. t counts valid frames: padding is cut off.

    Attributes:
        original: video uint8 [t, h, w, 3], audio int16 [s, 1], as far as the model has them; None
            if the window is decoded from latents.
        reconstruction: the same of the model's output, clipped to the range and rounded.
        video_error: [t] mean squared error of each frame (see `metrics.quality`), or None.
        audio_error: [t] the same of the audio of each frame, or None.
        scores: [k] softmax of the class logits, or None.
    """

    original: Clip | None
    reconstruction: Clip
    video_error: Array | None
    audio_error: Array | None
    scores: Array | None


@dataclasses.dataclass(frozen=True)
class Summary:
    """The windows of a file together; None for what the model does not have.

    Attributes:
        frames: how many valid frames, at the rate of the spec.
        windows: how many windows.
        video_psnr: in dB, of the squared error averaged over all valid frames.
        audio_psnr: the same; also None if the audio is digital silence (`quality.has_sound`).
        has_sound: whether the audio is more than digital silence.
        scores: [k] class scores averaged over the windows, weighted by valid frames (not in the
            paper).
    """

    frames: int
    windows: int
    video_psnr: float | None
    audio_psnr: float | None
    has_sound: bool
    scores: np.ndarray | None


def make_reconstruct_step(model: Autoencoder) -> Step[Clip, Window]:
    """step(params, clip) -> Window of a batch, [b, ...] each; the label is hidden.

    The clip has video uint8 [b, t, h, w, 3] and audio int16 [b, s, 1].
    """
    frames = model.config.frames

    def error_of_frames(prediction: jax.Array, target: jax.Array, low: float) -> jax.Array:
        shape = (len(target) * frames, -1)
        error = quality.squared_error(prediction.reshape(shape), target.reshape(shape), low)
        return error.reshape(-1, frames)

    def step(params: hk.Params, clip: Clip) -> Window:
        target = to_float(clip)
        output = model.reconstruct(params, video=target.video, audio=target.audio)
        video_error = audio_error = None
        if output.video is not None:
            video_error = error_of_frames(output.video, target.video, quality.VIDEO_RANGE[0])
        if output.audio is not None:
            audio_error = error_of_frames(output.audio, target.audio, quality.AUDIO_RANGE[0])
        return _window(output)._replace(
            original=clip, video_error=video_error, audio_error=audio_error
        )

    return jax.jit(step)


def make_encode_step(model: Autoencoder) -> Step[Clip, jax.Array]:
    """step(params, clip) -> latents [b, n, d] as of `Autoencoder.reconstruct`, float32 throughout.

    The clip is as in `make_reconstruct_step`.
    """
    model = model.in_float32()

    def step(params: hk.Params, clip: Clip) -> jax.Array:
        clip = to_float(clip)
        return model.encode(params, video=clip.video, audio=clip.audio)

    return jax.jit(step)


def make_decode_step(model: Autoencoder) -> Step[np.ndarray, Window]:
    """step(params, latents) -> Window without an original, of latents [b, n, d]."""

    def step(params: hk.Params, latents: jax.Array) -> Window:
        return _window(model.decode_clip(params, latents))

    return jax.jit(step)


def _window(output: Output) -> Window:
    """The model's output for whole clips, in the integers that files hold."""
    video, audio, label = output
    if video is not None:
        video = jnp.round(jnp.clip(video, 0, 1) * 255).astype(jnp.uint8)
    if audio is not None:
        audio = jnp.clip(jnp.round(audio * 32768), -32768, 32767).astype(jnp.int16)
    scores = None if label is None else jax.nn.softmax(label.astype(jnp.float32))
    return Window(None, Clip(video, audio), None, None, scores)


def run_windows(
    step: Callable[[hk.Params, Inputs], Outputs],
    params: hk.Params,
    windows: Iterable[tuple[Inputs, int]],
    batch_size: int,
) -> Iterator[tuple[Outputs, int]]:
    """Runs a step over (window, valid frames), as `media.reader.read_windows` yields them.

    Every batch has `batch_size` windows, so that one program is compiled: the last one is filled up
    by repeating its last window.
    """
    iterator = iter(windows)
    while part := list(itertools.islice(iterator, batch_size)):
        inputs = [window for window, _ in part]
        inputs += inputs[-1:] * (batch_size - len(inputs))
        batch = jax.tree.map(lambda *leaves: np.stack(leaves), *inputs)
        outputs = jax.device_get(step(params, batch))
        for index, (_, valid_frames) in enumerate(part):
            yield jax.tree.map(lambda leaf: leaf[index], outputs), valid_frames  # noqa: B023


def reconstruct_windows(
    step: Callable[[hk.Params, Inputs], Window],
    params: hk.Params,
    windows: Iterable[tuple[Inputs, int]],
    spec: ClipSpec,
    batch_size: int,
) -> Iterator[Window]:
    """`run_windows` for a step that returns a `Window`, cut to its valid frames."""
    for window, valid_frames in run_windows(step, params, windows, batch_size):
        yield _trimmed(window, valid_frames, spec)


def window_of(original: Clip, reconstruction: Clip, scores: Array | None, spec: ClipSpec) -> Window:
    """A window that is in integers already, with the errors that these have."""

    def errors(one: Array | None, other: Array | None, frames: int, scale: int) -> Array | None:
        if one is None or other is None:
            return None
        difference = (np.asarray(one, np.float32) - np.asarray(other, np.float32)) / scale
        return np.square(difference).reshape(frames, -1).mean(-1)

    video, audio, _ = original
    frames = len(audio) // spec.samples_per_frame if audio is not None else 0
    return Window(
        original,
        reconstruction,
        errors(video, reconstruction.video, 0 if video is None else len(video), 255),
        errors(audio, reconstruction.audio, frames, 32768),
        scores,
    )


def write_windows(
    windows: Iterable[Window],
    spec: ClipSpec,
    *,
    classes: Sequence[str] = (),
    side_by_side: str | os.PathLike | None = None,
    alone: str | os.PathLike | None = None,
) -> Summary:
    """Writes the windows of a file one after the other, and sums up.

    Args:
        windows: at least one.
        spec: their sizes and rates.
        classes: names of the classes by index, for the class predicted in the side-by-side video.
        side_by_side: the path of a video of original and reconstruction, see `media.side_by_side`;
            None for none. Needs windows with originals.
        alone: the path of the reconstruction alone; None for none.

    The files get their names when all windows are written, and not at all after an error.
    """
    drawing = SideBySide(spec)
    totals = _Totals(spec)
    with contextlib.ExitStack() as stack:
        both = single = None
        sample_rate = spec.sample_rate if spec.audio else None
        if side_by_side is not None:
            both = stack.enter_context(
                MediaWriter(
                    side_by_side,
                    width=drawing.width,
                    height=drawing.height,
                    frame_rate=spec.frame_rate,
                    sample_rate=sample_rate,
                    channels=2,
                )
            )
        if alone is not None:
            single = stack.enter_context(
                MediaWriter(
                    alone,
                    width=spec.width if spec.video else None,
                    height=spec.height if spec.video else None,
                    frame_rate=spec.frame_rate,
                    sample_rate=sample_rate,
                )
            )
        for window in windows:
            totals.add(window)
            if both is not None and window.original is not None:
                notes = totals.notes(classes)
                drawn = drawing.draw(window.original, window.reconstruction, notes)
                both.write(drawn.video, drawn.audio)
            if single is not None:
                single.write(window.reconstruction.video, window.reconstruction.audio)
    return totals.summary()


class _Totals:
    """Adds up the windows of a file."""

    def __init__(self, spec: ClipSpec):
        self._spec = spec
        self._frames: list[int] = []
        self._video_errors: list[np.ndarray] = []
        self._audio_errors: list[np.ndarray] = []
        self._scores: list[np.ndarray] = []
        self._has_sound = False

    def add(self, window: Window) -> None:
        video, audio, _ = window.reconstruction
        frames = len(audio) // self._spec.samples_per_frame if video is None else len(video)
        self._frames.append(frames)
        for values, value in (
            (self._video_errors, window.video_error),
            (self._audio_errors, window.audio_error),
            (self._scores, window.scores),
        ):
            if value is not None:
                values.append(value)
        if window.original is not None and window.original.audio is not None:
            self._has_sound |= quality.has_sound(window.original.audio)

    def notes(self, classes: Sequence[str]) -> list[tuple[str, str, str]]:
        """What to write below the panels of each frame of the newest window.

        The class and the PSNR of the clip are those of its windows so far; for the last window,
        they are those of the summary.
        """
        summary, frames = self.summary(), self._frames[-1]
        predicted = audio = ''
        if summary.scores is not None:
            best = int(summary.scores.argmax())
            name = classes[best] if best < len(classes) else f'class {best}'
            predicted = f'predicted {name} {summary.scores[best]:.0%}'
        if summary.audio_psnr is not None:
            audio = f'audio, clip so far {summary.audio_psnr:.1f} dB'
        video = [''] * frames
        if summary.video_psnr is not None:
            video = [
                f'frame {frame:.1f}, clip so far {summary.video_psnr:.1f} dB'
                for frame in quality.psnr(np.asarray(self._video_errors[-1]))
            ]
        return [(predicted, text, audio) for text in video]

    def summary(self) -> Summary:
        scores = np.average(self._scores, axis=0, weights=self._frames) if self._scores else None
        return Summary(
            frames=sum(self._frames),
            windows=len(self._frames),
            video_psnr=_psnr(self._video_errors),
            audio_psnr=_psnr(self._audio_errors) if self._has_sound else None,
            has_sound=self._has_sound,
            scores=scores,
        )


def _trimmed(window: Window, valid_frames: int, spec: ClipSpec) -> Window:
    def cut(clip: Clip) -> Clip:
        video, audio = clip.video, clip.audio
        return Clip(
            None if video is None else video[:valid_frames],
            None if audio is None else audio[: valid_frames * spec.samples_per_frame],
        )

    video_error, audio_error = window.video_error, window.audio_error
    return Window(
        None if window.original is None else cut(window.original),
        cut(window.reconstruction),
        None if video_error is None else video_error[:valid_frames],
        None if audio_error is None else audio_error[:valid_frames],
        window.scores,
    )


def _psnr(errors: list[np.ndarray]) -> float | None:
    return float(quality.psnr(np.concatenate(errors).mean())) if errors else None
