"""Progress bars in logs: whole lines, and few of them."""

from perceiver_io.core import progress


def test_a_bar_in_a_log_writes_lines(capsys, monkeypatch):
    monkeypatch.setattr(progress, 'LOG_SECONDS', 0)
    assert list(progress.progress_bar(range(3), 'counting', unit='thing')) == [0, 1, 2]
    text = capsys.readouterr().err
    lines = text.splitlines()
    assert '\r' not in text and len(lines) >= 4
    assert all(line.startswith('counting: ') for line in lines)
    assert '0/3' in lines[0] and '3/3' in lines[-1]


def test_between_lines_are_20_seconds(capsys):
    list(progress.progress_bar(range(10_000), 'counting'))
    first, last = capsys.readouterr().err.splitlines()
    assert '0/10000' in first and '10000/10000' in last


def test_a_short_bar_that_does_not_stay_writes_nothing(capsys):
    list(progress.progress_bar(range(10_000), leave=False))
    assert capsys.readouterr().err == ''
