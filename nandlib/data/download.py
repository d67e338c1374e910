"""One file from one address: it goes on where it stopped, and believes no server more than it must."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from tqdm.auto import tqdm
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

BLOCK = 1 << 16  # bytes read at once; an interrupted download loses at most as much
TIMEOUT = (10, 60)  # seconds to connect, and between two blocks
PATIENCE = 60  # seconds that a busy server may ask for before the next try, and after which a trickle counts as none
SLOWEST = 1000  # bytes a second: less is a trickle
TRIES = 3  # more, of a server that says it is busy
FAILURES = (requests.RequestException, HTTPError)  # of `retrieve`


def retrieve(url: str, partial: Path, most: int, progress: bool) -> None:
    """Download a file, going on where an interrupted download stopped, if the server allows. What comes is not verified.

    Args:
        url: Its address.
        partial: Its place, and that of what has come so far.
        most: Bytes that it cannot have: a server that sends more is not believed.
        progress: Show a progress bar.

    Raises:
        FAILURES: If the server does not give it.
    """
    have = partial.stat().st_size if partial.is_file() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    busy = Retry(  # nothing else is tried again
        total=None,
        connect=0,
        read=0,
        other=0,
        status=TRIES,
        status_forcelist=(429, 503),
        backoff_factor=1,
        retry_after_max=PATIENCE,
        raise_on_status=False,
    )
    with trying_again(busy, _Impatient) as session, session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if have and response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # all is there
        if not response.ok:  # no word of the server's: it may repeat what it was asked, with a key
            raise requests.HTTPError(f"the server answers {response.status_code}")
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        _write(response, partial, have if resumed else 0, most, progress)


class _Hurried:
    """A connection on which the head of an answer must have come within `PATIENCE`: a timeout is between two bytes, and a head that
    trickles would be waited for all day."""

    sock: socket.socket

    def getresponse(self) -> Any:
        late = threading.Event()

        def end() -> None:
            late.set()
            with suppress(OSError, AttributeError):  # it has ended meanwhile
                self.sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(PATIENCE, end)
        timer.start()
        try:
            return super().getresponse()  # type: ignore[misc]
        except (OSError, HTTPException) as error:
            if late.is_set():
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()


class _HurriedHttp(_Hurried, HTTPConnection):
    pass


class _HurriedHttps(_Hurried, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HurriedHttp


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HurriedHttps


class _Impatient(HTTPAdapter):
    """Answers begin in time, or not at all."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}


def trying_again(how: Retry, adapter: type[HTTPAdapter] = HTTPAdapter) -> requests.Session:
    """A session whose requests are tried again so."""
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter(max_retries=how))
    return session


def _write(response: requests.Response, partial: Path, have: int, most: int, progress: bool) -> None:
    """What a server sends, behind what is there already, or in its place."""
    said = response.headers.get("Content-Length", "")
    total = have + int(said) if said.isdecimal() else 0
    bar = tqdm(total=total or None, initial=have, unit="B", unit_scale=True, desc=partial.stem, disable=not progress)
    with partial.open("ab" if have else "wb") as file, bar:
        for block in _blocks(response):
            file.write(block)
            bar.update(len(block))
            have += len(block)
            if have > most:
                file.truncate(0)
                raise requests.ConnectionError(f"it sends more than {most} bytes, twice what the file should have")


def _blocks(response: requests.Response) -> Iterator[bytes]:
    """What a server sends, as it comes.

    Raises:
        requests.ConnectionError: If next to nothing comes, or less than was said.
    """
    since, came = time.monotonic(), 0
    while block := _block(response):
        yield block
        came += len(block)
        if (passed := time.monotonic() - since) > PATIENCE:
            if came < SLOWEST * passed:
                raise requests.ConnectionError(f"only {came} bytes came in {passed:.0f} seconds; run again to go on")
            since, came = time.monotonic(), 0


def _block(response: requests.Response) -> bytes:
    try:
        return response.raw.read1(BLOCK, decode_content=False)
    except HTTPError as error:  # as urllib3 sees it: less than was said, no more in time, chunks that are none
        raise requests.ConnectionError(f"the connection broke ({error}); run again to go on") from error
