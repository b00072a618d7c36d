"""Other ways to read a window of a clip, for `input_pipeline.py`; needs nothing of the project.

    PYTHON benchmarks/input_rivals.py NAME FOLDER COUNT

reads COUNT random windows of the files in FOLDER by one of READERS and prints, as JSON, the seconds
it took; run by whichever Python the library is installed in. All give 16 frames of 224 x 224 at 25
frames/s, from the centred square, and the 30,720 samples of the same instant.
"""

import json
import pathlib
import random
import sys
import time

import cv2
import numpy as np

FRAMES, SIZE, RATE, SAMPLE_RATE = 16, 224, 25, 48_000
SAMPLES = FRAMES * SAMPLE_RATE // RATE
WARM_UP = 4  # clips

cv2.setNumThreads(1)


def crop_and_resize(frames) -> np.ndarray:
    height, width = frames[0].shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return np.stack(
        [
            cv2.resize(
                frame[top : top + side, left : left + side],
                (SIZE, SIZE),
                interpolation=cv2.INTER_LINEAR,
            )
            for frame in frames
        ]
    )


def decord_loop(path: str, place: float):
    """decord: seeks, and decodes the sound of the whole clip."""
    import decord

    video = decord.VideoReader(path, num_threads=1)
    start = place * (len(video) / video.get_avg_fps() - FRAMES / RATE)
    times = start + np.arange(FRAMES) / RATE
    frames = video.get_batch(np.round(times * video.get_avg_fps()).astype(int)).asnumpy()
    sound = decord.AudioReader(path, sample_rate=SAMPLE_RATE, mono=True)
    first = round(start * SAMPLE_RATE)
    return crop_and_resize(frames), sound[first : first + SAMPLES].asnumpy()


def torchcodec_loop(path: str, place: float):
    """torchcodec: seeks in both."""
    from torchcodec.decoders import AudioDecoder, VideoDecoder

    video = VideoDecoder(path, num_ffmpeg_threads=1, dimension_order='NHWC')
    start = place * (video.metadata.duration_seconds - (FRAMES + 1) / RATE)
    frames = video.get_frames_played_at(list(start + np.arange(FRAMES) / RATE)).data.numpy()
    sound = AudioDecoder(path, sample_rate=SAMPLE_RATE, num_channels=1)
    return crop_and_resize(frames), sound.get_samples_played_in_range(
        start, start + FRAMES / RATE
    ).data.numpy()


def whole_clip(path: str, place: float):
    """As torchvision's datasets of clips: decodes everything with PyAV, and takes a part."""
    import av

    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        frames = [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]
        rate = float(container.streams.video[0].average_rate)
    with av.open(path) as container:
        resampler = av.AudioResampler(format='s16', layout='mono', rate=SAMPLE_RATE)
        sound = np.concatenate(
            [
                part.to_ndarray()[0]
                for frame in container.decode(audio=0)
                for part in resampler.resample(frame)
            ]
        )
    start = place * (len(frames) / rate - FRAMES / RATE)
    places = np.round((start + np.arange(FRAMES) / RATE) * rate).astype(int)
    first = round(start * SAMPLE_RATE)
    return crop_and_resize([frames[i] for i in places]), sound[first : first + SAMPLES]


READERS = {'decord': decord_loop, 'torchcodec': torchcodec_loop, 'whole clip': whole_clip}


def main(name: str, folder: str, count: str) -> None:
    paths = sorted(map(str, pathlib.Path(folder).glob('*.mp4')))
    draw = random.Random(0)
    chosen = [(draw.choice(paths), draw.random()) for _ in range(WARM_UP + int(count))]
    read = READERS[name]
    for index, (path, place) in enumerate(chosen):
        if index == WARM_UP:
            clock, processor = time.perf_counter(), time.process_time()
        frames, sound = read(path, place)
        if frames.shape != (FRAMES, SIZE, SIZE, 3) or abs(sound.size - SAMPLES) > 2:
            raise ValueError(f'{name} read {frames.shape} and {sound.shape} from {path}')
    print(
        json.dumps(
            {
                'clips': int(count),
                'seconds': time.perf_counter() - clock,
                'cpu_seconds': time.process_time() - processor,
            }
        )
    )


if __name__ == '__main__':
    main(*sys.argv[1:])
