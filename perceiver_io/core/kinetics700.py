"""The 700 class names of Kinetics-700-2020, by class index: their plain sort."""

from importlib import resources

CLASSES = tuple(
    resources.files('perceiver_io.core')
    .joinpath('kinetics700_classes.txt')
    .read_text(encoding='utf-8')
    .splitlines()
)
