"""`metrics.jsonl`, the metrics of a run: a line of JSON for each entry."""

import json
import os
import pathlib

METRICS = 'metrics.jsonl'


def read_metrics(folder: str | os.PathLike) -> list[dict[str, float]]:
    """The entries of `metrics.jsonl`; () where there is none. Lines that are cut off are ignored.

    A run that continued after an interruption may have written a step twice: the last one counts.
    """
    path = pathlib.Path(folder) / METRICS
    if not path.is_file():
        return []
    entries: dict[tuple[float, str], dict[str, float]] = {}
    for line in path.read_text(errors='replace').splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict) and isinstance(values.get('step'), int):
            kind = ' '.join(sorted({str(name).partition('/')[0] for name in values}))
            entries[values['step'], kind] = values
    return sorted(entries.values(), key=lambda values: values['step'])
