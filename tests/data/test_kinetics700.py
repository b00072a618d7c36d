"""The shipped list of class names."""

from perceiver_io.core.kinetics700 import CLASSES


def test_the_index_of_a_class_is_its_place_in_the_plain_sort():
    assert len(CLASSES) == len(set(CLASSES)) == 700
    assert list(CLASSES) == sorted(CLASSES)
    assert CLASSES[0] == 'abseiling' and CLASSES[-1] == 'zumba'
    assert CLASSES[137:140] == ('curling (sport)', 'curling eyelashes', 'curling hair')
