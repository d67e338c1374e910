"""Phrases from a large language model, by the paper's request, over any endpoint that speaks OpenAI's chat protocol.

Only names of classes and types are sent. Every answer is recorded with its request, model and date, and a recorded answer is
never asked for again: a study can be repeated without the endpoint. The key is taken from the environment and goes nowhere
but into the request's header.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import requests
from ruamel.yaml import YAML
from tqdm.auto import tqdm
from urllib3.util import Retry

from nandlib.data.download import trying_again
from nandlib.data.held import written
from nandlib.errors import DataError
from nandlib.settings import read_yaml

# The paper's request, with the class as the data set names it, and a sentence on the form of the answer.
PROVENANCE = "Answers of"
REQUEST = "Generate concise phrases describing defects of type '{type}' in {noun}. Answer with 5 to 10 phrases, one per line, nothing else."
FEWEST, MOST, MOST_WORDS = 5, 10, 12
LONGEST_WAIT = 300  # seconds, whatever a server asks for
ATTEMPTS = 3  # at a valid answer
_EMPHASIS = re.compile(r"(\*\*|__|`)(.+?)\1")
_ENUMERATION = re.compile(r"^\s*(?:[-•–]|\*(?!\*)|\(?\d+[.)](?!\d)|\(?[A-Za-z]\)(?=\s))\s*")  # no decimal, nothing that is printed bold


@dataclass(frozen=True)
class Endpoint:
    """A chat endpoint.

    Attributes:
        url: Address up to and without ``/chat/completions``.
        model: Name of the model.
        key: Sent as bearer token; may be empty for a server that needs none.
        timeout: Seconds to wait for an answer.
        retries: After a time-out, a rate limit or a server error; a server's Retry-After is respected.
        backoff: Seconds before the second retry, doubled for each further one.
    """

    url: str = field(repr=False)  # may hold a password
    model: str
    key: str = field(default="", repr=False)
    timeout: float = 60
    retries: int = 5
    backoff: float = 1

    @classmethod
    def from_environment(cls) -> Endpoint:
        """``OPENAI_BASE_URL``, ``OPENAI_MODEL`` and ``OPENAI_API_KEY``.

        Raises:
            DataError: If address or model is not set.
        """
        for name in ("OPENAI_BASE_URL", "OPENAI_MODEL"):
            if not os.environ.get(name):
                raise DataError(f"{name} is not set: phrases need OPENAI_BASE_URL, OPENAI_MODEL and, for most servers, OPENAI_API_KEY")
        return cls(os.environ["OPENAI_BASE_URL"].rstrip("/"), os.environ["OPENAI_MODEL"], os.environ.get("OPENAI_API_KEY", ""))

    def ask(self, request: str) -> str:
        """The model's answer to one message.

        Raises:
            DataError: If the endpoint cannot be reached, refuses, or answers something else than a chat completion.
        """
        retry = Retry(
            self.retries,
            backoff_factor=self.backoff,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=None,
            retry_after_max=LONGEST_WAIT,
        )
        body = {"model": self.model, "messages": [{"role": "user", "content": request}]}
        try:
            with trying_again(retry) as session:
                response = session.post(f"{self.url}/chat/completions", json=body, auth=self._authorise, timeout=self.timeout)
        except requests.RequestException as error:
            raise DataError(self._redact(f"the endpoint did not answer: {error}")) from None
        if not response.ok:
            raise DataError(f"the endpoint answered {response.status_code}: {self._redact(response.text)[:200]}")
        try:
            choice = response.json()["choices"][0]
            message, reason = choice["message"], choice.get("finish_reason")
            refusal, said = message.get("refusal"), message.get("content")
            if not isinstance(said, str | None):
                raise TypeError
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            raise DataError(f"the endpoint's answer is no chat completion: {self._redact(response.text)[:200]}") from None
        if refusal or reason == "content_filter" or not said:
            raise DataError(self._redact(f"the model refused: {refusal or reason}"))
        return self._redact(said)

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Only this key: without it, requests would look for one in the user's netrc."""
        if self.key:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request

    def _redact(self, text: str) -> str:
        return text.replace(self.key, "***") if self.key else text


def _recorded(path: Path) -> list[dict[str, Any]]:
    """Answers of earlier runs, which were paid for."""
    mend = "mend it, or move it away to ask for every answer again"
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    except ValueError as error:
        raise DataError(f"{path} cannot be read ({error}): {mend}") from error
    keys = ("request", "model", "answer")
    if not isinstance(found, list) or not all(
        isinstance(own, dict) and all(isinstance(own.get(key), str) for key in keys) for own in found
    ):
        raise DataError(f"{path} is no list of answers with {', '.join(keys)}: {mend}")
    return found


def parse_phrases(answer: str) -> list[str]:
    """The phrases of an answer: a JSON list, or one phrase a line, with or without bullets, numbers, quotes and emphasis. Where `FEWEST`
    lines or more have bullets or numbers, the others are talk.

    Raises:
        DataError: If these are not `FEWEST` to `MOST` different short phrases.
    """
    text = re.sub(r"^```\w*|```$", "", answer.strip(), flags=re.M).strip()
    try:
        lines = json.loads(text)
    except (ValueError, RecursionError):
        lines = text.splitlines()
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise DataError(f"the answer is no list of phrases: {answer[:200]!r}")
    listed = [line for line in lines if _ENUMERATION.match(line)]
    stripped = (
        _EMPHASIS.sub(r"\2", _ENUMERATION.sub("", line)).strip(" \t\"'“”.,;") for line in (listed if len(listed) >= FEWEST else lines)
    )
    phrases = list(dict.fromkeys(phrase.lower() for phrase in stripped if phrase))
    for phrase in phrases:
        if (
            len(phrase.split()) > MOST_WORDS
            or phrase.endswith(":")
            or re.search(r"[{}\[\]<>\\`!?]", phrase)
            or not re.search(r"[^\W\d_]", phrase)
        ):
            raise DataError(f"the answer holds {phrase[:100]!r}, which is no short phrase")
    if not FEWEST <= len(phrases) <= MOST:
        raise DataError(f"the answer holds {len(phrases)} phrases, not {FEWEST} to {MOST}: {answer[:200]!r}")
    return phrases


def _written_before(target: Path) -> dict[str, dict[str, list[str]]]:
    """The phrases of a file that `generate` wrote; none where there is no file."""
    content = read_yaml(target) if target.is_file() else {"provenance": PROVENANCE}
    if not isinstance(content, dict) or not str(content.get("provenance", "")).startswith(PROVENANCE):
        raise DataError(f"{target} is there, and no file of such phrases: give another name")
    classes: dict[str, dict[str, list[str]]] = content.get("classes") or {}
    return classes


def generate(
    types: Mapping[str, Sequence[str]], target: Path, endpoint: Endpoint | None = None, progress: bool = True
) -> dict[str, dict[str, list[str]]]:
    """Write a prompt file with phrases for every class and type, and beside it ``<name>.answers.json``.

    Args:
        types: Class → anomaly types.
        target: The YAML file.
        endpoint: Asked for what has no recorded answer of its model yet; None: the environment's. Without one, recorded
            answers of any model will do.
        progress: Show a progress bar.

    Raises:
        DataError: If the endpoint fails, or gives no valid answer in `ATTEMPTS` attempts; valid answers so far are kept. Or if the target
            is another file, or its phrases have been changed since.
    """
    there = _written_before(target)
    record = target.with_suffix(".answers.json")
    answers = _recorded(record)
    model = endpoint.model if endpoint else os.environ.get("OPENAI_MODEL")
    known = {entry["request"]: entry for entry in answers if model in (None, "", entry["model"])}
    used = set()
    phrases: dict[str, dict[str, list[str]]] = {}
    jobs = [(class_name, type_name) for class_name, names in types.items() for type_name in names]
    for class_name, type_name in tqdm(jobs, desc="phrases", disable=not progress):
        request = REQUEST.format(type=type_name.replace("_", " "), noun=class_name.replace("_", " "))
        if request not in known:
            endpoint = endpoint or Endpoint.from_environment()
            answer = _valid_answer(endpoint, request, f"{class_name}/{type_name}")
            known[request] = {"request": request, "model": endpoint.model, "date": date.today().isoformat(), "answer": answer}
            answers.append(known[request])
            record.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(answers, indent=2, ensure_ascii=False) + "\n"
            written(record, partial(Path.write_text, data=text, encoding="utf-8"))
        used.add(known[request]["model"])
        found = parse_phrases(known[request]["answer"])
        if there.get(class_name, {}).get(type_name, found) != found:
            raise DataError(f"{target}: the phrases of {class_name}/{type_name} are not those of the answer: give another file to write")
        phrases.setdefault(class_name, {})[type_name] = found
    content = {
        "version": 1,
        "provenance": f"{PROVENANCE} {', '.join(sorted(used))} to the request recorded in {record.name}; names of class and type only.",
        "base": "aprilgan",
        "classes": phrases,
    }
    yaml = YAML()
    yaml.width = 10_000
    written(target, partial(yaml.dump, content))
    return phrases


def _valid_answer(endpoint: Endpoint, request: str, what: str) -> str:
    problem = ""
    for _ in range(ATTEMPTS):
        try:
            answer = endpoint.ask(request)
        except DataError as error:
            raise DataError(f"{what}: {error}") from None
        try:
            parse_phrases(answer)
            return answer
        except DataError as error:
            problem = str(error)
    raise DataError(f"{what}: no valid phrases in {ATTEMPTS} attempts; at last, {problem}")
