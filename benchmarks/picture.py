"""Tiles one frame of each side-by-side video into an image, such as the one in the README.

python benchmarks/picture.py docs/images/reconstruction.png runs/demo/eval/*_side_by_side.mp4
"""

import argparse
import pathlib

import av
import numpy as np
from PIL import Image

GAP = 8  # pixels between the frames


def middle_frame(path: pathlib.Path) -> np.ndarray:
    """uint8 [h, w, 3]: the frame in the middle of a video."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
    return frames[len(frames) // 2]


def tiled(frames: list[np.ndarray], columns: int) -> np.ndarray:
    """uint8 [h, w, 3]: the frames in rows, on white; all have the same size."""
    height, width, _ = frames[0].shape
    rows = -(-len(frames) // columns)
    page = np.full(
        (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, dtype=np.uint8
    )
    for index, frame in enumerate(frames):
        top, left = np.multiply(divmod(index, columns), (height + GAP, width + GAP))
        page[top : top + height, left : left + width] = frame
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('output', type=pathlib.Path)
    parser.add_argument('videos', type=pathlib.Path, nargs='+')
    parser.add_argument('--columns', type=int, default=2)
    arguments = parser.parse_args()
    frames = [middle_frame(path) for path in arguments.videos]
    Image.fromarray(tiled(frames, arguments.columns)).save(arguments.output)


if __name__ == '__main__':
    main()
