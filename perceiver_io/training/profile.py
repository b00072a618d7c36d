"""A profile of some steps of a run, for TensorBoard or xprof (not in the paper)."""

import os
import types

import jax

_BEFORE = 5  # steps of this start of the run that are not profiled: the first one is compiled


class Profile:
    """Records what host and devices do in some steps; a context manager around the loop.

    The network's operations are named `read`, `process_0` and so on, and `decode`, as in the
    paper's figure 2; `loss` and `optimizer` follow.

    Args:
        folder: for the files.
        steps: how many; 0 for no profile.
    """

    def __init__(self, folder: str | os.PathLike, steps: int) -> None:
        self._folder = os.fspath(folder)
        self._first, self._after = _BEFORE + 1, _BEFORE + 1 + steps
        self._runs = False

    def step(self, number: int) -> None:
        """Before a step is handed to the devices, counted from 1 in this start of the run."""
        if self._first <= number < self._after and not self._runs:
            jax.profiler.start_trace(self._folder)
            self._runs = True
        elif number >= self._after:
            self._stop()

    def __enter__(self) -> 'Profile':
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._runs:
            jax.profiler.stop_trace()
            self._runs = False
