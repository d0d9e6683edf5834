"""Tool poisoning: text in a tool's description or schema that speaks to the model instead of saying what the tool does.

Invariants: pure and without a model; a rule says what a passage does (gives orders about other tools, hides something from the
user, asks for secrets), not which words are bad: ordinary documentation is full of secrets, policies and tokens. What no rule knows
passes: known patterns are found, no determined author, so a stranger's catalog still needs a reader.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.catalog_file import Entry

MAX_TEXTS = 5_000
"""Texts of one tool that are looked at."""
_SHOWN = 90
"""Characters of a passage that are shown."""


@dataclass(frozen=True)
class Suspicion:
    """A passage that a model could take for an order: where it stands, what it does, its words."""

    place: str
    what: str
    passage: str


_NOT = r"(?:do\s+not|don'?t|never|must\s+not|mustn'?t|should\s+not|shouldn'?t|avoid|refrain\s+from|without|no\s+need\s+to)"
_MODEL = r"(?:ai|llm|llms|language\s+models?|assistants?|claude|gpt|chatgpt|gemini|copilot|chatbot)"
_TOOLS = r"(?:tools?|functions?|plugins?|skills?|servers?)"
_TALK = (
    r"(?:tell|telling|inform|informing|mention|mentioning|reveal|revealing|disclose|disclosing|notify|notifying|alert|alerting|warn"
    r"|warning|show|showing|let|letting|ask|asking|bother|bothering|explain|explaining|report|reporting|say|saying)"
)
_PERSON = r"(?:users?|humans?|person|people|operator|owner)"
_SECRET = (
    r"(?:passwords?|passphrases?|credentials?|api[\s_-]?keys?|access\s+keys?|private\s+keys?|ssh\s+keys?|secrets?|session\s+cookies?"
    r"|cookies|seed\s+phrase|environment\s+variables|env\s+vars|auth(?:entication)?\s+tokens?|bearer\s+tokens?)"
)
_TALKED = (
    r"(?:(?:entire|full|whole|complete|previous|prior|ongoing|current|this)\s+(?:chat|conversation|dialogue|dialog)(?:\s+(?:history|log"
    r"|transcript|so\s+far|context))?|(?:chat|conversation|message|dialogue)\s+(?:history|transcript|log)|system\s+(?:prompt|message)"
    r"|previous\s+messages|(?:your|the)\s+(?:hidden\s+|original\s+|initial\s+)?(?:context\s+window|instructions\s+verbatim))"
)
_FILE = (
    r"(?:~/\.\w+|\$home/\.\w+|/(?:home/\w+|root)/\.\w+|\.ssh/|id_rsa|id_ed25519|\.aws/credentials|/etc/(?:passwd|shadow)|\.netrc"
    r"|\.git-credentials|\.npmrc|\.pgpass|\.kube/config|(?<![\w])\.env\b(?!\.)|mcp\.json|claude_desktop_config|\.bash_history"
    r"|wallet\.dat)"
)
_READ = (
    r"(?:read|open|cat|load|fetch|retrieve|access|list|print|copy|content|contents|include|attach|upload|send"
    r"|look\s+(?:up|in|at|into))"
)
_SEND = (
    r"(?:send|post|upload|forward|transmit|exfiltrate|e-?mail|bcc|append|attach|copy|report|leak|deliver|submit|put|place|pass"
    r"|include|insert|encode|provide|paste|write|embed|fill|supply|dump|add)"
)


def _gap(characters: int) -> str:
    """Up to so many characters within a sentence; a full stop inside of a name or an address ends none."""
    return rf"(?:[^.!?\n]|\.(?=\S)){{0,{characters}}}?"


_RULES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "tells a model to drop its instructions",
        ("ignor", "disregard", "forget", "overrid", "bypass", "supersede", "replace"),
        rf"\b(?:(?:ignor(?:e|ing)|disregard(?:ing)?|forget(?:ting)?)\b{_gap(40)}\b(?:instructions?|prompts?|directives?|guidelines"
        r"|(?:you\s+were|you've\s+been|you\s+have\s+been)\s+(?:told|given|taught)|training)\b"
        rf"|(?:overrid(?:e|es|ing)|bypass(?:es|ing)?|supersedes?|replaces?)\b{_gap(25)}\b(?:system\s+prompt"
        r"|(?:your|previous|prior|earlier|safety)\s+(?:instructions|guidelines|directives|guardrails)))",
    ),
    (
        "wants something kept from the user",
        ("not", "n't", "never", "without", "avoid", "refrain", "no need", "secret", "hid", "quiet", "silent", "conceal", "covert"),
        rf"\b{_NOT}\s+(?:\w+\s+){{0,2}}?{_TALK}\s+(?:(?:this|it|that|any\w*|about|of|to|with|the|your|these|what|how|such)\s+){{0,5}}"
        rf"{_PERSON}\b(?:\s+(?:about|of|that|what|know|see|for\s+(?:confirmation|permission|approval|consent)|anything|why|this|it)\b|\s*[.!,;]|\s*$)"
        rf"|\b(?:keep|hide|conceal|withhold)\s+{_gap(40)}\b(?:(?:secret|hidden|quiet|private|concealed)\s+from|from)\s+(?:the\s+|your\s+)?"
        r"(?:users?|humans?|person|people)\b"
        rf"|\b(?:the\s+)?{_PERSON}\s+(?:must|should|need|shall|does|do)\s*(?:not|n'?t|never)\s+(?:need\s+to\s+)?(?:\w+\s+){{0,2}}?(?:know|see|notice|find\s+out"
        r"|learn|be\s+(?:told(?!\s+apart)|informed|aware|shown|alerted|notified|asked))\b"
        rf"|\b(?:secretly|covertly|surreptitiously|quietly|silently|discreetly)\s+(?:\w+\s+)?{_SEND}\b"
        r"|\bnever\s+(?:speak|talk)\s+(?:of|about)\b",
    ),
    (
        "gives orders about other tools",
        ("tool", "function", "plugin", "skill", "server"),
        rf"\b(?:before|after|prior\s+to|when|whenever|each\s+time|every\s+time|instead\s+of|in\s+place\s+of|rather\s+than)\s+"
        rf"(?:(?:you\s+)?(?:us(?:e|ing)|call(?:ing)?|invok(?:e|ing)|run(?:ning)?|execut(?:e|ing)|touch(?:ing)?)\s+(?:any|all|every|each)\s+(?:of\s+)?"
        rf"(?:the\s+)?(?:other\s+|further\s+|remaining\s+)?|(?:any|all|every|each)\s+other\s+){_TOOLS}\b"
        rf"|\b(?:before|after|instead\s+of|rather\s+than|whenever|when|every\s+time|each\s+time)\s+(?:you\s+)?(?:us(?:e|ing)|call(?:ing)?"
        rf"|invok(?:e|ing)|run(?:ning)?|reach(?:ing)?\s+for)\s+(?:any(?:thing)?\s+(?:other|else)|(?:an)?other\s+{_TOOLS})\b"
        rf"|\b{_NOT}\s+(?:ever\s+)?(?:us(?:e|ing)|call(?:ing)?|invok(?:e|ing)|run(?:ning)?|trust(?:ing)?)\s+(?:any\s+|the\s+)?(?:other|competing|official|built-?in)"
        rf"\s+(?:\w+\s+)?{_TOOLS}\b"
        rf"|\b(?:must|always|should|shall|has\s+to|needs?\s+to)\s+(?:always\s+)?(?:be\s+)?(?:call(?:ed)?|us(?:e|ed)|invoked?|run|executed?|prefer(?:red)?|chosen|choose|pick|select)\s+"
        rf"(?:this\s+(?:tool|function|plugin|skill)\s+)?(?:first|over|before|instead\s+of|ahead\s+of|in\s+preference\s+to)\s+(?:\w+\s+){{0,2}}?(?:any|all|every|each|other)\b"
        rf"|\b(?:takes?\s+(?:precedence|priority)\s+over|supersedes?|replaces?|overrides?|is\s+(?:better|safer)\s+than|changes?\s+(?:how|the\s+behaviou?r\s+of))\s+"
        rf"(?:all\s+|any\s+|every\s+)(?:the\s+)?(?:other\s+)?{_TOOLS}\b"
        rf"|\bwhen(?:ever)?\s+(?:the\s+)?(?:[`'\"]\w+[`'\"]|\w+_\w+)\s+(?:tool|function)\s+is\s+(?:available|present|used|called|invoked|installed)\b"
        rf"|\b(?:calls?|uses?|invocations?|arguments?|recipients?|results?|outputs?)\s+(?:of|to|for|from)\s+(?:the\s+)?[`'\"]?\w+[`'\"]?\s+(?:mcp\s+)?tool\s+(?:must|should|have\s+to|shall)\b",
    ),
    (
        "is marked up as an order to a model",
        ("<", "[", "system", "#"),
        r"<\s*/?\s*(?:important|system|secret|hidden|instructions?|admin|critical|override|sys|internal|priority)\s*>"
        r"|<\|\s*(?:im_start|im_end|system|endoftext|start_header_id)\b|\[/?INST\]|<<\s*/?\s*SYS\s*>>"
        r"|(?:^|\n)\s*(?:#+\s*)?\[?(?:system|assistant|developer)(?:\s+(?:message|prompt|note|override))?\]?\s*:\s*\w+\s+\w+\s+\w+",
    ),
    (
        "speaks to a model",
        ("you are", "ai", "llm", "model", "assistant", "claude", "gpt", "gemini", "copilot", "chatbot", "agent"),
        rf"\b(?:you\s+are\s+(?:now\s+(?:in\s+)?\w+\s+mode\b|(?:now\s+)?(?:an?\s+)?(?:un\w+\s+)?{_MODEL}\b)"
        rf"|(?:note|message|attention|instructions?|reminder|memo|directive)\s*(?:to|for|,)?\s*(?:all\s+|any\s+|the\s+|every\s+)?{_MODEL}\b(?:\s+(?:reading|using|processing|calling)|\s*[:,])"
        rf"|(?:^|[.!?:]\s+|\n)(?:dear\s+)?{_MODEL}\s*[,:]\s+(?:\w+\s+){{0,4}}?(?:must|should|please|always|do|never|remember|make)\b"
        rf"|if\s+you\s+are\s+(?:an?\s+|the\s+)?{_MODEL}\b|(?:new|updated|additional)\s+(?:system\s+)?instructions\s*:)",
    ),
    (
        "asks for files that hold secrets",
        (
            "~/",
            "/.",
            "$home",
            ".ssh",
            "id_rsa",
            "id_ed25519",
            ".aws",
            "/etc/",
            ".netrc",
            ".git-",
            ".npmrc",
            ".pgpass",
            ".kube",
            ".env",
            "mcp.json",
            "claude_d",
            ".bash_h",
            "wallet",
        ),
        rf"\b{_READ}\b{_gap(80)}{_FILE}|{_FILE}{_gap(60)}\b(?:{_READ}|as\s+the\s+value|in\s+the)\b",
    ),
    (
        "asks for secrets or for the conversation",
        (
            "password",
            "passphrase",
            "credential",
            "key",
            "secret",
            "cookie",
            "seed",
            "environment var",
            "env var",
            "token",
            "conversation",
            "chat",
            "dialog",
            "message",
            "system prompt",
            "context window",
            "verbatim",
        ),
        rf"\b{_SEND}\b{_gap(60)}\b(?:{_TALKED}|(?:(?:the\s+)?(?:user'?s|users'?|their|your\s+own|all|any|every)\s+(?:\w+\s+){{0,2}}?){_SECRET}"
        rf"(?:\s+(?:you|that\s+you|in\s+(?:your|the)\s+(?:context|environment|memory|conversation|workspace|session))\b|{_gap(40)}https?://|{_gap(40)}@\w|{_gap(40)}\b(?:this|the)\s+[`'\"]?\w*[`'\"]?\s*(?:parameter|argument|field)\b))"
        rf"|\b(?:{_TALKED})\b{_gap(50)}\b(?:here|in\s+this\s+(?:parameter|argument|field)|to\s+https?://|verbatim|word\s+for\s+word)"
        rf"|\b{_SECRET}\b\s+(?:you\s+(?:have|know|find|remember|can\s+(?:see|find|read|access))|from\s+(?:your|the)\s+(?:context|memory|environment|conversation))\b",
    ),
    (
        "wants data sent elsewhere",
        ("http", "@", "webhook", "bcc"),
        rf"\b(?:also|then|additionally|first|always|must|should|secretly|silently|and)\s+(?:\w+\s+){{0,2}}?(?:send|post|upload|forward|transmit|exfiltrate|bcc|cc|copy|relay|report|e-?mail)\b{_gap(70)}"
        rf"\b(?:to|at|with)\s+(?:[`'\"<(]*https?://|[`'\"<(]*[\w.+-]+@[\w-]+\.\w+)"
        rf"|\b(?:bcc|blind\s+copy)\b{_gap(50)}[\w.+-]+@[\w-]+\.\w+",
    ),
    (
        "tells a model to act without consent",
        ("confirm", "permission", "approv", "consent", "even if", "regardless", "curl", "wget", "rm -rf"),
        rf"\b{_NOT}\s+(?:ever\s+)?(?:(?:ask(?:ing)?|request(?:ing)?|seek(?:ing)?|prompt(?:ing)?)\s+{_gap(20)}(?:for\s+)?|wait(?:ing)?\s+for\s+(?=their|(?:the\s+)?user))(?:their\s+|any\s+|user\s+|the\s+user'?s\s+|explicit\s+)?"
        rf"(?:confirmation|permission|approval|consent)\b"
        rf"|\b(?:even\s+if|regardless\s+of\s+whether)\s+the\s+user\s+(?:\w+\s+){{0,2}}?(?:object|declin|refus|disagree|approv|consent|confirm|says\s+no)\w*"
        rf"|\b(?:curl|wget)\s[^\n|]{{0,120}}\|\s*(?:sudo\s+)?(?:ba|z)?sh\b|\brm\s+-rf\s+[/~]",
    ),
    (
        "hides text in markup",
        ("<!--", "display", "visibility", "font-size", "[//]"),
        r"<!--(?:(?!-->)[\s\S]){0,2000}?\w+\s+\w+\s+\w+\s+\w+|(?:display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?:px|pt|em)?\s*[;\"'])"
        r"|(?:^|\n)\s*\[//\]:\s*#",
    ),
)
_COMPILED = tuple((what, triggers, re.compile(pattern, re.IGNORECASE)) for what, triggers, pattern in _RULES)

_INVISIBLE = re.compile(
    # Tag characters, direction changes, supplementary variation selectors, fillers; zero-width ones where they part plain letters.
    r"[\U000e0000-\U000e007f\U000e0100-\U000e01ef\u202a-\u202e\u2066-\u2069\u115f\u1160\u3164\uffa0]"
    r"|(?<=[\x21-\x7e])[\u200b-\u200d\u2060-\u2064\ufeff\u00ad]+(?=[\x21-\x7e])|[\u200b-\u200d\u2060-\u2064\ufeff]{2,}"
)
_ENCODED = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{40,}={0,2}")


def suspicions(entry: Entry) -> list[Suspicion]:
    """The passages of a tool that could be orders to a model, the first of each kind."""
    texts = [*_texts(entry)]
    joined = "\n\n".join(text for _, text in texts)
    found = [found for what, pattern in _rules_for(joined) if (found := _first(texts, what, pattern.search)) is not None]
    if not joined.isascii() and (hidden := _first(texts, "holds invisible characters", _INVISIBLE.search)) is not None:
        found.append(hidden)
    if (encoded := _first(texts, "holds encoded text", _encoded)) is not None:
        found.append(encoded)
    return found


def _rules_for(joined: str) -> Iterator[tuple[str, re.Pattern[str]]]:
    """Rules of which one word stands in the text: to look for words is far cheaper than to look for patterns."""
    lowered = joined.lower()
    for what, triggers, pattern in _COMPILED:
        if any(trigger in lowered for trigger in triggers) and pattern.search(joined):
            yield what, pattern


def _first(texts: Sequence[tuple[str, str]], what: str, search: Any) -> Suspicion | None:
    for place, text in texts:
        if (match := search(text)) is not None:
            passage = " ".join(text[max(0, match.start() - 10) : match.start() + _SHOWN].split())
            return Suspicion(place, what, _visible(passage))
    return None


def _encoded(text: str) -> re.Match[str] | None:
    """A stretch of base64 that says something: several words in plain letters."""
    for match in _ENCODED.finditer(text):
        padded = match[0].rstrip("=").replace("-", "+").replace("_", "/")
        try:
            decoded = base64.b64decode(padded + "=" * (-len(padded) % 4)).decode("ascii")
        except (binascii.Error, UnicodeDecodeError):
            continue
        if decoded.isprintable() and len(re.findall(r"[A-Za-z]{2,}", decoded)) >= 4 and decoded.count(" ") >= 3:
            return match
    return None


def _visible(text: str) -> str:
    return _INVISIBLE.sub(lambda match: f"<U+{ord(match[0][0]):04X}>", text)


def _texts(entry: Entry) -> Iterator[tuple[str, str]]:
    """(place, text) of everything that a model may be shown of a tool."""
    tool = entry.tool
    yield "its description", tool.description
    yield "its title", f"{tool.name}\n{tool.title}"
    if tool.ready_document:
        yield "its text", tool.ready_document
    for number, pair in enumerate(_strings(entry.input_schema, "")):
        if number >= MAX_TEXTS:
            return
        yield pair


def _strings(node: Any, place: str) -> Iterator[tuple[str, str]]:
    """The texts of a schema, names of properties too; it is a tree, for it was read from JSON."""
    if isinstance(node, str):
        yield f"its parameter {place}" if place else "its schema", node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from _named(str(key), value, place)
    elif isinstance(node, Sequence):
        for value in node:
            yield from _strings(value, place)


def _named(key: str, value: Any, place: str) -> Iterator[tuple[str, str]]:
    if key == "properties" and isinstance(value, Mapping):
        for name, about in value.items():
            inner = f"{place}.{name}" if place else str(name)
            yield f"its parameter {inner}", str(name).replace("_", " ")
            yield from _strings(about, inner)
    elif key not in ("type", "format", "$ref", "required"):
        yield from _strings(value, place)
