"""Prompt sets: the sentences whose ensembles are f_nor, f_abn and f_add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from nandlib.errors import DataError, PresetError, nearest, short
from nandlib.method.config import PromptConfig
from nandlib.settings import RESOURCES, read_yaml, resource

MOST_TEXTS = 8  # normalities at once
MOST_LETTERS, MOST_WORDS = 400, 40  # of a phrase: no text model here reads more than about 48 tokens


@dataclass(frozen=True)
class PromptSet:
    """Templates, states and phrases of one study.

    Attributes:
        source: File the phrases come from, for messages.
        templates: Sentences with one ``{}``.
        normal_states, abnormal_states: Words with one ``{}`` for the class name.
        phrases: Class → group or anomaly type → phrases.
        patterns: Phrases with ``{type}`` and ``{class}``, which stand for every class and type, in place of `phrases`.
        config: How they are used.
    """

    source: str
    templates: tuple[str, ...]
    normal_states: tuple[str, ...]
    abnormal_states: tuple[str, ...]
    phrases: dict[str, dict[str, list[str]]]
    patterns: tuple[str, ...] = ()
    config: PromptConfig = PromptConfig()

    def fill(self, phrases: list[str] | tuple[str, ...]) -> list[str]:
        """Every phrase in every template: phrase-major, as APRIL-GAN orders its prompts."""
        if isinstance(phrases, str):
            raise DataError(f"phrases must be a list, not one: [{phrases!r}]")
        return [template.format(phrase) for phrase in phrases for template in self.templates]

    def of_class(self, class_name: str, groups: Mapping[str, list[str]]) -> dict[str, list[str]]:
        """The prompts of one class: ``normal``, ``abnormal``, and one entry ``+<group>`` a group (group → types)."""
        added = {f"+{group}": self.fill(self.group_phrases(class_name, group, types)) for group, types in groups.items()}
        return {"normal": self.normal(class_name), "abnormal": self.abnormal(class_name), **added}

    def bank(self) -> dict[str, list[str]]:
        """The prompts of generic defects, for `nand_plus`: ``^<name>`` → sentences."""
        content = read_yaml(RESOURCES / "defect_bank.yaml")
        return {f"^{name}": self.fill([pattern.format(name=name) for pattern in content["patterns"]]) for name in content["names"]}

    def rivals(self, competitors: str, others: Sequence[tuple[str, ...]]) -> list[list[str]]:
        """Sentences of each defect that competes with a normality in `nand_plus`: of the ``bank``, of ``types`` (phrases of which are
        `others`), or of none."""
        if competitors == "types":
            return [self.fill(phrases) for phrases in others]
        return list(self.bank().values()) if competitors == "bank" else []

    def _name(self, class_name: str) -> str:
        return class_name.replace("_", " ") if self.config.class_name == "cleaned" else class_name

    def normal(self, class_name: str) -> list[str]:
        """Prompts of f_nor."""
        return self.fill([state.format(self._name(class_name)) for state in self.normal_states])

    def abnormal(self, class_name: str) -> list[str]:
        """Prompts of f_abn."""
        return self.fill([state.format(self._name(class_name)) for state in self.abnormal_states])

    def group_phrases(self, class_name: str, group: str, types: list[str]) -> list[str]:
        """Phrases that stand for a group: its own, those of all its types, or those that the patterns make of their names.

        Raises:
            PresetError: If the file has no phrases for the class, or neither for the group nor for one of its types.
        """
        names = types if self.config.group_text == "union" else [group]
        noun = class_name.replace("_", " ")
        if self.patterns:
            words = [{"type": name.replace("_", " "), "class": noun} for name in names]
            return [pattern.format(**word) for word in words for pattern in self.patterns]
        if self.config.group_text == "group_name":
            return [f"{group.replace('_', ' ')} on {noun}"]
        if class_name not in self.phrases:
            raise PresetError(f"{self.source}: no phrases for class '{class_name}': {nearest(class_name, self.phrases)}")
        known = self.phrases[class_name]
        if group in known and group not in types:
            return known[group]
        for name in names:
            if name not in known:
                raise PresetError(
                    f"{self.source}: no phrases for type '{name}' of class '{class_name}': {nearest(name, known)} Add some, or "
                    "list the type in data.abnormal_types or data.exclude_types"
                )
        return [phrase for name in names for phrase in known[name]]


def load_prompts(config: PromptConfig) -> PromptSet:
    """Read and validate a prompt file.

    Raises:
        PresetError: If a key is missing or unknown, a template or state has not exactly one ``{}``, a list is empty, or ``base`` is not
            of the package.
    """
    path = resource("prompts", config.file)
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise PresetError(f"{path} must be a mapping with the keys base or templates and states, and classes or patterns")
    if str(content.get("base", "")).endswith((".yaml", ".yml")):  # a stage would not see that it has changed
        raise PresetError(f"{path}: 'base: {content['base']}' must name a file of the package, as aprilgan does: copy what you need of it")
    base = read_yaml(resource("prompts", str(content["base"]))) if "base" in content else {}
    merged: dict[str, Any] = {**base, **content}
    valid = ("version", "provenance", "base", "templates", "normal_states", "abnormal_states", "classes", "patterns")
    for key in merged:
        if key not in valid:
            raise PresetError(f"{path}: unknown key '{key}': {nearest(key, valid)}")
    for key in ("templates", "normal_states", "abnormal_states"):
        sentences = merged.get(key)
        if not isinstance(sentences, list) or not sentences:
            raise PresetError(f"{path}: '{key}' must be a list of sentences (or take those of APRIL-GAN with 'base: aprilgan')")
        for sentence in sentences:
            if _fields(sentence) != [""]:
                raise PresetError(f"{path}: '{key}' has '{sentence}', which must hold exactly one {{}}")
    patterns, classes = merged.get("patterns") or [], merged.get("classes") or {}
    if not isinstance(patterns, list) or not isinstance(classes, dict) or not all(isinstance(n or {}, dict) for n in classes.values()):
        raise PresetError(f"{path}: 'patterns' must be a list, and 'classes' a mapping: class, type, phrases")
    for pattern in patterns:
        fields = _fields(pattern)
        if "type" not in fields or not set(fields) <= {"type", "class"}:
            raise PresetError(f"{path}: 'patterns' has '{pattern}', which must hold {{type}}, and may hold {{class}}")
    if patterns and classes:
        raise PresetError(f"{path}: give 'classes' or 'patterns', not both")
    classes = {str(class_name): {str(name): own for name, own in (names or {}).items()} for class_name, names in classes.items()}
    for class_name, names in classes.items():
        if not names:
            raise PresetError(f"{path}: class '{class_name}' has no phrases: give some for each of its types, or leave the class out")
        for name, phrases in names.items():
            if not isinstance(phrases, list) or not phrases or not all(isinstance(p, str) and p.strip() for p in phrases):
                raise PresetError(f"{path}: {class_name}/{name} must be a list of at least one phrase")
    states = {key: tuple(merged[key]) for key in ("templates", "normal_states", "abnormal_states")}
    return PromptSet(str(path), phrases=classes, patterns=tuple(patterns), config=config, **states)


def _fields(sentence: Any) -> list[str]:
    """Names in braces; of what is no sentence with braces in pairs, or says how a name is written, one that none has."""
    try:
        return ["?" if how or conversion else name for _, name, how, conversion in Formatter().parse(sentence) if name is not None]
    except (ValueError, TypeError):
        return ["?"]


def checked_phrases(text: str | Sequence[str]) -> tuple[str, ...]:
    """A phrase, or phrases for the same thing, words parted by single spaces.

    Raises:
        DataError: If one is no text, empty, not printable, or longer than the text model reads.
    """
    phrases = (text,) if isinstance(text, str) else tuple(text) if isinstance(text, Sequence) else (text,)
    for phrase in phrases:
        if not isinstance(phrase, str):
            raise DataError(f"a normality is said in words, a phrase or a sequence of phrases: {short(phrase)} is none")
        if not phrase.strip():
            raise DataError("a normality needs at least one phrase that is not empty, or an example")
        if not " ".join(phrase.split()).isprintable():
            raise DataError(f"{phrase!r} holds what cannot be printed, and no text model reads: leave it out")
        if len(phrase.split()) > MOST_WORDS or len(phrase) > MOST_LETTERS:
            raise DataError(f"“{phrase[:40]}…” is too long: the text model would not read its end; use at most {MOST_WORDS} words")
    return tuple(" ".join(phrase.split()) for phrase in phrases)


def spelled(phrase: str) -> str:
    """A phrase but for spaces and capitals."""
    return " ".join(phrase.split()).lower()


def still_abnormal(others: Sequence[tuple[str, ...]], normalities: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """Those of the defects `others` of which no phrase is a normality's: what was declared normal is no rival of itself.

    Raises:
        DataError: If there were some, and none is left to compete with.
    """
    added = {spelled(phrase) for own in normalities.values() for phrase in own}
    left = [phrases for phrases in others if added.isdisjoint(map(spelled, phrases))]
    if others and not left:
        raise DataError("all of others=[...] are normal now: name another defect that stays abnormal, or take plus.competitors 'bank'")
    return left


def free_name(taken: Sequence[str], name: str = "example") -> str:
    """A name for a normality that none of these has: itself, or with a number behind it."""
    return next(own for own in (name, *(f"{name} {k}" for k in range(2, len(taken) + 3))) if own not in taken)


def checked_name(name: str) -> str:
    """The name of a normality.

    Raises:
        DataError: If it is no text, or cannot be written.
    """
    if not isinstance(name, str) or not name.isprintable():
        raise DataError(f"the name of a normality is printable text, not {short(name)}")
    return name


def refuse_repeated(phrases: Sequence[str], normalities: Mapping[str, Sequence[str]]) -> None:
    """Raise DataError if one of the phrases, but for spaces and capitals, is that of a normality: it would be damped twice."""

    known = {spelled(phrase): name for name, own in normalities.items() for phrase in own}
    for phrase in phrases:
        if spelled(phrase) in known:
            raise DataError(f"“{phrase}” was added already, as '{known[spelled(phrase)]}': it would be damped twice")


def read_texts(lines: Sequence[str]) -> list[tuple[str, ...]]:
    """What a user typed as normalities: one a line, its phrases parted by ``;``. Empty lines and repetitions are dropped.

    Raises:
        DataError: If a phrase is too long, or stands in two texts, or there are too many.
    """
    if isinstance(lines, str):
        raise DataError(f"texts must be a list, not one: [{lines!r}]")
    texts = dict[frozenset[str], tuple[str, ...]]()
    for line in lines:
        phrases = {spelled(part): " ".join(part.split()) for part in reversed(line.split(";")) if part.strip()}
        own = tuple(reversed(phrases.values()))  # of those that are spelled alike the first
        if own and frozenset(phrases) not in texts:
            refuse_repeated(own, {"; ".join(other): other for other in texts.values()})
            texts[frozenset(phrases)] = checked_phrases(own)
    if len(texts) > MOST_TEXTS:
        raise DataError(f"{len(texts)} texts at once are too many: at most {MOST_TEXTS}, since every one damps the maps further")
    return list(texts.values())
