"""Kinetics recognised by looking: classes, annotations, lists and trees."""

import pytest
from helpers import kinetics_trees

from perceiver_io.core.kinetics700 import CLASSES
from perceiver_io.data.prepare import kinetics_tables, trees

ANNOTATION = 'label,youtube_id,time_start,time_end\nzumba,a0123456789,0,10\n'


def clips_of(listing):
    return {clip.name: (clip.split, clip.label, clip.reason) for clip in listing.clips}


def place(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    'write',
    [
        str,
        str.upper,
        lambda name: name.replace(' ', '_'),
        lambda name: name.replace(' ', '_').translate(str.maketrans('', '', "'()")),
        lambda name: f'"{name}"',
    ],
)
def test_every_way_of_writing_a_class_gives_its_index(write):
    assert [kinetics_tables.class_index(write(name)) for name in CLASSES] == list(range(700))
    assert kinetics_tables.class_index('unknown dance') is None


def test_indices_are_not_those_of_a_sort_of_the_folders(tmp_path):
    """Sorting torchvision's names moves exactly these; here no index moves."""
    stripped = [name.replace(' ', '_').translate(str.maketrans('', '', "'()")) for name in CLASSES]
    theirs = {name: index for index, name in enumerate(sorted(stripped))}
    moved = [index for index, name in enumerate(stripped) if theirs[name] != index]
    assert moved == [137, 138, 139, 252, 253]
    place(tmp_path, *(f'train/{stripped[index]}/clip{index}.mp4' for index in moved))
    assert clips_of(trees.list_kinetics(tmp_path)) == {
        f'clip{index}': ('train', index, '') for index in moved
    }


@pytest.mark.parametrize(
    'name, split',
    [
        ('train', 'train'),
        ('videos_val', 'val'),
        ('validate.csv', 'val'),
        ('kinetics_700_test.txt', 'test'),
        ('training notes', None),
        ('train_and_val.csv', None),
        ('annotations', None),
    ],
)
def test_splits_are_words_in_names(name, split):
    assert kinetics_tables.split_of(name) == split


def test_annotations_of_every_form(tmp_path):
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations' / 'train.csv').write_text(
        'label,youtube_id,time_start,time_end,split\n'
        '"passing American football (in game)",-0123456789,5,15,train\n'
        '"""curling hair""",_0123456789,115.0,125.0,train\n'
    )
    (tmp_path / 'annotations' / 'validate.csv').write_text(
        'label,youtube_id,time_start,time_end,split,is_cc\nzumba,a0123456789,0,10,validate,0\n'
    )
    (tmp_path / 'test.csv').write_text(
        'youtube_id,time_start,time_end,split\nb0123456789,0,10,test\n'
    )
    place(
        tmp_path,
        'train/-0123456789_000005_000015.mp4',
        'val/a0123456789_000000_000010.mkv',
        'test/b0123456789_000000_000010.mp4',
    )
    assert clips_of(trees.list_kinetics(tmp_path)) == {
        '-0123456789_000005_000015': ('train', 354, ''),
        '_0123456789_000115_000125': ('train', 139, 'missing'),
        'a0123456789_000000_000010': ('val', 699, ''),
        'b0123456789_000000_000010': ('test', -1, ''),
    }


def test_the_order_depends_on_the_names_alone(tmp_path):
    names = [f'clip{number}' for number in range(20)]
    place(tmp_path / 'a', *(f'train/zumba/{name}.mp4' for name in names))
    place(
        tmp_path / 'b',
        *(f'videos_train/{CLASSES[number]}/{name}.mkv' for number, name in enumerate(names)),
    )
    orders = [[clip.name for clip in trees.list_kinetics(tmp_path / root).clips] for root in 'ab']
    assert orders[0] == orders[1] and sorted(orders[0]) == sorted(names)
    assert orders[0] != names and orders[0] != sorted(names)


def test_duplicates_and_unknown_classes_are_rejected(tmp_path):
    place(
        tmp_path,
        'train/zumba/a.mp4',
        'train/abseiling/a.mp4',
        'train/unknown dance/b.mp4',
        'train/zumba/b.mp4',
        'val/zumba/a.mp4',
    )
    found = {
        clip.path.removeprefix(f'{tmp_path}/'): (clip.label, clip.reason)
        for clip in trees.list_kinetics(tmp_path).clips
    }
    assert found == {
        'train/abseiling/a.mp4': (0, ''),
        'train/zumba/a.mp4': (699, 'duplicate'),
        'train/unknown dance/b.mp4': (-1, 'unknown class'),
        'train/zumba/b.mp4': (699, ''),
        'val/zumba/a.mp4': (699, ''),
    }


def test_what_is_no_clip_is_passed_over_and_counted(tmp_path):
    place(
        tmp_path,
        'train/zumba/a.mp4',
        'train/zumba/._a.mp4',
        'train/.DS_Store',
        'train/zumba/a.mp4.part',
        'train/notes.txt',
    )
    listing = trees.list_kinetics(tmp_path)
    assert list(clips_of(listing)) == ['a']
    assert [note.split()[0] for note in listing.notes] == ['2', '2']


def test_folders_inside_folders_are_entered(tmp_path):
    place(tmp_path, 'train/part_0/zumba/a.mp4', 'train/zumba/more/b.mp4', 'train/yoga/._x/c.mp4')
    (tmp_path / 'train' / 'yoga' / 'up').symlink_to(tmp_path / 'train')
    (tmp_path / 'train' / 'abseiling').symlink_to(tmp_path / 'train' / 'part_0' / 'zumba')
    listing = trees.list_kinetics(tmp_path)
    assert {
        clip.path.removeprefix(f'{tmp_path}/train/'): (clip.label, clip.reason)
        for clip in listing.clips
    } == {
        'part_0/zumba/a.mp4': (699, 'duplicate'),
        'zumba/more/b.mp4': (699, ''),
        'abseiling/a.mp4': (0, ''),
    }
    assert any(note.startswith('1 links to a folder that contains them') for note in listing.notes)


def test_a_folder_counts_more_than_annotations_and_these_more_than_a_list(tmp_path):
    place(
        tmp_path,
        'clips/zumba/a0123456789_000000_000010.mp4',
        'clips/b0123456789_000000_000010.mp4',
        'clips/c0123456789_000000_000010.mp4',
    )
    (tmp_path / 'val.csv').write_text(
        'clips/zumba/a0123456789_000000_000010.mp4 1\nclips/b0123456789_000000_000010.mp4 1\n'
        'clips/c0123456789_000000_000010.mp4,137\nclips/d.mp4\t700\n'
    )
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations' / 'val.csv').write_text(
        'label,youtube_id,time_start,time_end,split\n'
        'abseiling,a0123456789,0,10,val\nabseiling,b0123456789,0,10,val\n'
    )
    listing = trees.list_kinetics(tmp_path)
    assert clips_of(listing) == {
        'a0123456789_000000_000010': ('val', 699, ''),
        'd': ('val', -1, 'unknown class'),
        'b0123456789_000000_000010': ('val', 0, ''),
        'c0123456789_000000_000010': ('val', 137, ''),
    }
    assert any(note.startswith('2 clips have two classes') for note in listing.notes)


def test_a_list_beside_mmaction2_folders(tmp_path):
    """Its paths start in the folder of their split."""
    place(tmp_path, 'videos_train/curling_hair/a.mp4')
    (tmp_path / 'kinetics700_train_list_videos.txt').write_text('curling_hair/a.mp4 139\n')
    [clip] = trees.list_kinetics(tmp_path).clips
    assert clip.path == str(tmp_path / 'videos_train/curling_hair/a.mp4')


@pytest.mark.parametrize(
    'files, message',
    [
        ({'readme.md': ''}, 'no clip in'),
        (
            {
                'train/notes': '',
                'annotations/train.csv': ANNOTATION,
            },
            'no clip in',
        ),
        ({'train/a.mp4': ''}, 'put the annotation CSVs'),
        (
            {
                'train/a0123456789.mp4': '',
                'annotations/train.csv': ANNOTATION,
            },
            'name them YOUTUBEID_',
        ),
        ({'train.csv': 'nowhere/a.mp4 1\n'}, 'its paths must be absolute, or start in'),
        ({'train.csv': 'a.mp4 1\nb.mp4\n'}, 'line 2 of .* is not `path label_index`'),
        ({'all.csv': 'label,youtube_id,time_start,time_end\nzumba,a,0,10\n'}, 'names no split'),
        (
            {'train.csv': 'label,youtube_id,time_start,time_end\nzumba,a,zero,10\n'},
            'line 2 of .* has no',
        ),
        ({'train.csv': b'label,youtube_id\n\xff'}, 'not a table in UTF-8'),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, files, message):
    for name, content in files.items():
        place(tmp_path, name)
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        trees.list_kinetics(tmp_path)


def test_no_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match='no folder'):
        trees.list_kinetics(tmp_path / 'absent')


def test_a_csv_in_the_folder_is_followed(tmp_path):
    place(tmp_path, 'x/b.mp4')
    (tmp_path / 'labels.csv').write_text(
        'file,label,split\nx/b.mp4,Curling_Hair,val\ny.mp4,sleepwalking,train\n'
    )
    assert clips_of(trees.list_kinetics(tmp_path)) == {
        'x/b.mp4': ('val', 139, ''),
        'y.mp4': ('train', -1, 'unknown class'),
    }


def test_the_trees_that_tests_build_are_told_apart(tmp_path):
    contents = {'good': (tmp_path / 'good.mp4', '')}
    (tmp_path / 'good.mp4').touch()
    planted = [
        kinetics_trees.Planted('train', f'a012345678{n}_000000_000010', name, 'good', '')
        for n, name in enumerate(['zumba', 'curling hair'])
    ]
    kinds = [
        trees.list_kinetics(kinetics_trees.build(form, tmp_path / form, planted, contents)).kind
        for form in kinetics_trees.FORMS
    ]
    assert len(set(kinds)) == len(kinetics_trees.FORMS)
