"""Queries that the AWS SDK itself holds, and their splits beside those of the vague queries.

Kinds: ``standard`` (titles and descriptions of the SDK's examples), ``sentence`` (one sentence of an operation's documentation,
taken out of its description), ``example`` ("For example, if you ...") and ``symptom`` (documented error texts that belong to one to
three operations); the last three are for training only.

Invariants: an operation is *unseen* by one assignment for all kinds, which the vague queries' splits force where they speak; no
training query made here has an unseen operation, or an equivalent of one, as gold; no two texts of different splits are
near-copies (``text.NEAR_COPY``); unseen operations keep their whole description. Choices are by hash of texts and
ids, never by a random state.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from actors.core.text import identifier_words, sentences
from actors.core.types import LABELLED_KINDS, Catalog, Corpus, Novelty, Query, QueryKind, Split, Tool
from pipelines.catalogs import aws
from pipelines.catalogs.text import NearCopies, content_stems, stem_frequency

MAX_GOLD = 3
"""A text that stands with more operations than this says too little about any of them."""
_UNSEEN_SHARE = 0.15
_DEV_SHARE_OF_UNSEEN = 0.3
_TEST_SHARE, _DEV_SHARE = 0.5, 0.15
"""Of the standard queries whose operation has another labelled query that is for training."""
_MIN_WORDS, _MAX_WORDS = 6, 40

_LEAD = re.compile(
    r"""^(?:(?:the|this)\ )?(?:following\ |below\ )?(?:[a-z0-9]+(?:-[a-z0-9]+)+\ )?(?:code\ )?
    (?:examples?|commands?|operation|request|action|sample)(?:\ command)?(?:\ that\ follows)?,?\ *
    (?:shows?\ (?:you\ )?(?:how\ )?(?:to\ )?|(?:demonstrates|illustrates)\ how\ to\ |(?:is|can\ be)\ used\ to\ )?""",
    re.IGNORECASE | re.VERBOSE,
)
"""How the description of an example opens before it says anything."""
_NAMED = re.compile(r"``|`|/n|\b(?:with the (?:ID|ARN|name)|whose ID is) \S*\d\S*")
"""Markup, and identifiers made up for the example."""
_POINTER = re.compile(
    r"""^(?:For\s(?:more|details|information|a\slist|the\slist|examples?\b(?!,))|See\s|To\slearn|Note\b|The\sfollowing
    |Require[sd]\spermission|You\smust\shave)|https?:|arn:|:$|\b(?:use|using|call|calling|see)(?:\sthe)?\s(?-i:[A-Z][a-z]+[A-Z])""",
    re.IGNORECASE | re.VERBOSE,
)
"""Sentences that send the reader elsewhere, or to another operation."""
_EXAMPLE = re.compile(r"^For example,? (?!code\b|see\b)", re.IGNORECASE)
_ERROR_LEAD = re.compile(
    r"""^(?:This\s(?:exception|error|fault)\sis\s(?:thrown|returned)\s(?:when|if|because)|(?:Thrown|Returned|Raised)\s(?:when|if)
    |Indicates\sthat|The\s(?:request|operation)\s(?:was\srejected|failed|is\snot\svalid)\sbecause
    |You\s(?:will\s)?(?:get|receive)\sthis\s(?:exception|error)\s(?:when|if))\s""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True)
class _Text:
    """A text with the operations it belongs to, before it has a split."""

    key: str
    text: str
    gold: frozenset[str]


def build(operations: Sequence[aws.Operation], vague: Sequence[Query]) -> Corpus:
    """The whole catalog with all its queries: the vague ones as given, the SDK's own beside them."""
    equivalents = aws.equivalents(operations)
    standard = _standard_texts(operations)
    unseen = _unseen_operations(standard, vague, equivalents)
    blocked = unseen.keys() | {e for tool_id in unseen for e in equivalents.get(tool_id, ())}
    labelled = [*vague, *_split_standard(standard, unseen, blocked, {t for q in vague if q.split == "train" for t in q.gold})]
    kept = _without_near_copies(labelled)
    taken = _documentation_texts(operations, blocked)
    training: list[Query] = [_training_query(kind, text) for kind, text in taken.values()]
    training += [_training_query("example", text) for text in _parameter_examples(operations, blocked, taken.keys())]
    training += [_training_query("symptom", text) for text in _symptom_texts(operations, blocked)]
    queries = _without_near_copies([*kept, *training])
    used = {q.query_id for q in queries}
    cut: dict[str, list[str]] = defaultdict(list)
    for sentence, (kind, text) in taken.items():
        if f"{kind}-{text.key}" in used:
            for tool_id in text.gold:
                cut[tool_id].append(sentence)
    tools = tuple(_without_sentences(operation.tool, cut.get(operation.tool.tool_id, ())) for operation in operations)
    return Corpus(catalog=Catalog(tools, equivalents), queries=tuple(seen_only(queries)))


def by_hash(key: str) -> float:
    """A number in [0, 1) that depends on ``key`` alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def clean_title(title: str) -> str:
    """ "To create a bucket." -> "Create a bucket"; empty where only the operation's name stands there."""
    text = " ".join(_NAMED.sub("", title).split()).strip(" .:")
    text = re.sub(r"^(?:To|How to) ", "", text)
    return _sentence_case(text) if len(text.split()) > 1 and not text.lower().endswith(" example") else ""


def clean_description(description: str) -> str:
    """First sentence without its "The following example shows how to"."""
    first = next(iter(sentences(" ".join(description.split()))), "")
    text = " ".join(_NAMED.sub("", _LEAD.sub("", first)).split()).strip(" .:")
    return _sentence_case(text)


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def _standard_texts(operations: Iterable[aws.Operation]) -> list[_Text]:
    """Title or description of each example, whichever first says more than the operation's name; equal texts joined."""
    gold: dict[str, set[str]] = defaultdict(set)
    wording: dict[str, str] = {}
    for operation in operations:
        name = content_stems(" ".join(identifier_words(operation.tool.name)))
        for title, description in operation.examples:
            options = [clean_title(title), clean_description(description)]
            texts = [text for text in options if 2 <= len(text.split()) <= _MAX_WORDS]
            told = [text for text in texts if len(content_stems(text) - name) >= 2]
            text = next(iter(told or texts), "")
            if text and (told or text.lower() != " ".join(identifier_words(operation.tool.name)).lower()):
                key = text.lower()
                wording.setdefault(key, text)
                gold[key].add(operation.tool.tool_id)
    return [_Text(_digest(key), wording[key], frozenset(ids)) for key, ids in sorted(gold.items()) if len(ids) <= MAX_GOLD]


def _unseen_operations(
    standard: Iterable[_Text], vague: Iterable[Query], equivalents: dict[str, frozenset[str]]
) -> dict[str, Split]:
    """Operation -> the split that alone may ask for it. The vague queries decide where they speak, else a hash."""
    unseen: dict[str, Split] = {}
    seen: set[str] = set()
    for query in vague:
        if query.novelty == "unseen":
            unseen.update({t: query.split for t in query.gold if unseen.get(t) != "test"})
        elif query.split == "train":
            seen.update(query.gold)
    forced = dict(unseen)
    for text in standard:
        for tool_id in text.gold:
            family = {tool_id, *equivalents.get(tool_id, ())}
            if not family & seen and not family & forced.keys() and by_hash(f"unseen {min(family)}") < _UNSEEN_SHARE:
                split: Split = "dev" if by_hash(f"dev {min(family)}") < _DEV_SHARE_OF_UNSEEN else "test"
                unseen[tool_id] = split
    return unseen


def _split_standard(texts: Sequence[_Text], unseen: dict[str, Split], blocked: Collection[str], asked: set[str]) -> list[Query]:
    """Unseen operations have their split; one text of each seen operation trains, unless a vague query (``asked``) does."""
    train_only = {min((text.key for text in texts if tool_id in text.gold), key=by_hash) for tool_id in _golds(texts) - asked}
    queries: list[Query] = []
    for text in texts:
        splits = {unseen[t] for t in text.gold if t in unseen}
        novelty: Novelty = "unseen" if splits else "seen"
        if splits and text.gold <= set(blocked):
            split: Split = "test" if "test" in splits else "dev"
        elif text.gold & set(blocked):
            continue
        else:
            share = 1.0 if text.key in train_only else by_hash(f"split {text.key}")
            split = "test" if share < _TEST_SHARE else "dev" if share < _TEST_SHARE + _DEV_SHARE else "train"
        gold = dict.fromkeys(sorted(text.gold), 1)
        query_id = f"standard-{text.key}"
        queries.append(Query(query_id, text.text, "standard", split, gold, "standard", need=query_id, novelty=novelty))
    return queries


def _golds(texts: Iterable[_Text]) -> set[str]:
    return {tool_id for text in texts for tool_id in text.gold}


def _documentation_texts(operations: Sequence[aws.Operation], blocked: set[str]) -> dict[str, tuple[QueryKind, _Text]]:
    """Sentence of a description -> what is asked with it: every "For example, if ...", and one other sentence an operation.

    Never a description's first sentence, which says what the operation does, and none that stands in many descriptions.
    """
    parts = {o.tool.tool_id: sentences(o.tool.description) for o in operations}
    openings = {found[0] for found in parts.values() if found}
    holders: dict[str, set[str]] = defaultdict(set)
    for tool_id, found in parts.items():
        for sentence in found:
            holders[sentence].add(tool_id)
    taken: dict[str, tuple[QueryKind, _Text]] = {}
    for found in parts.values():
        usable = [
            s for s in found if s not in openings and len(holders[s]) <= MAX_GOLD and not holders[s] & blocked and _is_usable(s)
        ]
        others = sorted((s for s in usable if not _EXAMPLE.match(s)), key=lambda s: (s not in taken, by_hash(s)))
        for sentence in [s for s in usable if _EXAMPLE.match(s)] + others[:1]:
            kind: QueryKind = "example" if _EXAMPLE.match(sentence) else "sentence"
            text = _sentence_case(_EXAMPLE.sub("", sentence))
            taken[sentence] = (kind, _Text(_digest(sentence), text, frozenset(holders[sentence])))
    return taken


def _parameter_examples(operations: Iterable[aws.Operation], blocked: set[str], known: Collection[str]) -> list[_Text]:
    """ "For example, if you ..." in the documentation of parameters (which no document embeds)."""
    holders: dict[str, set[str]] = defaultdict(set)
    for operation in operations:
        for parameter in operation.tool.parameters:
            if "or example" in parameter.description:
                for sentence in sentences(parameter.description):
                    if _EXAMPLE.match(sentence) and _is_usable(sentence) and sentence not in known:
                        holders[sentence].add(operation.tool.tool_id)
    return [
        _Text(_digest(sentence), _sentence_case(_EXAMPLE.sub("", sentence)), frozenset(ids))
        for sentence, ids in sorted(holders.items())
        if len(ids) <= MAX_GOLD and not ids & blocked
    ]


def _symptom_texts(operations: Iterable[aws.Operation], blocked: set[str]) -> list[_Text]:
    """Error texts that belong to few operations: the nearest thing to a vague query that the SDK holds."""
    gold: dict[str, set[str]] = defaultdict(set)
    for operation in operations:
        for error in operation.errors:
            text = _sentence_case(_ERROR_LEAD.sub("", " ".join(sentences(error)[:2])))
            if _MIN_WORDS <= len(text.split()) <= _MAX_WORDS:
                gold[text].add(operation.tool.tool_id)
    return [_Text(_digest(t), t, frozenset(ids)) for t, ids in sorted(gold.items()) if len(ids) <= MAX_GOLD and not ids & blocked]


def _training_query(kind: QueryKind, text: _Text) -> Query:
    query_id = f"{kind}-{text.key}"
    return Query(query_id, text.text, kind, "train", dict.fromkeys(sorted(text.gold), 1), tier=kind, need=query_id)


def _without_near_copies(queries: Sequence[Query]) -> list[Query]:
    """Drops each query that is a near-copy of one in a split above its own (test, then dev, then train).

    Vague queries never fall: they were checked against each other when they were written, and their splits are fixed.
    """
    stems = {q.query_id: content_stems(q.text) for q in queries}
    index = NearCopies(stem_frequency(stems.values()))
    kept: list[Query] = []
    for split in ("test", "dev", "train"):
        level = [q for q in queries if q.split == split]
        fixed = [q for q in level if q.kind == "vague"]
        free = [q for q in level if q.kind != "vague" and not index.matches(stems[q.query_id])]
        if split != "train":
            for query in [*fixed, *free]:
                index.add(stems[query.query_id])
        kept += [*fixed, *free]
    ids = {q.query_id for q in kept}
    return [q for q in queries if q.query_id in ids]


def seen_only(queries: Sequence[Query]) -> list[Query]:
    """Without the dev and test queries called seen whose operations no labelled training query touches, or none any more."""
    touched = {t for q in queries if q.split == "train" and q.kind in LABELLED_KINDS for t in q.gold}
    return [q for q in queries if q.split == "train" or q.novelty != "seen" or touched & q.gold.keys()]


def _is_usable(sentence: str) -> bool:
    return _MIN_WORDS <= len(sentence.split()) <= _MAX_WORDS and not _POINTER.search(sentence)


def _without_sentences(tool: Tool, taken: Iterable[str]) -> Tool:
    description = tool.description
    for sentence in taken:
        description = description.replace(sentence, "")
    if description == tool.description:
        return tool
    lines = (" ".join(line.split()) for line in description.split("\n"))
    return replace(tool, description="\n".join(line for line in lines if line))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
