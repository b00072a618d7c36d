"""Small result files."""

from perceiver_io.core import files


def test_a_table_has_the_columns_of_all_rows(tmp_path):
    files.write_csv(tmp_path / 'x.csv', [{'a': 1, 'b': 0.123456789}, {'a': None, 'c': 'd,e'}])
    assert (tmp_path / 'x.csv').read_text() == 'a,b,c\n1,0.123457,\n,,"d,e"\n'
