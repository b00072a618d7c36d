"""Fetching weights: whole, interrupted, and wrong, from a server on this machine."""

import contextlib
import hashlib
import http.server
import random
import re
import socket
import sys
import threading

import pytest

from perceiver_io.checkpoints import download, loading

DATA = random.Random(0).randbytes(3_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves DATA as `behaviour` says, and notes which ranges were asked for."""

    behaviour = 'ranges'
    asked: list = []

    def do_GET(self):
        wanted = self.headers.get('Range')
        self.asked.append(wanted)
        if self.behaviour == 'missing':
            self.send_error(404)
            return
        data, start = DATA, 0
        if self.behaviour == 'another file':
            data = DATA[:-1] + bytes([DATA[-1] ^ 1])
        if self.behaviour == 'longer':
            data = DATA + b'x' * 5_000_000
        if wanted and self.behaviour != 'no ranges':
            start = int(re.fullmatch(r'bytes=(\d+)-', wanted)[1])
            self.send_response(206)
            self.send_header('Content-Range', f'bytes {start}-{len(data) - 1}/{len(data)}')
        else:
            self.send_response(200)
        self.send_header('Content-Length', str(len(data) - start))
        self.end_headers()
        stop = 2_000_000 if self.behaviour == 'cuts off' else len(data)
        with contextlib.suppress(ConnectionError):  # the client hangs up on what is too long
            self.wfile.write(data[start:stop])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    Handler.behaviour, Handler.asked = 'ranges', []
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=[0.02], daemon=True).start()
        yield f'http://127.0.0.1:{running.server_port}/weights'
        running.shutdown()


def fetch(url, target):
    return download.fetch(url, target, size=len(DATA), sha256=SHA256)


def test_a_file_is_fetched_once(server, tmp_path):
    target = tmp_path / 'cache' / 'weights'
    assert fetch(server, target) == target and target.read_bytes() == DATA
    assert fetch(server, target) == target
    assert Handler.asked == [None]
    assert [path.name for path in target.parent.iterdir()] == ['weights']


def test_an_interrupted_download_goes_on(server, tmp_path):
    target = tmp_path / 'weights'
    Handler.behaviour = 'cuts off'
    with pytest.raises(ValueError, match='stopped after 2000000 of 3000000 bytes: start it again'):
        fetch(server, target)
    assert not target.exists()
    Handler.behaviour = 'ranges'
    assert fetch(server, target).read_bytes() == DATA
    assert Handler.asked == [None, 'bytes=2000000-']


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    (tmp_path / 'weights.part').write_bytes(b'?' * 1000)
    Handler.behaviour = 'no ranges'
    assert fetch(server, tmp_path / 'weights').read_bytes() == DATA
    assert Handler.asked == ['bytes=1000-']


def test_what_was_whole_but_not_yet_named_is_not_fetched_again(server, tmp_path):
    (tmp_path / 'weights.part').write_bytes(DATA)
    assert fetch(server, tmp_path / 'weights').read_bytes() == DATA
    assert Handler.asked == []


@pytest.mark.parametrize(
    'behaviour, expected',
    [
        ('another file', 'another file than expected'),
        ('longer', 'another file than expected'),
    ],
)
def test_another_file_is_refused_and_removed(server, tmp_path, behaviour, expected):
    Handler.behaviour = behaviour
    with pytest.raises(ValueError, match=expected):
        fetch(server, tmp_path / 'weights')
    assert list(tmp_path.iterdir()) == []
    Handler.behaviour = 'ranges'
    assert fetch(server, tmp_path / 'weights').read_bytes() == DATA


def test_a_partial_file_of_something_else_is_refused_and_removed(server, tmp_path):
    (tmp_path / 'weights.part').write_bytes(b'?' * 1000)
    with pytest.raises(ValueError, match='another file'):
        fetch(server, tmp_path / 'weights')
    (tmp_path / 'weights.part').write_bytes(b'?' * 4_000_000)  # more than there is
    assert fetch(server, tmp_path / 'weights').read_bytes() == DATA


def test_a_wrong_file_in_the_cache_is_replaced(server, tmp_path):
    target = tmp_path / 'weights'
    for wrong in (DATA[:-1] + bytes([DATA[-1] ^ 1]), DATA[:-1], b''):
        target.write_bytes(wrong)
        assert fetch(server, target).read_bytes() == DATA
    assert Handler.asked == [None] * 3


def test_no_network_and_no_file_are_explained(server, tmp_path):
    Handler.behaviour = 'missing'
    with pytest.raises(ValueError, match=r'could not be fetched \(Not Found\).*give the path'):
        fetch(server, tmp_path / 'weights')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        with pytest.raises(ValueError, match='could not be fetched .*refused.*: try again'):
            fetch(f'http://127.0.0.1:{free.getsockname()[1]}/x', tmp_path / 'weights')
    with pytest.raises(ValueError, match='could not be fetched'):
        fetch('http://name.invalid/x', tmp_path / 'weights')
    (tmp_path / 'file').touch()
    with pytest.raises(ValueError, match='set XDG_CACHE_HOME'):
        fetch(server, tmp_path / 'file' / 'folder' / 'weights')


def test_the_short_name_goes_to_the_cache(server, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(download, 'OFFICIAL_URL', f'{server}/official.pystate')
    monkeypatch.setattr(download, 'OFFICIAL_SIZE', len(DATA))
    monkeypatch.setattr(download, 'OFFICIAL_SHA256', SHA256)
    with pytest.raises(ValueError, match=r'official\.pystate: it is not a pickle'):  # it is noise
        loading.load_checkpoint('deepmind/video_autoencoding')
    assert (tmp_path / 'perceiver_io' / 'official.pystate').read_bytes() == DATA


def test_a_hub_name_without_the_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ValueError, match='pip install huggingface_hub'):
        loading.load_checkpoint('deepmind/multimodal-perceiver')
    for name in ('runs/demo/deeper', 'gone', '/gone/away', 'gone/x.pystate'):
        with pytest.raises(ValueError, match=f'there is no file or folder {name}$'):
            loading.load_checkpoint(name)


class Offline:
    """What this project uses of huggingface_hub, without a network."""

    class errors:
        EntryNotFoundError = type('EntryNotFoundError', (Exception,), {})
        LocalEntryNotFoundError = type('LocalEntryNotFoundError', (EntryNotFoundError,), {})

    def __init__(self, cache):
        self.cache = cache  # paths by name of the file; '' for one that is known to be absent

    def hf_hub_download(self, name, file, **_):
        if not self.cache.get(file):
            raise self.errors.LocalEntryNotFoundError('no network')
        return self.cache[file]

    def try_to_load_from_cache(self, name, file):
        found = self.cache.get(file)
        return object() if found == '' else found


def test_what_the_hub_gave_once_is_found_without_a_network(monkeypatch):
    def found(**cache):
        cache = {f'{name}.x': path for name, path in cache.items()}
        monkeypatch.setitem(sys.modules, 'huggingface_hub', Offline(cache))
        return str(download.from_hub('some/model', ['first.x', 'second.x'], 'config.x'))

    assert found(first='', second='/cache/second', config='/cache/config') == '/cache/second'
    assert found(first='/cache/first', config='') == '/cache/first'
    for cache in ({}, {'first': ''}, {'first': '/cache/first'}):  # something is not known
        with pytest.raises(ValueError, match='Hugging Face hub: no network'):
            found(**cache)
    with pytest.raises(ValueError, match='has none of first.x, second.x'):
        found(first='', second='', config='')
