"""The report of a tiny result: every file is there, nothing is requested, names are escaped."""

import html.parser
import json
import re

import av
import numpy as np
import pytest
from helpers.report_files import SPEC, make_report, window

from perceiver_io.core import metrics_file
from perceiver_io.core.clip import ClipSpec
from perceiver_io.report import codecs, curves, gallery
from perceiver_io.report.charts import Series, chart
from perceiver_io.report.content import choose

VOID = {'meta', 'link', 'img', 'input', 'br', 'path', 'circle', 'rect', 'line', 'polyline'}


class Parser(html.parser.HTMLParser):
    """Tags with their attributes; an AssertionError where an end tag does not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return make_report(tmp_path_factory.mktemp('report'))


@pytest.fixture(scope='module')
def text(folder):
    return (folder / 'index.html').read_text()


@pytest.fixture(scope='module')
def tags(text):
    parser = Parser()
    parser.feed(text)
    assert parser.open == []
    return parser.tags


def test_hostile_names_are_shown_and_never_markup(tags, text):
    assert '<script src' not in text and '&lt;script src' in text
    assert [tag for tag, _ in tags].count('script') == 1  # the player
    assert not [name for _, attributes in tags for name in attributes if name.startswith('on')]


def test_all_linked_files_exist_and_nothing_is_requested(folder, tags):
    links = [
        value
        for _, attributes in tags
        for name in ('src', 'href', 'poster', 'srcset', 'data')
        if (value := attributes.get(name)) is not None
    ]
    files = {link for link in links if not link.startswith(('#', 'data:,'))}
    assert files == {f'media/{path.name}' for path in (folder / 'media').iterdir()}
    of_a_clip = 3 + 3 + 2  # films, their posters, spectrograms
    assert len(files) == 2 * (2 * of_a_clip + 2)  # models x (clips, looks of attention)
    style = (folder / 'index.html').read_text().split('<style>')[1].split('</style>')[0]
    assert 'url(' not in style and '@import' not in style


def test_every_control_and_picture_has_a_name(tags):
    idents = [attributes['id'] for _, attributes in tags if 'id' in attributes]
    assert len(idents) == len(set(idents))
    for tag, attributes in tags:
        if tag == 'img':
            assert attributes['alt']
        if tag in ('video', 'audio') or attributes.get('role') in ('img', 'region'):
            assert attributes['aria-label']
        for name in ('aria-labelledby', 'aria-describedby'):
            assert attributes.get(name, idents[0]) in idents
        if tag == 'a':
            assert attributes['href'].removeprefix('#') in idents


def test_the_table_gives_differences_to_the_nearest_of_the_papers_rows(text):
    assert '176x' in text and '-10.29 dB' in text  # 13.98 dB, and 24.27 in the paper
    assert 'float16 latents' in text and '20.25' not in text.split('<details>')[0]


def test_films_have_all_frames(folder):
    for kind, sound in (('original', 1), ('reconstruction', 1), ('error', 0)):
        with av.open(str(folder / 'media' / f'm1best_{kind}.mp4')) as container:
            assert len(container.streams.audio) == sound
            assert sum(1 for _ in container.decode(video=0)) == SPEC.frames


def test_codecs_trade_bytes_for_quality(text):
    found = codecs.measure([window(3)], SPEC)
    assert [codec.title.split()[0] for codec in found] == ['x264', 'x265', 'AV1']
    for codec in found:
        assert bool(codec.points) != bool(codec.reason)
        assert all(point.whole < point.payload for point in codec.points)
        ratios = [point.payload for point in codec.points]
        assert ratios == sorted(ratios)
        assert [-p.psnr for p in codec.points] == sorted(-p.psnr for p in codec.points)
    assert found[0].points
    assert codecs.raw_bytes(SPEC) == 8 * 64 * 64 * 3 + 2 * 48_000


def test_training_curves_leave_out_what_is_damaged(tmp_path):
    lines = [{'step': 1, 'train/loss': 2.0}, {'step': 1, 'eval/loss': 3.0}]
    lines += [{'step': 1, 'train/loss': 4.0}, {'step': 2, 'train/loss': float('nan')}]
    damaged = ['{"step": 3, "tra', '[]', '7']
    (tmp_path / 'metrics.jsonl').write_text('\n'.join([*map(json.dumps, lines), *damaged]))
    [loss] = curves.training_charts(metrics_file.read_metrics(tmp_path))
    found = {series.name: list(series.points) for series in loss.values}
    assert found == {'train/loss': [(1.0, 4.0)], 'validation/loss': [(1.0, 3.0)]}
    assert metrics_file.read_metrics(tmp_path / 'nowhere') == []


def test_charts_lie_inside_their_picture():
    found = chart('t', 'x', 'y', [Series('a', [(1, -5.0), (100, 7.0)])], log_x=True)
    [series] = found.series
    assert all(68 <= x <= 628 and 12 <= y <= 280 for x, y in series.points)
    assert [tick.text for tick in found.x_ticks] == ['1', '2', '5', '10', '20', '50', '100']
    assert chart('t', 'x', 'y', [Series('a', [])]) is None


def test_the_gallery_is_the_best_the_median_and_the_worst():
    lines = [{'name': str(psnr), 'video_psnr': psnr} for psnr in (3.0, 9.0, 5.0, 7.0, 1.0)]
    names = {rank: line['name'] for rank, line in choose(lines).items()}
    assert names == {'best': '9.0', 'median': '5.0', 'worst': '1.0'}
    assert list(choose(lines[:1])) == ['best'] and choose([]) == {}


def test_a_waveform_of_silence_is_a_line():
    heights = re.findall(r'M\d+ ([\d.]+)V([\d.]+)', gallery.wave(np.zeros(1000, np.int16)))
    assert set(heights) == {('39.5', '40.5')}


def test_accuracy_by_class():
    lines = [{'label': 'cat', 'top_1': right, 'top_5': 1.0} for right in (1.0, 0.0, 0.0, 0.0)] + [
        {'label': '', 'top_1': None, 'top_5': None}
    ]
    assert curves.accuracy_by_class(lines) == [curves.ClassAccuracy('cat', 4, 0.25, 1.0)]


def test_an_encoder_that_crashes_or_hangs_is_left_out(monkeypatch):
    """x265 crashes at 48 x 48 pixels, for one; the evaluation must go on."""
    small = ClipSpec(frames=4, height=48, width=48)
    monkeypatch.setattr(codecs, '__name__', 'os')
    [crashed, *_] = codecs.measure([], small)
    assert not crashed.points and crashed.reason.startswith('the encoder ended with')
    monkeypatch.setattr(codecs, 'LONGEST', 0.001)
    [late, *_] = codecs.measure([], small)
    assert late.reason == 'it took longer than 0.001 s'
