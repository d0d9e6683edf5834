"""What the rewriter reads and writes: the prompt of a query, the catalog entry it learns to write, the same turned round, and the
cleaning of its output.

Invariants: pure; every prompt begins with the same words (an engine's prefix cache then holds them); the query is cut and context
titles are dropped where a prompt would be too long, never the frame; a text from outside cannot open or close a turn of the chat; a
prompt turned round has no turns.
Source: the hypothetical entry is that of HyDE (2212.10496, section 3), for tools as in CoHyDE (2605.29271).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

from actors.core.types import InputError, Tool

INSTRUCTION = "Write the catalog entry of the API operation that answers the request: service, operation, what it does."
ENTRY_WORDS = 16
"""Words of a target entry: about 24 tokens, so that it ends within ``rewriter.max_new_tokens``."""
WHOLE_ENTRY_WORDS = 30
"""Words of an entry that a query's likelihood is asked for."""
MIN_QUERY_TOKENS = 32
"""A query keeps at least this many of its tokens before any context title is kept."""

_SENTENCE_END = re.compile(r"(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\betc\.)(?<!\bvs\.)(?<=[.!?])\s+(?=[A-Z\"'(])")
_MARKUP = re.compile(r"\*\*|`|^\s*[-*>#]+\s", re.MULTILINE)
_LABEL = re.compile(r"^(?:(?:api\s+)?catalog(?:ue)? entry|entry|answer)\s*:\s*", re.IGNORECASE)
_QUOTES = "\"'\u201c\u201d\u2018\u2019 "


class ChatTokenizer(Protocol):
    """The part of a Hugging Face tokenizer that a prompt needs."""

    chat_template: Any
    all_special_tokens: list[str]

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text."""

    def decode(self, token_ids: list[int]) -> Any:
        """The text of token ids."""

    def apply_chat_template(self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool) -> Any:
        """The conversation as one text."""


def rewrite_prompt(query: str, context_titles: Sequence[str], tokenizer: ChatTokenizer, max_tokens: int) -> str:
    """The prompt of one query, of at most ``max_tokens`` tokens (special tokens of the chat template included).

    ``context_titles`` are titles of tools that a first retrieval found, best first. Where the template takes no system turn, or the
    tokenizer has no template, the instruction comes first all the same. Raises InputError where not even the frame fits.
    """
    plain_query, titles = _plain(query, tokenizer), [_plain(t, tokenizer) for t in context_titles]
    token_ids = tokenizer.encode(plain_query, add_special_tokens=False)
    wanted = min(MIN_QUERY_TOKENS, len(token_ids))
    while True:
        room = max_tokens - len(tokenizer.encode(_frame("", titles, tokenizer), add_special_tokens=False))
        if room >= wanted or not titles:
            break
        titles.pop()
    if room < min(8, len(token_ids)):
        raise InputError(
            f"rewriter.prompt_tokens={max_tokens} leaves no room for a query: the prompt's frame takes {max_tokens - room} tokens;"
            f" set it to {max_tokens - room + MIN_QUERY_TOKENS} or more"
        )
    text = plain_query
    while True:
        prompt = _frame(text, titles, tokenizer)
        excess = len(tokenizer.encode(prompt, add_special_tokens=False)) - max_tokens
        if excess <= 0 or not text:
            return prompt
        # Texts do not tokenize as the sum of their parts: cut by the excess until it fits.
        token_ids = tokenizer.encode(text, add_special_tokens=False)[:-excess]
        text = str(tokenizer.decode(token_ids)).strip().rstrip("\ufffd")


def _frame(query: str, titles: Sequence[str], tokenizer: ChatTokenizer) -> str:
    request = f"Known: {'; '.join(titles)}\nRequest: {query}" if titles else f"Request: {query}"
    if not tokenizer.chat_template:
        return f"{INSTRUCTION}\n{request}\nEntry: "
    turns = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": request}]
    if "system" not in str(tokenizer.chat_template):
        turns = [{"role": "user", "content": f"{INSTRUCTION}\n{request}"}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def _plain(text: str, tokenizer: ChatTokenizer) -> str:
    """The text on one line, without the strings that the tokenizer would read as special tokens."""
    for token in tokenizer.all_special_tokens:
        text = text.replace(token, " ")
    return " ".join(text.split())


def catalog_entry(tool: Tool, max_words: int = ENTRY_WORDS) -> str:
    """What a rewrite should look like, and the target of the warm start: "<title>. <first sentence of the description>"."""
    paragraphs = tool.description.strip().splitlines()
    sentence = _SENTENCE_END.split(paragraphs[0].strip())[0] if paragraphs else ""
    entry = f"{tool.title.rstrip('.')}. {sentence}".strip()
    return " ".join(entry.split()[:max_words])


def query_prompt(tool: Tool) -> str:
    """What the rewriter, turned round, reads before a query: a tool's entry. Short, for each candidate of a query pays for it."""
    return f"Entry: {catalog_entry(tool, WHOLE_ENTRY_WORDS)}\nRequest:"


def query_target(query: str) -> str:
    """What follows ``query_prompt``: the query on one line."""
    return f" {' '.join(query.split())}"


def clean_rewrite(text: str) -> str:
    """A generated text as one line without markup, surrounding quotes or a leading label; "" where nothing is left."""
    text = " ".join(_MARKUP.sub("", text).split()).strip(_QUOTES)
    return _LABEL.sub("", text).strip(_QUOTES)
