"""The paper's table: three bottlenecks on Kinetics-700, and the variant for accuracy.

    perceiver-io sweep table5 --output=sweeps/table5 --set=data.path=DATASETS

Each point is a training of its own (docs/reproducing.md). These have not been trained to the end
with this code: their results are not known.
"""

from typing import Any


def get_sweep() -> dict[str, Any]:
    return dict(
        base='kinetics700',
        grid={'model.latents': (784, 392, 196)},  # [paper] 88x, 176x and 352x
        also=[{'loss.label': 1.0}],  # [paper] 45% top-1 at 20.7 dB
    )
