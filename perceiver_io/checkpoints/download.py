"""Fetches released weights once, and keeps them in the cache."""

import hashlib
import http.client
import os
import pathlib
import urllib.error
import urllib.request
from collections.abc import Sequence

import tqdm

from perceiver_io.core import files
from perceiver_io.core.errors import UserError

# The size and the hash are those that a public repository recorded of the file.
OFFICIAL_URL = 'https://storage.googleapis.com/perceiver_io/video_autoencoding_checkpoint.pystate'
OFFICIAL_SIZE = 79_453_357
OFFICIAL_SHA256 = '68f5492569750acac683a51ff201bc181c9e4fee94d7c2b48bae2083e0fbc092'
_TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 20


def official_checkpoint() -> pathlib.Path:
    """DeepMind's weights, fetched if they are not in the cache."""
    return fetch(
        OFFICIAL_URL,
        files.cache_folder() / pathlib.Path(OFFICIAL_URL).name,
        size=OFFICIAL_SIZE,
        sha256=OFFICIAL_SHA256,
    )


def fetch(url: str, target: pathlib.Path, *, size: int, sha256: str) -> pathlib.Path:
    """Downloads a file that is known beforehand; returns `target`.

    What arrives goes into `target` with `.part` after its name, and is gone on with when it was
    interrupted. `target` appears only when it is whole and the right one.

    Args:
        url: of the file.
        target: where to keep it. If it is there and the right one, nothing is fetched.
        size: its bytes.
        sha256: its hash, in hexadecimal.

    Raises:
        UserError: there is no network, or what arrived is another file; says what to do.
    """
    if target.exists():
        _check(target, size, sha256)
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f'{target.parent} cannot be written ({error.strerror}): set '
            'XDG_CACHE_HOME to a folder that can'
        ) from error
    partial = target.with_name(target.name + '.part')
    if partial.exists() and partial.stat().st_size > size:
        partial.unlink()
    if not partial.exists() or partial.stat().st_size < size:
        _receive(url, partial, size)
    _check(partial, size, sha256)
    os.replace(partial, target)
    return target


def _receive(url: str, partial: pathlib.Path, size: int) -> None:
    """Appends to `partial` what it lacks of the file, up to `size` bytes and one more."""
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={'Range': f'bytes={have}-'} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            range_ = response.headers.get('Content-Range') or ''
            if response.status != 206 or not range_.startswith(f'bytes {have}-'):
                have = 0  # a server that cannot go on begins anew
            _copy(response, partial, have, size)
    except (OSError, http.client.HTTPException) as error:  # urllib's are OSErrors
        reason = getattr(error, 'reason', None) or error
        raise UserError(
            f'{url} could not be fetched ({reason}): try again with a network, which goes on from '
            f'where it stopped, or fetch it elsewhere and give the path of the file'
        ) from error


def _copy(response: http.client.HTTPResponse, partial: pathlib.Path, have: int, size: int) -> None:
    with (
        open(partial, 'ab') as file,
        tqdm.tqdm(
            desc='downloading', total=size, initial=have, unit='B', unit_scale=True
        ) as progress,
    ):
        file.truncate(have)
        while chunk := response.read(min(_CHUNK, size + 1 - have)):
            file.write(chunk)
            have += len(chunk)
            progress.update(len(chunk))


def _check(path: pathlib.Path, size: int, sha256: str) -> None:
    """Raises UserError where the file is not the right one; a wrong `.part` is removed."""
    found = path.stat().st_size
    if found < size and path.suffix == '.part':
        raise UserError(
            f'the download stopped after {found} of {size} bytes: start it again, and it goes on'
        )
    with open(path, 'rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
    if found == size and digest == sha256:
        return
    if path.suffix == '.part':
        path.unlink()
        found = f'more than {size}' if found > size else found
        raise UserError(
            f'what was downloaded is another file ({found} bytes with SHA-256 '
            f'{digest}, and not {size} with {sha256}): it was removed, try again'
        )
    raise UserError(
        f'{path} is not the file it should be ({found} bytes with SHA-256 {digest}): '
        'remove it, and it is fetched again'
    )


def from_hub(name: str, weights: Sequence[str], config: str) -> pathlib.Path:
    """A file of weights from the Hugging Face hub, with its config beside it.

    Args:
        name: 'owner/model'.
        weights: names of files, of which the first that is there is taken.
        config: the name of its config, which may be absent.

    Raises:
        UserError: the library that fetches it is absent, or it cannot be fetched.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise UserError(
            f'there is no file or folder {name}; to fetch it from the Hugging Face hub, pip '
            'install huggingface_hub'
        ) from error

    def fetch_file(file):
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
            f'there is no file or folder {name}, and the Hugging Face hub did not give it: '
            f'{str(error).splitlines()[0]}'
        ) from error
    if found is None:
        raise UserError(f'{name} on the Hugging Face hub has none of {", ".join(weights)}')
    return found
