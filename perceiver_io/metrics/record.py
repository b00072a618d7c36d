"""What a metric is: a record that every table, file and plot of results iterates over.

Measuring a set of clips takes three steps, and a record has a function for each:

    measure     on the device: the statistic of every window of a batch
    value       on the host: the clip's value, from the mean of its windows' statistics
    aggregate   on the host: the result, from the values of all clips

Statistics are such that their mean over the windows of a clip is the clip's (errors, energies and
scores, never decibels). Rows of clips can therefore be measured by any number of processes, in any
order, and joined afterwards.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from perceiver_io.core.clip import Clip, Output

Modality = Literal['video', 'audio', 'label']


class ClipFacts(NamedTuple):
    """What is known of n clips apart from the model's output.

    Attributes:
        label: int [n], class index; -1 where unknown.
        has_sound: bool [n], whether the audio is more than digital silence.
    """

    label: np.ndarray
    has_sound: np.ndarray


def every_clip(facts: ClipFacts) -> np.ndarray:
    """bool [n]: all clips count."""
    return np.ones(len(facts.label), bool)


def clips_with_sound(facts: ClipFacts) -> np.ndarray:
    """bool [n]: the rule for silence. Audio metrics ignore clips of nothing but zeros."""
    return facts.has_sound


def labelled_clips(facts: ClipFacts) -> np.ndarray:
    """bool [n]: classification metrics ignore clips whose class is unknown."""
    return facts.label >= 0


def mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted mean over clips: values [n], weights [..., n] to [...]."""
    return weights @ values / weights.sum(axis=-1)


@dataclasses.dataclass(frozen=True)
class Statistic:
    """A number, or a vector, of every window.

    Attributes:
        name: unique; metrics may share a statistic, which is then computed once.
        modality: that it is of; None for a statistic of all modalities together.
        function: (prediction, target) -> [b, ...], in JAX. Both are arrays of the modality, floats
            as in `Output` and `Clip`, the prediction not clipped to any range; without a modality
            they are an `Output` and a `Clip`.
    """

    name: str
    modality: Modality | None
    function: Callable[[Any, Any], jax.Array]

    def measure(self, prediction: Output, target: Clip) -> jax.Array:
        """[b, ...] of a batch; the target's video and audio are floats."""
        if self.modality is None:
            return self.function(prediction, target)
        return self.function(getattr(prediction, self.modality), getattr(target, self.modality))


@dataclasses.dataclass(frozen=True)
class Metric:
    """A measure of quality.

    Attributes:
        name: key of the result in `table5.json`, and under `eval/` in TensorBoard.
        title: heading of its column in tables.
        unit: 'dB', '%' or ''.
        definition: what it means, in a sentence.
        statistic: what is measured of every window.
        value: (statistic [n, ...], facts) -> [n], the values of n clips; the statistic is its mean
            over the windows of each clip.
        counts: facts -> bool [n], the clips that have a value.
        aggregate: (values [n], weights [..., n]) -> [...], the result over clips.
        column: heading of the clips' values in `clips.csv`.
        form: how tables print the result, for `str.format`.
        higher_is_better: the direction.
        in_table: whether the table in the terminal has a column for it.
    """

    name: str
    title: str
    unit: str
    definition: str
    statistic: Statistic
    value: Callable[[np.ndarray, ClipFacts], np.ndarray]
    counts: Callable[[ClipFacts], np.ndarray] = every_clip
    aggregate: Callable[[np.ndarray, np.ndarray], np.ndarray] = mean
    column: str = ''
    form: str = '{:.2f}'
    higher_is_better: bool = True
    in_table: bool = True

    def __post_init__(self) -> None:
        if not self.column:
            object.__setattr__(self, 'column', self.name)


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A prediction that takes no training, to compare a model's results with.

    Attributes:
        name: key of the result under `predictors` in `table5.json`, and in TensorBoard.
        title: what tables call it.
        definition: what is predicted, in a few words.
        explanation: why a model may be worse than this, in a sentence.
        metric: how the prediction is measured: its column in tables.
        statistic: of the prediction, for `metric.value`; None for a baseline that depends on all
            clips at once.
        of_labels: labels [n] of the labelled clips -> the result, where `statistic` is None.
    """

    name: str
    title: str
    definition: str
    explanation: str
    metric: Metric
    statistic: Statistic | None = None
    of_labels: Callable[[np.ndarray], float] | None = None

    @property
    def column(self) -> str:
        """Heading of the clips' values in `clips.csv`."""
        return f'{self.name}_psnr'
