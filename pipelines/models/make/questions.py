"""Turns sentences of documentation into questions a person might ask about them.

Why it exists: the models must know what questions look like, and no collection of questions is used. The rules are
shallow on purpose (a sentence's opening tells which question fits); the words are then thinned and swapped for near
synonyms, so that a question does not simply repeat its passage.
"""

from __future__ import annotations

import random
import re

STOP = frozenset(
    "the a an of to is are was were be been in and or for that this these those it its with as on by at from can could"
    " will would may might must should if not no when which who what where how why do does did has have had you your i"
    " we our they their them then than so but also any all each one such more most other only into about up out there"
    " here very just same own over under between through during before after while because however e g ie etc".split()
)
CONTENT = re.compile(r"[A-Za-z][A-Za-z0-9+\-']*")

SYNONYMS_TEXT = """
remove delete erase|start launch begin run|stop halt end|show display print|change modify alter|make create build
get obtain fetch|use employ|find locate discover|fix repair mend|fast quick rapid|slow sluggish|big large huge
small little tiny|error failure fault|crash die|computer machine|server host|program application|allow permit let
check verify test|choose select pick|send transmit|receive get|keep retain hold|save store|picture image photo
car vehicle|buy purchase|speak talk|help assist|house home|need require|whole entire|wrong incorrect|right correct
begin start|finish complete end|file document|directory folder|user person|request call|answer reply response
copy duplicate|split divide|join combine merge|avoid prevent|happen occur|increase raise grow|decrease reduce lower
often frequently|usually normally|difficult hard|easy simple|sort order|old former|new fresh|several many multiple
""".strip()
SYNONYMS: dict[str, list[str]] = {}
for _group in SYNONYMS_TEXT.replace("\n", "|").split("|"):
    for _word in _group.split():
        SYNONYMS.setdefault(_word, []).extend(w for w in _group.split() if w != _word)


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph; abbreviations such as `e.g.` do not end one."""
    text = text.replace("e.g. ", "e.g., ").replace("i.e. ", "i.e., ")
    return [s.strip() for s in re.split(r"(?<=[a-z0-9)\"'][.!?]) +(?=[A-Z])", text) if s.strip()]


def _lower_first(text: str) -> str:
    return text if len(text) > 1 and text[1].isupper() else text[:1].lower() + text[1:]


def _clip(text: str, words: int) -> str:
    """At most `words` words, not ending in a function word or mid-list."""
    parts = re.split(r"[,;:(]", text)[0].split()[:words]
    while len(parts) > 1 and parts[-1].lower() in STOP:
        parts.pop()
    return " ".join(parts).rstrip(".,;:")


VERBS = "provides|contains|supports|implements|returns|removes|creates|holds|describes|controls|defines|handles|shows"
VERBS += "|stores|keeps|sends|reads|writes|changes|checks|converts|causes|makes|gives|allows|lets|helps|uses|needs"
RULES: list[tuple[re.Pattern[str], list[str]]] = [
    (re.compile(r"^(?:If|When|Whenever) (?P<c>[^,]{8,80}), (?:then )?(?P<m>.{8,})$"),
     ["What happens if {c}?", "What happens when {c}?", "What should I do if {c}?", "What if {c}?", "When {m}?"]),
    (re.compile(r"^(?:In order to|To) (?P<c>[a-z][^,]{6,70}), (?P<m>.{8,})$"),
     ["How do I {c}?", "How can I {c}?", "How to {c}?", "What must be done to {c}?"]),
    (re.compile(r"^(?P<n>(?:An?|The) [^,.]{3,40}?) (?:is|are) (?:used|needed|required) (?:to|for) (?P<c>.{6,})$"),
     ["What is {n} used for?", "What is used to {c}?", "Why do I need {n}?"]),
    (re.compile(r"^(?P<n>[^,.]{3,40}?) (?:is|are) (?P<c>(?:an?|the) .{6,})$"),
     ["What is {n}?", "What does {n} mean?", "What is meant by {n}?", "What do you call {c}?", "Explain {n}"]),
    (re.compile(r"^(?P<n>[^,.]{3,45}?) can be (?P<c>[a-z]+ed .{4,})$"),
     ["How can {n} be {c}?", "Can {n} be {c}?", "What can be done with {n}?"]),
    (re.compile(r"^You (?:can|may|could) (?:also )?(?P<c>[a-z].{6,})$"),
     ["How can I {c}?", "Can I {c}?", "Is it possible to {c}?", "How do you {c}?"]),
    (re.compile(r"^(?P<m>.{8,80}?),? (?:because|since|as) (?P<c>.{8,})$"),
     ["Why {m}?", "What is the reason that {m}?", "What follows when {c}?"]),
    (re.compile(r"^(?P<m>.{8,90}?),? so that (?P<c>.{8,})$"), ["How is it made sure that {c}?", "Why {m}?"]),
    (re.compile(rf"^(?P<n>(?:This|The|A|An) [^,.]{{2,35}}?) (?P<v>{VERBS}) (?P<c>.{{5,}})$"),
     ["What {v} {c}?", "What does {n} do?", "Which one {v} {c}?"]),
    (re.compile(r"^(?P<n>[A-Z][^,.]{1,30}?) (?:is|are) (?P<c>.{6,})$"),
     ["How is {n} {c}?", "Is {n} {c}?", "What is {n}?"]),
    (re.compile(r"^(?P<n>[^,.]{3,40}?) (?:must|should) (?P<c>.{6,})$"),
     ["What must {n} do?", "Should {n} {c}?", "Why should {n} {c}?", "Must {n} {c}?"]),
    (re.compile(r"^Returns? (?P<c>.{6,})$"), ["How do I get {c}?", "What returns {c}?", "What is {c}?"]),
    (re.compile(r"^(?P<c>(?:Set|Remove|Create|Add|Make|Get|Use|Check|Read|Write|Convert|Find|Open|Show|Print|Start"
                r"|Stop|Change|Delete|Copy|Move|Select|Choose|Enable|Disable|Display|Compute|Return|Apply) .{5,})$"),
     ["How do I {c}?", "How can I {c}?", "How to {c}?", "Which way is there to {c}?"]),
    (re.compile(r"^(?:By default|Normally|Usually), (?P<c>.{8,})$"),
     ["What is the default when {c}?", "What normally happens with {c}?"]),
]
OPEN = ["What is {c}?", "How does {c} work?", "Why {c}?", "What about {c}?", "Tell me about {c}", "{c}", "{c}?",
        "Where do I find {c}?", "When is {c} used?", "How many {c}?", "What is the purpose of {c}?", "Which {c}?",
        "What does {c} do?", "How can I deal with {c}?", "What happens with {c}?", "Who needs {c}?", "Explain {c}"]


def _vary(question: str, rng: random.Random) -> str:
    """Drops a content word now and then and swaps some words for near synonyms."""
    out = []
    for word in question.split():
        bare = word.lower().strip("?,.")
        if bare in SYNONYMS and rng.random() < 0.4:
            word = rng.choice(SYNONYMS[bare]) + ("?" if word.endswith("?") else "")
        elif bare not in STOP and not word.endswith("?") and rng.random() < 0.08:
            continue
        out.append(word)
    return " ".join(out)


def ask(sentence: str, rng: random.Random) -> str | None:
    """A question about one sentence, or None when nothing sensible comes out."""
    sentence = sentence.rstrip(".!: ")
    rng_rules = RULES if rng.random() < 0.75 else []
    for pattern, forms in rng_rules:
        match = pattern.match(sentence)
        if match is None:
            continue
        groups = {k: _lower_first(_clip(v, rng.randint(5, 10))) for k, v in match.groupdict().items() if v}
        if "n" in groups and groups["n"].split()[0] in {"it", "this", "they", "these", "there", "that"}:
            continue
        return _vary(rng.choice(forms).format(**groups), rng)
    words = sentence.split()
    if len(words) < 6:
        return None
    size = rng.randint(2, 6)
    starts = [i for i in range(len(words) - 1) if words[i].lower().strip(",.;") not in STOP]
    if not starts:
        return None
    start = rng.choice(starts)
    chunk = _clip(" ".join(words[start : start + size]), size)
    if len(chunk) < 4:
        return None
    return _vary(rng.choice(OPEN).format(c=_lower_first(chunk)), rng)


def keywords(text: str, rng: random.Random) -> str | None:
    """A few content words of a passage in another order, as people type into a search field."""
    words = [w for w in CONTENT.findall(text) if w.lower() not in STOP and len(w) > 2]
    if len(words) < 4:
        return None
    picked = rng.sample(words, min(len(words), rng.randint(2, 5)))
    return _vary(" ".join(w.lower() for w in picked), rng)
