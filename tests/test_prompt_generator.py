"""Phrases from a language model, against a real HTTP server that speaks the chat protocol, well and badly."""

import json
import logging
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nandlib.errors import DataError
from nandlib.method.config import PromptConfig
from nandlib.method.prompts import load_prompts
from nandlib.settings import read_yaml
from nandlib.study.prompt_generator import REQUEST, Endpoint, generate, parse_phrases

KEY = "sk-never-to-be-seen"
GOOD = "- poke mark on capsule\n- punctured capsule\n2. small hole in the capsule\n“dent in capsule”.\n* pierced shell"
PHRASES = ["poke mark on capsule", "punctured capsule", "small hole in the capsule", "dent in capsule", "pierced shell"]


def completion(content, **more):
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": content} | more, "finish_reason": "stop"}]})


@pytest.fixture
def server():
    """Answers what its `script` says, in order, the last again and again; keeps the requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            httpd.requests.append((self.path, dict(self.headers), body))
            step = httpd.script.pop(0) if len(httpd.script) > 1 else httpd.script[0]
            status, headers, text = step() if callable(step) else step
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.script, httpd.requests = [completion(GOOD)], []
    httpd.handle_error = lambda *_: None  # a client that gave up waiting
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield httpd
    httpd.shutdown()


@pytest.fixture
def endpoint(server):
    return Endpoint(f"http://127.0.0.1:{server.server_port}/v1", "some-model", KEY, timeout=0.5, retries=2, backoff=0)


def test_the_papers_request_is_asked_once_and_recorded(server, endpoint, tmp_path, monkeypatch):
    target = tmp_path / "phrases.yaml"
    assert generate({"capsule": ["poke"]}, target, endpoint, progress=False) == {"capsule": {"poke": PHRASES}}
    path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body["model"] == "some-model"
    assert body["messages"][0]["content"].startswith("Generate concise phrases describing defects of type 'poke' in capsule")
    record = json.loads((tmp_path / "phrases.answers.json").read_text())
    assert [sorted(entry) for entry in record] == [["answer", "date", "model", "request"]]
    assert record[0]["answer"] == GOOD
    prompts = load_prompts(PromptConfig(file=str(target)))
    assert prompts.group_phrases("capsule", "crack", ["poke"]) == PHRASES
    assert "some-model" in read_yaml(target)["provenance"]
    first = target.read_bytes()
    for name in ("OPENAI_BASE_URL", "OPENAI_MODEL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    generate({"capsule": ["poke"]}, target, progress=False)
    assert target.read_bytes() == first
    assert len(server.requests) == 1
    with pytest.raises(DataError, match="OPENAI_BASE_URL is not set"):
        generate({"capsule": ["poke", "crack"]}, target, progress=False)


@pytest.mark.parametrize(
    "bad",
    [
        completion("I'm sorry, but I can't help with that."),
        completion("here\nare\nthree"),
        completion("\n".join(f"phrase number {k} of a long list" for k in range(30))),
        completion('{"phrases": 5}'),
        completion("a {} b\nc\nd\ne\nf"),
        completion("[1, 2, 3, 4, 5]"),
        completion("Here are some phrases:\n" + GOOD),
    ],
    ids=["excuse", "few", "many", "object", "braces", "numbers", "preamble"],
)
def test_an_invalid_answer_is_asked_for_again(server, endpoint, tmp_path, bad):
    server.script = [bad, completion(json.dumps(PHRASES))]
    assert generate({"capsule": ["poke"]}, tmp_path / "p.yaml", endpoint, progress=False)["capsule"]["poke"] == PHRASES
    assert len(server.requests) == 2
    server.script = [bad]
    with pytest.raises(DataError, match="capsule/crack: no valid phrases in 3 attempts"):
        generate({"capsule": ["poke", "crack"]}, tmp_path / "p.yaml", endpoint, progress=False)
    assert len(json.loads((tmp_path / "p.answers.json").read_text())) == 1


def slow():
    time.sleep(1.0)
    return completion(GOOD)


@pytest.mark.parametrize(
    "trouble", [(429, {"Retry-After": "0"}, "slow down"), (503, {}, ""), slow], ids=["rate limit", "server error", "time-out"]
)
def test_trouble_is_waited_out_but_not_for_ever(server, endpoint, trouble):
    server.script = [trouble, completion(GOOD)]
    assert endpoint.ask("x") == GOOD
    assert len(server.requests) == 2
    server.script = [trouble]
    with pytest.raises(DataError, match="the endpoint did not answer"):
        endpoint.ask("x")
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (completion(None, refusal=f"no, {KEY}"), "the model refused: no"),
        (completion(""), "the model refused: stop"),
        ((200, {}, f"<html>{KEY}</html>"), "is no chat completion"),
        ((200, {}, '{"choices": []}'), "is no chat completion"),
        ((401, {}, f"wrong key {KEY}"), "answered 401: wrong key"),
        ((400, {}, "x" * 190 + KEY), "answered 400: x"),
    ],
)
def test_what_cannot_be_mended_is_said_without_the_key(server, endpoint, tmp_path, answer, message, caplog):
    caplog.set_level(logging.DEBUG)
    server.script = [answer]
    with pytest.raises(DataError, match=message) as error:
        generate({"capsule": ["poke"]}, tmp_path / "p.yaml", endpoint, progress=False)
    assert KEY[:5] not in str(error.value) + caplog.text + repr(endpoint)
    assert error.value.__cause__ is None
    assert not list(tmp_path.iterdir())


def test_the_key_is_in_no_file(server, endpoint, tmp_path):
    server.script = [completion(GOOD.replace("pierced", KEY))]
    generate({"capsule": ["poke"]}, tmp_path / "p.yaml", endpoint, progress=False)
    assert len(list(tmp_path.iterdir())) == 2
    assert all(KEY not in path.read_text() for path in tmp_path.iterdir())


def test_another_model_is_asked_again(server, endpoint, tmp_path):
    for model in ("some-model", "other-model", "some-model"):
        generate({"capsule": ["poke"]}, tmp_path / "p.yaml", replace(endpoint, model=model), progress=False)
    assert [body["model"] for _, _, body in server.requests] == ["some-model", "other-model"]
    assert "other-model" not in read_yaml(tmp_path / "p.yaml")["provenance"]


def test_no_server_is_a_message():
    with pytest.raises(DataError, match="the endpoint did not answer"):
        Endpoint("http://127.0.0.1:9/v1", "m", KEY, retries=0).ask("x")


def test_decimals_are_no_enumeration():
    said = [f"{k}.5 mm deep hole" for k in range(5)] + ["a dent", "a crack", "a hole", "a spot", "a stain"]
    assert parse_phrases(json.dumps(said)) == said
    assert parse_phrases("\n".join(f"{k}. {phrase}" for k, phrase in enumerate(said, 1))) == said


def test_answers_in_a_code_block():
    said = ["a dent", "a crack", "a hole", "a spot", "a stain"]
    chat = [f"{k}. **{phrase.capitalize()}**" for k, phrase in enumerate(said, 1)]
    assert parse_phrases("\n".join(["Sure! Here are some phrases", *chat, "Let me know if you need more"])) == said
    assert parse_phrases("\n".join(f"{'abcdefgh'[k]}) `{phrase}`" for k, phrase in enumerate(said))) == said
    assert parse_phrases("\n".join(f"**{phrase}**" for phrase in said)) == said
    assert parse_phrases("```json\n" + json.dumps(PHRASES) + "\n```") == PHRASES
    assert REQUEST.count("{") == 2
