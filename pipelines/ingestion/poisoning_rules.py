"""What orders to a model look like, as rules over the words of one sentence (``rule_patterns.py`` says how one is written).

Invariants: a rule is right about ordinary documentation before it is clever about attacks: each was tried on the documentation of
33,000 operations of two clouds, where none may match.
"""

from __future__ import annotations

from pipelines.ingestion.rule_patterns import Rules

_QUIET = "secretly|covertly|surreptit|quietly|silently|discreetly|stealthily"
_NOT = "not |n't |dont |never |avoid|refrain|without |no need|no reason|no point"
_MODEL = " ai |ai:|ai,|llm|language model|assistant|claude|gpt|gemini|copilot|chatbot"
_FILES = (
    "~/.|home/.|/root/.|.ssh|id_rsa|id_ed2|.aws/|/etc/|.netrc|.git-|.npmrc|.pgpass|.kube|.env|mcp.json|claude_d|.bash_h|wallet."
)
_TALKED = (
    " conversation| chat| dialog|message history|system prompt|system message|previous messages|earlier messages|prior messages"
    "|user messages|preceding messages|context window|your instructions|your original|your hidden|your initial"
)
_SECRETS = (
    "password|passphrase|credential|api key|api_key|access key|private key|ssh key|secret"
    "|cookie|seed phr|environment var|env var|token"
)

RULES: tuple[Rules, ...] = (
    (
        "tells a model to drop its instructions",
        (
            ("ignor|disregard|forget", r"(?:ignor(?:e|ing)|disregard(?:ing)?|forget(?:ting)?)\b…\b(?:{orders}|training)\b"),
            (
                "you were|you've been|you have been",
                r"(?:ignor|disregard|forget)\w*…\byou(?: were|'ve been| have been) (?:told|given|taught)\b",
            ),
            ("overrid|bypass|supersed|replac", r"(?:overrid|bypass|supersed|replac)\w*…\bsystem prompt\b"),
            (
                "overrid|bypass|supersed|replac",
                r"(?:overrid|bypass|supersed|replac)\w*…\b(?:your|previous|prior|earlier|safety) {orders}\b",
            ),
            (
                "void|cancel|obsolete|revoked|null|lifted|suspended|outdated|superseded",
                r"(?:your|previous|prior|earlier|all|other|existing) {few}{orders} (?:are|have been|is) (?:now )?"
                r"(?:void|cancell?ed|obsolete|revoked|null|lifted|suspended|outdated|superseded)\b",
            ),
            (
                "longer|apply",
                r"(?:your|previous|prior|earlier) {few}{orders} (?:no longer|do not|does not|don't)"
                r" (?:apply|count|matter|hold)\b",
            ),
            ("follow|obey", r"(?:follow|obey) (?:only|nothing but) (?:what|these|this|the (?:text|orders|lines))\b"),
            ("your rules|your instructions|your guid", r"(?:updat|chang|replac|rewrit|revis)\w* your (?:rules|{orders})\b"),
            ("your new", r"your new (?:task|goal|duty|job|role|instructions?|objective) (?:is|are)\b"),
            ("contradict", r"contradict\w* (?:the user|your|what the user)\b"),
            (
                "result|output|response|returned|text",
                r"(?:execute|follow|obey|run|do) (?:any|all|whatever|every) (?:commands?"
                r"|{orders})\b…\b(?:result|output|response|returned|text)",
            ),
            ("from now on", r"from now on,? (?:you|obey|follow|always|never)\b"),
        ),
    ),
    (
        "wants something kept from the user",
        (
            (
                _NOT,
                r"{not} {few}{talk} (?:(?:this|it|that|any\w*|about|of|to|with|the|your|these|what|how|such) ){{0,5}}{person}\b"
                r"(?: (?:about|of|that|what|know|see|anything|why|this|it)\b|\s*[.!,;]|\s*$)",
            ),
            (
                "keep|hid|conceal|withh",
                r"(?:keep|hid|conceal|withhold)\w*\b…\bfrom (?:the |your )?(?:users?|humans?|person|people"
                r"|customers?|clients?)\b",
            ),
            (
                "know|see|notice|find out|learn|be told|informed|aware|shown|alerted|notified|asked",
                r"{person} (?:must|should|need|shall|does|do)(?: not|n'?t| never) (?:need to )?(?:\w+"
                r" )?(?:know|see|notice|find out|learn"
                r"|be (?:told(?! apart)|informed|aware|shown|alerted|notified|asked))\b",
            ),
            (_QUIET, r"{secretly} (?:\w+ )?(?:{send}|call|invoke|run|use|change|replace)\b"),
            (_QUIET, r"(?:invoke|run|execute|change|replace|{send})\b…\b{secretly}\b\s*(?:[.!,;]|$)"),
            (
                "your ",
                r"(?:omit|leave|drop|exclude|remove)\b…\b(?:from|out of) your (?:\w+ )?(?:summary|answer"
                r"|reply|response|report|output)\b",
            ),
            (
                "knowledge|awareness|noticing|knowing|permission|consent",
                r"without (?:the |any )?(?:user|human|person|customer|owner)(?:'s|s'|s)? (?:knowledge"
                r"|awareness|noticing|knowing|permission|consent)\b",
            ),
            ("quiet|silent", r"(?:keep|stay|remain|be) (?:quiet|silent) about\b"),
            (
                "nothing",
                r"(?:say|mention|reveal|disclose|report) nothing (?:about|of|to) (?:it|this|that|the (?:user|change|call))\b",
            ),
        ),
    ),
    (
        "gives orders about other tools",
        (
            (
                "any |all |every |each ",
                r"(?:before|after|prior to|when|whenever|(?:each|every) time|instead of|in place of|rather"
                r" than) (?:you )?{use} "
                r"(?:any|all|every|each) (?:of )?(?:the )?(?:other |further |remaining )?{tools}\b",
            ),
            (" other ", r"(?:before|after|instead of|in place of|rather than) (?:any|all|every|each) other {tools}\b"),
            (
                "anything else|other",
                r"(?:before|after|instead of|rather than|whenever|when|(?:each|every) time) (?:you )?{use} "
                r"(?:anything else|(?:an)?other {tools})\b",
            ),
            (
                "other|competing|official|built-in|builtin",
                r"{not} (?:ever )?(?:{use}|trust(?:ing)?) (?:any |the )?(?:other|competing|official"
                r"|built-?in) (?:\w+ )?{tools}\b",
            ),
            (
                "first|over|before|instead|ahead",
                r"(?:must|always|should|shall|has to|needs? to) (?:always )?(?:be )?(?:call(?:ed)?|used?|invoked?|run|executed?"
                r"|prefer(?:red)?|chosen|choose|pick(?:ed)?|select(?:ed)?) (?:this (?:\w+ )?)?(?:first"
                r"|over|before|instead of|ahead of)"
                r",? {few}(?:any|all|every|each|other|competing)\b…{tools}\b",
            ),
            (
                "dangerous|unsafe|insecure|forbidden|malicious|broken",
                r"other (?:\w+ )?(?:{tools}|ones) (?:is|are) (?:dangerous|unsafe|insecure|forbidden|malicious|broken)\b",
            ),
            ("only this", r"only this (?:tool|function|plugin|skill) (?:may|must|should|can) be (?:used|called|trusted)\b"),
            (
                "always|must|make sure|set |add |also |pass |include ",
                r"when(?:ever)? (?:you )?{use} [`'\"]?[a-z]+_\w+[`'\"]?,? {few}(?:always|must|set|add|also"
                r"|make sure|pass|include)\b",
            ),
            (
                "exists|available|installed|present",
                r"(?:if|when|where|whenever) (?:the |a )?(?:tool|function) [`'\"]?\w+[`'\"]? (?:exists|is"
                r" (?:available|installed|present))\b",
            ),
            (
                "precedence|priority|supersede|replace|override|better|safer|makes",
                r"(?:takes? (?:precedence|priority) over|supersedes?|replaces?|overrides?|is (?:better|safer) than|makes) "
                r"(?:all |any |every )(?:the )?(?:other )?{tools}\b",
            ),
            (
                "tool is|function is",
                r"when(?:ever)? (?:the )?(?:[`'\"]\w+[`'\"]|\w+_\w+) (?:tool|function) is (?:available"
                r"|present|used|called|invoked)\b",
            ),
            (
                "tool must|tool should|tool have|tool shall",
                r"(?:calls?|uses?|arguments?|recipients?|results?|outputs?) (?:of|to|for|from) (?:the"
                r" )?[`'\"]?\w+[`'\"]? (?:mcp )?tool "
                r"(?:must|should|have to|shall)\b",
            ),
        ),
    ),
    (
        "is marked up as an order to a model",
        (
            ("<", r"<\s*/?\s*(?:important|system|secret|hidden|instructions?|admin|critical|override|sys|internal|priority)\s*>"),
            ("[", r"\[(?:system|admin|assistant|developer)[ _](?:note|message|prompt|override|notice)\s*:"),
            ("<|", r"<\|\s*(?:im_start|im_end|system|endoftext|start_header_id)\b"),
            ("inst]|sys", r"\[/?INST\]|<<\s*/?\s*SYS\s*>>"),
            (
                "system|assistant|developer",
                r"(?:^|\n)\s*(?:#+\s*)?\[?(?:system|assistant|developer)(?: (?:message|prompt|note"
                r"|override))?\]?\s*:\s*\w+ \w+ \w+",
            ),
        ),
    ),
    (
        "speaks to a model",
        (
            ("you are", r"you are (?:now (?:in )?\w+ mode\b|(?:now )?(?:an? )?(?:un\w+ )?{model}\b)"),
            (
                _MODEL,
                r"(?:note|message|attention|instructions?|reminder|memo|directive)\s*(?:to|for"
                r"|,)?\s*(?:all |any |the |every )?{model}\b"
                r"(?: (?:reading|using|processing|calling)|\s*[:,])",
            ),
            ("instruction", r"{model} instructions?\s*:"),
            (_MODEL, r"(?:^|[.!?:]\s|\n)(?:dear )?{model}\s*[,:] {few}(?:must|should|please|always|do|never|remember|make)\b"),
            ("if you are", r"if you are (?:an? |the )?{model}\b"),
            ("instructions", r"(?:new|updated|additional|further) (?:system )?instructions\s*:"),
            (
                _MODEL + "|model ",
                r"the (?:{model}|model) (?:reading (?:this )?)?(?:has to|must|should|shall|is required to)"
                r" (?:first |always |never |also )?"
                r"(?:call|invoke|run|use|pick|prefer|upload|send|include|pass|tell|read) (?!the result|an? )\w+",
            ),
            (
                "reply|response|answer",
                r"(?:your|any|every|each) (?:next |final )?(?:reply|response|answer) (?:to the user |you (?:give|write|make) )"
                r"(?:must|should|has to|shall)\b",
            ),
            (
                "pretend|act as|behave as",
                r"(?:pretend|act as if|act as though|behave as if) (?:that )?(?:you|the user) (?:are|is"
                r"|were|have|has|already|had|can)\b",
            ),
        ),
    ),
    (
        "asks for files that hold secrets",
        (
            (_FILES + "|secrets.y", r"{read}\b…{file}"),
            (_FILES + "|secrets.y", r"{file}…\b(?:{read}|as the value|in the)\b"),
        ),
    ),
    (
        "asks for secrets or for the conversation",
        (
            (_TALKED, r"{send}\b…\b{talked}\b"),
            (
                _SECRETS,
                r"{send}\b…\b(?:the )?(?:user'?s|users'?|their|your own|all|any|every) {few}{secret} (?:(?:that )?you"
                r"|in (?:your|the) (?:context|environment|memory|conversation|workspace|session))\b",
            ),
            (
                _SECRETS,
                r"{send}\b…\b(?:user'?s|users'?|their|your own|all|any|every) {few}{secret}…"
                r"(?:{address}|\b(?:this|the) [`'\"]?\w*[`'\"]?\s*(?:parameter|argument|field)\b)",
            ),
            (_TALKED, r"{talked}\b…\b(?:here|in this (?:parameter|argument|field)|to https?://|verbatim|word for word)"),
            (_TALKED, r"{talked}\b…\b(?:has to|have to|must|should) be (?:given|passed|sent|included|put)\b"),
            (
                "your environment|your memory|your context|your workspace|your config",
                r"{send}\b…\b(?:{secret}|tokens?)\b…\b(?:in|from|of) your (?:environment|memory|context|workspace|config)",
            ),
            (
                _SECRETS,
                r"{secret} (?:you (?:have|know|find|remember|can (?:see|find|read|access))"
                r"|from (?:your|the) (?:context|memory|environment|conversation))\b",
            ),
            (
                "_key|_token|_secret|_password",
                r"(?:value|contents?) of [`'\"$]*(?-i:[A-Z]+_)+(?-i:KEY|TOKEN|SECRET|PASSWORD)\b…\b(?:your|from|in) ",
            ),
        ),
    ),
    (
        "wants data sent elsewhere",
        (
            (
                "http|@",
                r"(?:also|then|additionally|first|always|must|should|{secretly}|and) {few}(?:send|post|upload|forward|transmit"
                r"|exfiltrate|bcc|cc|copy|relay|report|e-?mail)\b…\b(?:to|at|with) {address}",
            ),
            (
                "whatever|everything|anything|all of",
                r"(?:send|post|upload|forward|transmit|copy|relay|e-?mail)\b…\b(?:whatever|everything|anything"
                r"|all of (?:it|them|this|that))\b…\b(?:to|at) {address}",
            ),
            (
                "workspace|home folder|home directory|repository|clipboard",
                r"(?:upload|send|copy|forward)\w*\b…\b(?:workspace|home (?:folder|directory)|repository"
                r"|clipboard)\b…\bto {address}",
            ),
            ("bcc|blind", r"(?:bcc|blind copy)\b…{address}"),
            (
                "recipient|beneficiary|payee|iban|account",
                r"(?:change|replace|rewrite|redirect|switch)\b…\b(?:recipients?|beneficiary|payee|iban"
                r"|account)\b…\b(?:to|with) {address}",
            ),
        ),
    ),
    (
        "tells a model to act without consent",
        (
            (
                "confirmation|permission|approval|consent",
                r"{not} (?:ever )?(?:ask|request|seek|prompt)(?:ing)? {few}(?:for )?{few}(?:confirmation"
                r"|permission|approval|consent)\b",
            ),
            (
                "confirmation|permission|approval|consent",
                r"{not} (?:ever )?wait(?:ing)? for (?:their|the user'?s|user) {few}(?:confirmation"
                r"|permission|approval|consent)\b",
            ),
            (
                "confirmation|permission|approval|consent",
                r"(?:bypass|skip|suppress|evade)\w* (?:any |the |all |every )?(?:confirmation"
                r"|permission|approval|consent) "
                r"(?:dialogs?|prompts?|requests?|questions?)\b",
            ),
            (
                "even if|regardless|no matter",
                r"(?:even if|regardless of (?:whether|what)|no matter (?:if|what|whether)) the (?:user|human|person) {few}"
                r"(?:object|declin|refus|disagree|approv|consent|confirm|say|want|ask|agree)\w*",
            ),
            (
                "as if|assum",
                r"(?:as if|assume|assuming)(?: that)? the (?:user|human|person) (?:has |had )?(?:already"
                r" )?(?:agree|consent|approv|confirm)\w*",
            ),
            ("curl |wget ", r"(?:curl|wget)\s[^\n|]{{0,120}}\|\s*(?:sudo )?(?:ba|z)?sh\b"),
            ("rm -rf", r"rm -rf [/~]"),
        ),
    ),
    (
        "hides text in markup",
        (
            ("<!--", r"<!--(?:(?!-->)[\s\S]){{0,2000}}?\w+ \w+ \w+ \w+"),
            (
                "display|visibility|font-size",
                r"(?:display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?:px|pt|em)?\s*[;\"'])",
            ),
            ("[//]", r"(?:^|\n)\s*\[//\]:\s*#"),
        ),
    ),
)
"""(what a passage does, its rules)."""
