"""Chooses the passages to learn from and writes questions for them.

Why it exists: embedder, reranker and generator learn from the same set of short passages and questions, so it is made
once. The output is one JSON object per line: `text`, `kind` (`passage`, `question` or `words`) and, for a question,
the line number of its `passage`. Everything is drawn from the corpus with a fixed seed; `eval/` is never read.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from pathlib import Path

from questions import ask, keywords, sentences

# How often a source is drawn, relative to its size: text about everyday and general things counts for more.
WEIGHT = {"package descriptions": 1.3, "openjdk-17-jre-headless": 0.25, "python docstrings": 0.6, "manual pages": 0.6}
WEIGHT |= {"linux-doc-6.1": 0.7, "debian-handbook": 3.0, "HTML": 3.0, "help": 3.0, "gimp": 2.0}
WEIGHT |= {"python-celery-doc": 2.0}
WEIGHT |= {"ganeti": 2.0, "swift-doc": 2.0, "nova-doc": 1.5, "pacemaker": 2.0, "python-sklearn-doc": 2.0, "std": 0.6}


def cut(text: str, rng: random.Random) -> str | None:
    """One to three consecutive sentences of a paragraph, 40 to 320 characters."""
    parts = sentences(text)
    size = rng.choice((1, 1, 2, 2, 2, 3))
    start = rng.randrange(max(1, len(parts) - size + 1))
    passage = " ".join(parts[start : start + size])
    if len(passage) > 320:
        passage = parts[start]
    return passage if 40 <= len(passage) <= 320 else None


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--vocabulary", type=Path, required=True, help="the teacher's vocab.txt, for word lists")
    parser.add_argument("--passages", type=int, default=150_000)
    parser.add_argument("--words", type=int, default=40_000, help="random word lists, so that every word is taught")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=17)
    args = parser.parse_args()
    rng = random.Random(args.seed)

    rows = [json.loads(line) for line in args.corpus.open(encoding="utf-8")]
    keyed = [(rng.random() ** (1.0 / WEIGHT.get(r["source"], 1.0)), i) for i, r in enumerate(rows)]
    keyed.sort(reverse=True)
    out: list[dict[str, str | int]] = []
    seen: set[str] = set()
    passages: list[int] = []
    for _, i in keyed:
        if len(passages) == args.passages:
            break
        passage = cut(rows[i]["text"], rng)
        if passage is None or passage in seen:
            continue
        seen.add(passage)
        number = len(out)
        passages.append(number)
        out.append({"text": passage, "kind": "passage"})
        parts = sentences(passage)
        asked: list[str | None] = [ask(rng.choice(parts), rng), ask(rng.choice(parts), rng)]
        kind = rng.random()
        heading = rows[i]["heading"]
        if kind < 0.15:
            asked[1] = keywords(passage, rng)
        elif kind < 0.35 and 1 < len(heading.split()) < 10 and heading.isascii():
            asked[1] = heading
        elif kind < 0.50 and len(parts) > 1:
            asked[1] = parts.pop(rng.randrange(len(parts)))
            out[number]["text"] = " ".join(parts)
        for question in asked:
            if question and len(question) > 6:
                out.append({"text": question[:160], "kind": "question", "passage": number})
    listed = args.vocabulary.read_text(encoding="utf-8").split("\n")
    whole = [w for w in listed if w.isascii() and w.isalpha() and len(w) > 2]
    for _ in range(args.words):
        # The vocabulary is sorted by frequency: the square favours common words.
        picked = [whole[int(len(whole) * rng.random() ** 1.5)] for _ in range(rng.randint(1, 6))]
        out.append({"text": " ".join(picked), "kind": "words"})
    with args.out.open("w", encoding="utf-8") as file:
        for row in out:
            file.write(json.dumps(row) + "\n")
    print(dict(Counter(row["kind"] for row in out)))


if __name__ == "__main__":
    main()
