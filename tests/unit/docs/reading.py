"""Commands out of Markdown: fenced blocks of a shell, and code in a line that begins with one of our programs.

A fence marked ``sh`` holds commands alone. In a fence without a mark, a line that begins with a known program is one; other marks
(json, python, yaml, text) hold none. Placeholders are ``<words>``, words in capitals (``RUN_DIR``) and ``...``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
SHELLS = ("sh", "bash", "shell", "console")
PLACEHOLDER = "PLACEHOLDER"
INLINE = re.compile(r"`((?:python -m|make|cohyde|serve|ray) [^`]+)`")
_FENCE = re.compile(r"^(\s*)(```+|~~~+)\s*([\w-]*)")
_HEREDOC = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
_ASSIGNMENT = re.compile(r"^[A-Za-z_]\w*=")
_CAPITALS = re.compile(r"[A-Z][A-Z0-9_]*")
_PARTS = frozenset({"|", "||", "&&", ";", "&"})


@dataclass(frozen=True)
class Command:
    """One program with its arguments; ``text`` is the line as it stands, ``strict`` says that it must be whole."""

    place: str
    text: str
    words: tuple[str, ...]
    strict: bool

    @property
    def program(self) -> str:
        """Its name without a folder."""
        return self.words[0].rpartition("/")[2]

    @property
    def fixed(self) -> bool:
        """Whether it can be run as it stands: it holds no placeholder and nothing that a reader made before."""
        made = ("/data/", "runs/", "my-", "...")
        return not any(is_placeholder(word) for word in self.words) and not any(part in self.text for part in made)


def is_placeholder(word: str) -> bool:
    """Whether a word stands for something that the reader puts in."""
    value = word.rpartition("=")[2].rpartition(":")[2]
    return PLACEHOLDER in word or value == "..." or (_CAPITALS.fullmatch(value) is not None and not word.startswith("-"))


def pages() -> list[Path]:
    """The first page and everything in docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(page: Path, known: Collection[str]) -> list[Command]:
    """All commands of a page. Raises ValueError with the place where a line of a shell cannot be read."""
    name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
    found: list[Command] = []
    for mark, first, lines in fences(page.read_text(encoding="utf-8")):
        if mark in SHELLS or not mark:
            for number, text in joined(lines, first):
                beginning = re.sub(r"^(\$ |sudo )", "", text.strip())
                if mark or _first_word(beginning) in known:
                    found += split(beginning, f"{name}:{number}", strict=True)
    for number, line in outside(page.read_text(encoding="utf-8")):
        for code in INLINE.findall(line):
            found += split(code, f"{name}:{number}", strict=False)
    return found


def fences(text: str) -> Iterator[tuple[str, int, list[str]]]:
    """(mark, number of the first line, lines) of each fenced block."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        opening = _FENCE.match(lines[at])
        at += 1
        if opening is None:
            continue
        first, fence = at, opening[2]
        while at < len(lines) and not lines[at].strip().startswith(fence):
            at += 1
        yield opening[3].lower(), first + 1, lines[first:at]
        at += 1


def outside(text: str) -> Iterator[tuple[int, str]]:
    """Lines that no fence holds, with their numbers."""
    inside = {number for _, first, lines in fences(text) for number in range(first - 1, first + len(lines) + 1)}
    for number, line in enumerate(text.splitlines(), start=1):
        if number not in inside:
            yield number, line


def joined(lines: list[str], first: int) -> Iterator[tuple[int, str]]:
    """Commands over several lines as one, without comments; what a here-document holds is passed over."""
    at = 0
    while at < len(lines):
        start, text = at, lines[at]
        at += 1
        while at < len(lines) and (text.rstrip().endswith("\\") or not _closed(text)):
            text = text.rstrip().removesuffix("\\") + ("\n" if not _closed(text) else " ") + lines[at]
            at += 1
        document = _HEREDOC.search(text)
        if document:
            while at < len(lines) and lines[at].strip() != document[1]:
                at += 1
            at += 1
            text = text[: document.start()] + text[document.end() :]
        if text.strip() and not text.lstrip().startswith("#"):
            yield first + start, text


def split(text: str, place: str, strict: bool) -> list[Command]:
    """The simple commands of a line: parted at pipes and the like, without redirections and assignments before the program."""
    filled = re.sub(r"<[A-Za-z][^<>|\n]*>", PLACEHOLDER, re.sub(r"\$\([^()]*\)", PLACEHOLDER, text))
    lexer = shlex.shlex(filled, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    try:
        tokens = list(lexer)
    except ValueError as error:
        raise ValueError(f"{place}: {text!r} is not a line of a shell: {error}") from error
    parts: list[list[str]] = [[]]
    skip = False
    for token in tokens:
        if token in _PARTS:
            parts.append([])
        elif set(token) <= {"<", ">", "&"}:
            skip = True
        elif skip:
            skip = False
        else:
            parts[-1].append(token)
    found = []
    for words in parts:
        while words and _ASSIGNMENT.match(words[0]):
            words = words[1:]
        if words:
            found.append(Command(place, text, tuple(word for word in words if word != "..."), strict))
    return found


def _first_word(text: str) -> str:
    words = text.split()
    while words and _ASSIGNMENT.match(words[0]):
        words = words[1:]
    return words[0].rpartition("/")[2] if words else ""


def _closed(text: str) -> bool:
    """Whether every quote in it is closed."""
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return False
    return True
