"""The files that a program is given, and the names of what it writes for them."""

import itertools
import os
import pathlib
from collections.abc import Sequence

from perceiver_io.core.errors import UserError

SIDE_BY_SIDE = '_side_by_side.mp4'  # ends the name of a video of original and reconstruction
NO_AUDIO = 'it has no audio: the model was given silence'
SILENT = 'its audio is silent: no audio PSNR'

# Of the files that are taken from folders; files that are named can have any.
MEDIA_SUFFIXES = frozenset(
    '.3gp .aac .asf .avi .flac .flv .m2ts .m4a .m4v .mka .mkv .mov .mp3 .mp4 .mpeg .mpg .mts .oga '
    '.ogg .ogv .opus .ts .vob .wav .webm .wma .wmv'.split()
)


def list_files(
    paths: Sequence[str | os.PathLike[str]], output: str | os.PathLike | None = None
) -> list[str | os.PathLike[str]]:
    """The paths, with each folder replaced by the media files in it and in its folders, sorted.

    Args:
        paths: of files, which need not exist, and of folders.
        output: a folder that is left out, with all in it: what a program wrote before.

    Raises:
        UserError: a folder has no media file.
    """
    written = None if output is None else os.path.realpath(output)
    files: list[str | os.PathLike[str]] = []
    for path in paths:
        if not os.path.isdir(path):
            files.append(path)
            continue
        found = []
        for folder, folders, names in os.walk(os.fspath(path)):
            folders[:] = sorted(
                name
                for name in folders
                if not name.startswith('.')
                and os.path.realpath(os.path.join(folder, name)) != written
            )
            found += [
                os.path.join(folder, name)
                for name in sorted(names)
                if pathlib.PurePath(name).suffix.lower() in MEDIA_SUFFIXES
                and not name.startswith('.')
            ]
        if not found:
            raise UserError(f'{os.fspath(path)}: there are no media files in this folder')
        files += found
    return files


def output_stems(paths: Sequence[str | os.PathLike], output: pathlib.Path) -> list[str]:
    """A stem for the outputs of each file: its own, with a number if that one is taken.

    Taken are stems whose outputs would replace an input, or the outputs of another input.
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


def reason_of(error: ValueError | OSError) -> str:
    """Why a file failed, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f'{error.filename}: {error.strerror}' if error.filename else error.strerror
    return str(error)
