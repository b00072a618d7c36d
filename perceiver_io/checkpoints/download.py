"""Downloads published weights once, and keeps them in the cache.

pooch keeps the cache and checks hashes. Its own downloaders always start from the first byte, so it
is given one that continues what was interrupted.
"""

import contextlib
import http.client
import os
import pathlib
import urllib.request
from collections.abc import Iterator, Sequence

import pooch

from perceiver_io.core import files
from perceiver_io.core.errors import UserError
from perceiver_io.core.progress import progress_bar

# Size and hash as recorded in a public repository.
OFFICIAL_URL = 'https://storage.googleapis.com/perceiver_io/video_autoencoding_checkpoint.pystate'
OFFICIAL_SIZE = 79_453_357
OFFICIAL_SHA256 = '68f5492569750acac683a51ff201bc181c9e4fee94d7c2b48bae2083e0fbc092'
_TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 20


def official_checkpoint() -> pathlib.Path:
    """The released weights, downloaded unless they are in the cache."""
    return fetch(
        OFFICIAL_URL,
        files.cache_folder() / pathlib.Path(OFFICIAL_URL).name,
        size=OFFICIAL_SIZE,
        sha256=OFFICIAL_SHA256,
    )


def fetch(url: str, target: pathlib.Path, *, size: int, sha256: str) -> pathlib.Path:
    """Downloads a file whose size and hash are known; returns `target`.

    Received bytes are kept in `target` with `.part` after its name, from which an interrupted
    download continues. `target` appears when the file is complete and its hash is right.

    Args:
        url: of the file.
        target: where to keep it. A file there with this hash is not downloaded again; another
            file is replaced.
        size: in bytes.
        sha256: in hexadecimal.

    Raises:
        UserError: there is no network, or what arrived is another file; says what to do.
    """
    partial = target.with_name(target.name + '.part')

    def download(url: str, output_file: str, _: object) -> None:
        if partial.exists() and partial.stat().st_size > size:
            partial.unlink()
        if not partial.exists() or partial.stat().st_size < size:
            _receive(url, partial, size)
        received = partial.stat().st_size
        if received < size:
            raise UserError(
                f'the download stopped after {received} of {size} bytes: start it again, and it '
                'continues'
            )
        os.replace(partial, output_file)

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel('WARNING')
    try:
        pooch.retrieve(
            url,
            f'sha256:{sha256}',
            fname=target.name,
            path=target.parent,
            downloader=download,
        )
    except UserError:
        raise
    except ValueError as error:  # pooch's, for a wrong hash; it has removed the file
        raise UserError(
            f'what was downloaded from {url} is another file than expected (its SHA-256 is not '
            f'{sha256}): it was removed, try again'
        ) from error
    except OSError as error:
        raise UserError(
            f'{target.parent} cannot be written ({error.strerror or error}): set '
            'XDG_CACHE_HOME to a folder that can'
        ) from error
    finally:
        logger.setLevel(level)
    return target


@contextlib.contextmanager
def _fetching(url: str) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:  # urllib's are OSErrors
        reason = getattr(error, 'reason', None) or error
        raise UserError(
            f'{url} could not be fetched ({reason}): try again with a network, which continues '
            'where it stopped, or download it elsewhere and give the path of the file'
        ) from error


def _receive(url: str, partial: pathlib.Path, size: int) -> None:
    """Appends to `partial` the rest of the file; at most one byte more than `size` in all."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={'Range': f'bytes={have}-'} if have else {})
    with _fetching(url):
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    range_ = response.headers.get('Content-Range') or ''
    if response.status != 206 or not range_.startswith(f'bytes {have}-'):
        have = 0  # the server does not support ranges: start again
    with (
        response,
        open(partial, 'ab') as file,
        progress_bar(
            description='downloading', total=size, initial=have, unit='B', unit_scale=True
        ) as progress,
    ):
        file.truncate(have)
        while True:
            with _fetching(url):
                chunk = response.read(min(_CHUNK, size + 1 - have))
            if not chunk:
                return
            file.write(chunk)
            have += len(chunk)
            progress.update(len(chunk))


def from_hub(name: str, weights: Sequence[str], config: str) -> pathlib.Path:
    """A file of weights from the Hugging Face hub, downloaded with its config beside it.

    Args:
        name: 'owner/model'.
        weights: names of files; the first one that exists is taken.
        config: the name of the config, which may not exist.

    Raises:
        UserError: huggingface_hub is not installed, or the file cannot be downloaded.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise UserError(
            f'there is no file or folder {name}: check the path; or, if it is the name of a model '
            'on the Hugging Face hub, pip install huggingface_hub'
        ) from error

    def fetch_file(file: str) -> pathlib.Path | None:
        try:
            return pathlib.Path(huggingface_hub.hf_hub_download(name, file, etag_timeout=_TIMEOUT))
        except errors.LocalEntryNotFoundError:  # no network: an EntryNotFoundError too
            if huggingface_hub.try_to_load_from_cache(name, file) is None:
                raise
            return None  # the cache knows that there is none
        except errors.EntryNotFoundError:
            return None

    try:
        found = next((path for path in map(fetch_file, weights) if path is not None), None)
        fetch_file(config)
    except Exception as error:
        raise UserError(
            f'there is no file or folder {name}, and it could not be fetched from the Hugging Face '
            f'hub: {str(error).splitlines()[0]}'
        ) from error
    if found is None:
        raise UserError(f'{name} on the Hugging Face hub has none of {", ".join(weights)}')
    return found
