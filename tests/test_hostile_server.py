"""Downloads from servers that cut, stall, trickle, lie and never end: a wrong file is never accepted, and what can go on does."""

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nandlib.data import download as module
from nandlib.data.published import Source
from nandlib.data.sources import download
from nandlib.errors import DataError

CONTENT = random.Random(0).randbytes(600_000)
OTHER = random.Random(1).randbytes(600_000)
LIMIT = 8  # seconds that any answer may take


class Handler(BaseHTTPRequestHandler):
    """Answers by the function that the server has for the moment."""

    def do_GET(self) -> None:
        self.server.seen.append(dict(self.headers))
        self.close_connection = True
        with suppress(BrokenPipeError, ConnectionResetError):  # the client has had enough
            self.server.answer(self)

    def log_message(self, *_) -> None:
        pass

    def start(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def first(self) -> int:
        """Where the client wants to go on."""
        return int(self.headers.get("Range", "bytes=0-")[6:-1])


def honest(handler: Handler) -> None:
    first = handler.first()
    if first >= len(CONTENT):
        handler.start(416)
        return
    ranges = {"Content_Range": f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}"} if first else {}
    handler.start(206 if first else 200, Content_Length=len(CONTENT) - first, **ranges)
    handler.wfile.write(CONTENT[first:])


def cuts(handler: Handler) -> None:
    first = handler.first()
    ranges = {"Content_Range": f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}"} if first else {}
    handler.start(206 if first else 200, Content_Length=len(CONTENT) - first, **ranges)
    handler.wfile.write(CONTENT[first:][: (len(CONTENT) - first) // 2])


def cuts_without_a_length(handler: Handler) -> None:
    handler.start()
    handler.wfile.write(CONTENT[:200_000])


def cuts_in_chunks(handler: Handler) -> None:
    handler.protocol_version = "HTTP/1.1"
    handler.start(Transfer_Encoding="chunked")
    handler.wfile.write(b"8000\r\n" + CONTENT[:0x8000] + b"\r\n8000\r\n" + CONTENT[:100])


def chunks_of_nonsense(handler: Handler) -> None:
    handler.protocol_version = "HTTP/1.1"
    handler.start(Transfer_Encoding="chunked")
    handler.wfile.write(b"not a number\r\n" + CONTENT[:100])


def stalls_before_the_head(_handler: Handler) -> None:
    time.sleep(3)


def stalls_in_the_middle(handler: Handler) -> None:
    handler.start(Content_Length=len(CONTENT))
    handler.wfile.write(CONTENT[:100_000])
    handler.wfile.flush()
    time.sleep(3)


def trickles(handler: Handler) -> None:
    handler.start(Content_Length=len(CONTENT))
    for k in range(60):
        handler.wfile.write(CONTENT[k : k + 1])
        handler.wfile.flush()
        time.sleep(0.1)


def trickles_the_head(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
    for _ in range(300):
        handler.wfile.write(b"a")
        handler.wfile.flush()
        time.sleep(0.1)


def says_it_is_shorter(handler: Handler) -> None:
    handler.start(Content_Length=1000)
    handler.wfile.write(CONTENT)


def says_it_is_longer(handler: Handler) -> None:
    handler.start(Content_Length=10 * len(CONTENT))
    handler.wfile.write(CONTENT)


def says_that_its_length_is_a_word(handler: Handler) -> None:
    handler.start(Content_Length="many")
    handler.wfile.write(OTHER)


def never_ends(handler: Handler) -> None:
    handler.start()
    while True:
        handler.wfile.write(CONTENT)


def sends_another_file(handler: Handler) -> None:
    handler.start(Content_Length=len(OTHER))
    handler.wfile.write(OTHER)


def sends_another_part(handler: Handler) -> None:
    first = handler.first()
    handler.start(206, Content_Length=len(OTHER) - first, Content_Range=f"bytes {first}-{len(OTHER) - 1}/{len(OTHER)}")
    handler.wfile.write(OTHER[first:])


def sends_a_page(handler: Handler) -> None:
    handler.start(Content_Type="text/html")
    handler.wfile.write(b"<html>please log in</html>")


def sends_it_packed(handler: Handler) -> None:
    handler.start(Content_Encoding="gzip", Content_Length=600)
    handler.wfile.write(b"\x1f\x8b\x08" + CONTENT[:597])


def turns_in_a_circle(handler: Handler) -> None:
    handler.start(302, Location=handler.path)


def leads_to_a_file(handler: Handler) -> None:
    handler.start(302, Location="file:///etc/passwd")


def is_busy(handler: Handler) -> None:
    handler.start(429)


def is_busy_for_years(handler: Handler) -> None:
    handler.start(429, Retry_After=10**9)


def is_busy_for_a_word(handler: Handler) -> None:
    handler.start(503, Retry_After="soon")


def has_heads_without_end(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.0 200 OK\r\n" + b"A: b\r\n" * 10_000)


def speaks_no_http(handler: Handler) -> None:
    handler.wfile.write(CONTENT[:5000])


def says_that_all_is_there(handler: Handler) -> None:
    handler.start(416)


LIARS = [
    *(
        cuts,
        cuts_without_a_length,
        cuts_in_chunks,
        chunks_of_nonsense,
        stalls_before_the_head,
        stalls_in_the_middle,
        trickles,
        trickles_the_head,
    ),
    *(says_it_is_shorter, says_it_is_longer, says_that_its_length_is_a_word, never_ends, sends_another_file, sends_another_part),
    *(sends_a_page, sends_it_packed, turns_in_a_circle, leads_to_a_file, is_busy, is_busy_for_years, is_busy_for_a_word),
    *(has_heads_without_end, speaks_no_http, says_that_all_is_there),
]


@pytest.fixture
def server(monkeypatch) -> Iterator[ThreadingHTTPServer]:
    """A server whose `answer` is set; nobody waits long for it."""
    monkeypatch.setattr(module, "TIMEOUT", (1, 1))
    monkeypatch.setattr(module, "PATIENCE", 1)
    monkeypatch.setattr(module, "TRIES", 1)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.answer, server.seen = True, honest, []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def thing(server) -> Source:
    url = f"http://127.0.0.1:{server.server_port}/thing.bin"
    make = partial(Source, name="thing", title="A thing", licence="CC0-1.0", megabytes=1, path=Path("data/thing"), install="convert")
    return make(file="thing.bin", urls=(url,), check={"sha256": hashlib.sha256(CONTENT).hexdigest()})


@pytest.mark.parametrize("liar", LIARS)
def test_a_server_that_lies(liar, server, thing, tmp_path):
    server.answer = liar
    start = time.monotonic()
    try:
        path, _ = download(thing, tmp_path, progress=False)
    except DataError as error:
        assert "thing.bin could not be downloaded" in str(error) and "nand fetch thing --from PATH" in str(error)
        assert not (tmp_path / "thing.bin").exists(), "a wrong file was accepted"
    else:
        assert path.read_bytes() == CONTENT
    assert time.monotonic() - start < LIMIT
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2_000_000 + module.BLOCK
    server.answer = honest
    assert _got(thing, tmp_path) == CONTENT, "an honest server cannot make good for it"
    assert [path.name for path in tmp_path.iterdir()] == ["thing.bin"]


def _got(thing: Source, folder: Path) -> bytes:
    """What is there in the end; a part that a liar has spoilt is thrown away by the first try, and the second gets all."""
    try:
        return download(thing, folder, progress=False)[0].read_bytes()
    except DataError:
        return download(thing, folder, progress=False)[0].read_bytes()


@pytest.mark.parametrize("seed", range(10))
def test_liars_in_turn_and_an_honest_one_at_last(seed, server, thing, tmp_path):
    rng = random.Random(seed)
    quick = [liar for liar in LIARS if "stalls" not in liar.__name__ and "trickles" not in liar.__name__ and "busy" not in liar.__name__]
    for liar in rng.choices(quick, k=6):
        server.answer = liar
        try:
            path, _ = download(thing, tmp_path, progress=False)
        except DataError:
            assert not (tmp_path / "thing.bin").exists()
        else:
            assert path.read_bytes() == CONTENT
            path.unlink()
    server.answer = honest
    assert _got(thing, tmp_path) == CONTENT


def test_what_was_cut_goes_on(server, thing, tmp_path):
    server.answer = cuts
    for part in (300_000, 150_000, 75_000):
        with pytest.raises(DataError, match=rf"the connection broke .*{part} bytes read, {part} more expected.*; run again to go on"):
            download(thing, tmp_path, progress=False)
    server.answer = honest
    assert download(thing, tmp_path, progress=False)[0].read_bytes() == CONTENT
    assert server.seen[-1]["Range"] == "bytes=525000-"


def _busy_once(then: Callable[[Handler], None], **headers: object) -> Callable[[Handler], None]:
    asked = []

    def answer(handler: Handler) -> None:
        asked.append(time.monotonic())
        if len(asked) == 1:
            handler.start(429, **headers)
        else:
            then(handler)

    return answer


@pytest.mark.parametrize("headers", [{}, {"Retry_After": 1}, {"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}])
def test_a_busy_server_is_asked_again(headers, server, thing, tmp_path):
    server.answer = _busy_once(honest, **headers)
    assert download(thing, tmp_path, progress=False)[0].read_bytes() == CONTENT
    assert len(server.seen) == 2


def test_a_server_that_stays_busy_is_named(server, thing, tmp_path):
    server.answer = is_busy
    with pytest.raises(DataError, match="429"):
        download(thing, tmp_path, progress=False)
    assert len(server.seen) == 2


def test_a_trickle_is_no_download(server, thing, tmp_path):
    server.answer = trickles
    with pytest.raises(DataError, match="only 1?[0-9] bytes came in 1 seconds; run again to go on"):
        download(thing, tmp_path, progress=False)
