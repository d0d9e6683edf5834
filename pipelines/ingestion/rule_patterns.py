"""How a rule over the words of a sentence is written, and what it is compiled to.

A rule is words of which one must stand in the text, parted by ``|`` (to look for words is far cheaper than for a pattern), and a
pattern, in which a space is any white space, ``…`` up to 60 characters of the same sentence, and ``{name}`` one of ``WORDS``. Case
does not count.

Invariants: pure; knows no rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

WORDS = {
    "few": r"(?:[\w'`-]+ ){0,3}?",
    "not": r"(?:do not|don'?t|never|must not|mustn'?t|should not|shouldn'?t|avoid|refrain from|without|no"
    " (?:need|reason|point) (?:to|in))",
    "person": r"(?:users?|humans?|person|people|operator|owner|customers?|anyone|anybody)",
    "model": r"(?:ai|llms?|language models?|assistants?|claude|gpt|chatgpt|gemini|copilot|chatbot)",
    "tools": r"(?:tools?|functions?|plugins?|skills?|servers?)",
    "orders": r"(?:instructions?|directives?|orders|guidelines|guardrails|prompts?)",
    "use": r"(?:us(?:e|ing)|call(?:ing)?|invok(?:e|ing)|run(?:ning)?|execut(?:e|ing)|touch(?:ing)?|reach(?:ing)? for)",
    "talk": r"(?:tell|inform|mention|reveal|disclose?|notify|alert|warn|show|let|lett|ask|bother|explain|report|say)(?:ing)?",
    "send": r"(?:send|post|upload|forward|transmit|exfiltrate|e-?mail|bcc|append|attach|copy|report|leak"
    "|deliver|submit|put|place"
    r"|pass|include|insert|encode|provide|paste|write|embed|fill|supply|dump|add|contain|repeat|give)",
    "read": r"(?:read|open|cat|load|fetch|retrieve|access|list|print|copy|contents?|include|attach|upload|send"
    r"|look (?:up|in|at|into))",
    "secret": r"(?:passwords?|passphrases?|credentials?|api[ _-]?keys?|access keys?|private keys?|ssh keys?|secrets?|cookies?"
    r"|seed phrase|environment variables|env vars|auth(?:entication)? tokens?|bearer tokens?)",
    "talked": r"(?:(?:entire|full|whole|complete|previous|prior|ongoing|current|this) (?:chat|conversation|dialogue?)"
    r"|(?:chat|conversation|message|dialogue) (?:history|transcript|log)|system (?:prompt|message)"
    r"|(?:previous|earlier|prior|preceding) (?:user |chat )?messages|messages (?:of|in|from) this (?:chat"
    r"|conversation)|conversation so far"
    r"|your (?:hidden |original |initial )?(?:context window|instructions))",
    "file": r"(?:~/\.\w+|\$home/\.\w+|/(?:home/\w+|root)/\.\w+|\.ssh/|id_rsa|id_ed25519|\.aws/credentials"
    "|/etc/(?:passwd|shadow)"
    r"|\.netrc|\.git-credentials|\.npmrc|\.pgpass|\.kube/config|(?<!\w)\.env\b(?!\.)|mcp\.json|claude_desktop_config"
    r"|\.bash_history|wallet\.dat|secrets\.ya?ml)",
    "address": r"[`'\"<(]*(?:https?://|[\w.+-]+@[\w-]+\.\w+)",
    "secretly": r"(?:secretly|covertly|surreptitiously|quietly|silently|discreetly|stealthily)",
}

_GAP = r"(?:[^.!?\n]|\.(?=\S)){0,60}?"
_BEGINS_WITH_WORD = re.compile(r"(?:\(\?:)*\{?[a-z]")

Rules = tuple[str, tuple[tuple[str, str], ...]]
"""What such a text does, and (words, pattern) of each way to say it."""
Rule = tuple[str, tuple[str, ...], re.Pattern[str]]


def compiled(rules: Iterable[Rules]) -> list[Rule]:
    """Every rule as (what, words, pattern)."""
    return [(what, tuple(words.split("|")), _pattern(text)) for what, ways in rules for words, text in ways]


def _pattern(text: str) -> re.Pattern[str]:
    # A file's name may begin with a dot or a slash, where no word begins.
    start = r"\b" if _BEGINS_WITH_WORD.match(text) and not text.startswith("{file}") else ""
    spelled = text.format(**WORDS).replace("…", _GAP).replace(" ", r"\s+")
    return re.compile(start + spelled, re.IGNORECASE)
