import pickle

import numpy as np
import pytest

from perceiver_io.core.clip import ClipSpec
from perceiver_io.data import folder, rendered
from perceiver_io.data.records import Selection
from perceiver_io.media import writer

SPEC = ClipSpec(frames=4, height=16, width=16)  # 0.16 s


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    """A folder of awkward files, without a CSV."""
    root = tmp_path_factory.mktemp('clips')
    video = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), np.uint8)
    audio = np.random.default_rng(0).integers(-9999, 9999, (17_640, 1)).astype(np.int16)
    for name in ('a.mp4', 'b.mp4', 'comma, and "quote".mp4', '-1.mp4'):
        writer.write_media(root / name, video, audio, sample_rate=44_100)
    writer.write_media(root / 'quiet.mp4', video, None)
    writer.write_media(root / 'short.mp4', video[:3], audio, sample_rate=44_100)
    writer.write_media(root / 'sound.mp4', None, audio, sample_rate=44_100)
    (root / 'empty.mp4').touch()
    (root / 'text.mp4').write_text('no clip at all')
    (root / 'a_folder.mp4').mkdir()
    return root


@pytest.fixture
def open_csv(clips, tmp_path):
    def open_csv(text, split='train', spec=SPEC, **arguments):
        (tmp_path / 'some.csv').write_text(text, encoding='utf-8')
        selection = Selection(split, spec, **arguments)
        return folder.open_folder(clips, selection, csv=tmp_path / 'some.csv', progress=False)

    return open_csv


def names(source):
    return [record.name for record in source.records]


def test_records(clips, open_csv):
    source = open_csv('file,label,split\na.mp4,walk,train\nb.mp4,run,train\n-1.mp4,run,val\n')
    assert source.classes == ('run', 'walk')
    assert names(source) == ['a.mp4', 'b.mp4'] and not source.skipped
    assert [record.label for record in source.records] == [1, 0]
    record = source.records[0]
    assert record.media == str(clips / 'a.mp4') and record.has_audio
    assert record.seconds == pytest.approx(0.4, abs=0.01)
    assert pickle.loads(pickle.dumps(source)) == source


def test_names_and_labels_with_commas_quotes_and_a_byte_order_mark(open_csv):
    source = open_csv(
        '\ufeffsplit,label,file\ntrain,"a, ""b"" ","comma, and ""quote"".mp4"\n\ntrain,c,-1.mp4\n'
    )
    assert names(source) == ['comma, and "quote".mp4', '-1.mp4']
    assert source.classes == ('a, "b"', 'c')


def test_csv_beside_the_clips_is_the_default(clips):
    (clips / 'labels.csv').write_text('file,label,split\na.mp4,x,val\n')
    source = folder.open_folder(str(clips), Selection('validation', SPEC), progress=False)
    assert names(source) == ['a.mp4']


def test_split_aliases(open_csv):
    text = 'file,label,split\na.mp4,x,train\nb.mp4,x,validate\n-1.mp4,x,test\nquiet.mp4,x,val\n'
    assert names(open_csv(text)) == ['a.mp4']
    for split in ('val', 'validate', 'validation'):
        assert names(open_csv(text, split)) == ['b.mp4', 'quiet.mp4']
    assert names(open_csv(text, 'test')) == ['-1.mp4']


def test_without_a_split_column_the_name_decides(open_csv):
    """The CRC-32 of 'a.mp4' is 1813619933, of 'b.mp4' 733601293, of '-1.mp4' 2564303680."""
    text = 'file,label\na.mp4,x\nb.mp4,y\n-1.mp4,z\n'
    assert names(open_csv(text)) == ['a.mp4', 'b.mp4']
    assert names(open_csv(text, 'val')) == ['-1.mp4']
    assert open_csv(text, 'val').classes == ('x', 'y', 'z')


def test_classes_do_not_depend_on_what_is_usable(open_csv):
    source = open_csv('file,label,split\na.mp4,n,train\nmissing.mp4,m,train\nb.mp4,z,val\n')
    assert source.classes == ('m', 'n', 'z') and source.records[0].label == 1


def test_given_classes(open_csv):
    text = 'file,label,split\na.mp4,n,train\nb.mp4,m,train\n'
    source = open_csv(text, classes=['n', 'other'])
    assert names(source) == ['a.mp4'] and source.records[0].label == 0
    assert source.skipped == (('b.mp4', "its class 'm' is unknown"),)
    source = open_csv(text, classes=['n', 'other'], needs_label=False)
    assert [record.label for record in source.records] == [0, -1]


def test_labels_may_be_missing_only_where_they_are_not_needed(open_csv):
    text = 'file,label,split\na.mp4,,train\nb.mp4,m,train\n'
    assert open_csv(text).skipped == (('a.mp4', 'it has no label'),)
    assert [record.label for record in open_csv(text, needs_label=False).records] == [-1, 0]
    source = open_csv('file,split\na.mp4,train\n', needs_label=False)
    assert source.classes == () and source.records[0].label == -1


def test_useless_files_are_skipped_with_a_reason(open_csv):
    bad = ['missing.mp4', 'empty.mp4', 'text.mp4', 'a_folder.mp4', 'short.mp4', 'sound.mp4']
    rows = ''.join(f'{name},x,train\n' for name in [*bad, 'b.mp4'])
    source = open_csv('file,label,split\n' + rows)
    assert names(source) == ['b.mp4']
    reasons = dict(source.skipped)
    assert list(reasons) == bad
    assert reasons['short.mp4'] == 'it lasts 0.12 s, less than a window of 0.16 s'
    assert reasons['sound.mp4'] == 'it has no video'
    assert all(reason and '\n' not in reason for reason in reasons.values())


def test_missing_audio(open_csv):
    text = 'file,label,split\nquiet.mp4,x,train\na.mp4,x,train\n'
    assert [record.has_audio for record in open_csv(text).records] == [False, True]
    source = open_csv(text, missing_audio='skip')
    assert source.skipped == (('quiet.mp4', 'it has no audio'),)
    # Where no audio is asked for, none is missed; where no video is, audio is all there is.
    video_only = open_csv(text, spec=ClipSpec(frames=4, audio=False), missing_audio='skip')
    assert names(video_only) == ['quiet.mp4', 'a.mp4']
    audio_only = open_csv(text + 'sound.mp4,x,train\n', spec=ClipSpec(frames=4, video=False))
    assert names(audio_only) == ['a.mp4', 'sound.mp4']


@pytest.mark.parametrize(
    'text, message',
    [
        ('', "no column 'file'"),
        ('name,label\na.mp4,x\n', "no column 'file'"),
        ('file;label\na.mp4;x\n', "no column 'file'"),
        ('file,split\na.mp4,train\n', "no column 'label'"),
        ('file,label\na.mp4,x\nb.mp4,y\na.mp4,x\n', "line 4 .* lists 'a.mp4' a second time"),
        ('file,label\na.mp4,one, two\n', 'line 2 .* more cells than the header'),
        ('file,label,split\na.mp4,x,dev\n', "line 2 .* split='dev'"),
        ('file,label,split\na.mp4,x\n', "line 2 .* split=''"),
        ('file,label\n,x\n', 'line 2 .* names no file'),
        (
            'file,label,split\na.mp4,x,val\n',
            "the split 'train' of .* has no clip that is asked for",
        ),
        (
            'file,label,split\nm1,x,train\nm2,x,train\nm3,x,train\nm4,x,train\n',
            r'some.csv: 4 skipped \(m1: .*; m2: .*; m3: .*; \.\.\.\)',
        ),
        ('file,label\nm1,x\nm2,x\n', 'no column split: about a tenth of the files is in val'),
    ],
)
def test_errors_in_the_csv(open_csv, text, message):
    with pytest.raises(ValueError, match=message):
        open_csv(text)


def test_errors_in_the_arguments(clips, open_csv, tmp_path):
    text = 'file,label,split\na.mp4,x,train\n'
    with pytest.raises(ValueError, match='no folder'):
        folder.open_folder(tmp_path / 'none', Selection('train', SPEC))
    with pytest.raises(ValueError, match='no CSV .*none.csv'):
        folder.open_folder(clips, Selection('train', SPEC), csv='none.csv')
    with pytest.raises(ValueError, match="split='dev' must be one of train, val, test"):
        open_csv(text, 'dev')
    with pytest.raises(ValueError, match="missing_audio='zero'"):
        open_csv(text, missing_audio='zero')
    with pytest.raises(ValueError, match='twice'):
        open_csv(text, classes=['x', 'x'])
    (tmp_path / 'latin.csv').write_bytes('file,label\na.mp4,caf\xe9\n'.encode('latin-1'))
    with pytest.raises(ValueError, match='not a CSV in UTF-8'):
        folder.open_folder(clips, Selection('train', SPEC), csv=tmp_path / 'latin.csv')


def test_rendered_folder(tmp_path):
    root = rendered.render_folder(
        tmp_path, train_clips=7, val_clips=2, size=16, seconds=0.4, progress=False
    )
    train = folder.open_folder(root, Selection('train', SPEC), progress=False)
    val = folder.open_folder(root, Selection('val', SPEC), progress=False)
    assert train.classes == val.classes == tuple(sorted(rendered.CLASSES))
    assert len(train.records) == 7 and len(val.records) == 2
    assert not train.skipped and not val.skipped


@pytest.mark.parametrize('csv', ['../kinetics_labels.csv', 'absolute'])
def test_real_clips(shared_clips, csv):
    csv = shared_clips / 'kinetics_labels.csv' if csv == 'absolute' else csv
    sources = [
        folder.open_folder(
            shared_clips / 'real', Selection(split, ClipSpec()), csv=csv, progress=False
        )
        for split in ('train', 'val')
    ]
    rows = (shared_clips / 'kinetics_labels.csv').read_text().splitlines()[1:]
    assert [len(source.records) for source in sources] == [
        sum(row.endswith(split) for row in rows) for split in (',train', ',val')
    ]
    assert not any(source.skipped for source in sources)
    assert sources[0].classes == sources[1].classes and len(sources[0].classes) == len(
        {row.split(',')[1] for row in rows}
    )
