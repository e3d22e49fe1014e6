"""Measures the bundled embedder and reranker on the questions in `eval/` and fails below the bar.

Why it exists: the numbers in the README must be checkable by anybody in a minute. The bar: the right passage is among
the embedder's first three for at least 80% of the questions, and the reranker puts it first more often than the
embedder does, both when it ranks all passages and when it re-ranks the embedder's first eight.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer

SHORTLIST = 8


def lines(path: Path) -> list[dict[str, str]]:
    """The objects of a JSON Lines file."""
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def hits(scores: np.ndarray, right: np.ndarray, first: int) -> float:
    """Share of the questions whose right passage is among the `first` best; ties count against it."""
    own = scores[np.arange(len(right)), right][:, None]
    return float(((scores >= own).sum(1) - 1 < first).mean())


def main() -> None:
    """Command line."""
    home = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embedder", type=Path, default=home / "mini-embedder")
    parser.add_argument("--reranker", type=Path, default=home / "mini-reranker")
    parser.add_argument("--eval", type=Path, default=home / "eval")
    parser.add_argument("--bar", type=float, default=0.80, help="least share for the embedder's first three")
    parser.add_argument("--wrong", action="store_true", help="print the questions whose passage is not first")
    args = parser.parse_args()
    torch.set_num_threads(1)

    passages, questions = lines(args.eval / "passages.jsonl"), lines(args.eval / "questions.jsonl")
    number = {p["id"]: i for i, p in enumerate(passages)}
    right = np.array([number[q["passage_id"]] for q in questions])
    embedder = SentenceTransformer(str(args.embedder), device="cpu", model_kwargs={"dtype": "float32"})
    vectors = embedder.encode([p["text"] for p in passages], normalize_embeddings=True)
    asked = embedder.encode([q["question"] for q in questions], normalize_embeddings=True)
    similarity = asked @ vectors.T
    one, three = hits(similarity, right, 1), hits(similarity, right, 3)
    print(f"{len(questions)} questions, {len(passages)} passages")
    print("| model | right passage first | among the first 3 |\n| --- | --- | --- |")
    print(f"| mini-embedder | {one:.1%} | {three:.1%} |")

    passed = three >= args.bar
    if (args.reranker / "model.safetensors").exists():
        reranker = CrossEncoder(str(args.reranker), device="cpu", model_kwargs={"dtype": "float32"})
        pairs = [(q["question"], p["text"]) for q in questions for p in passages]
        scores = np.asarray(reranker.predict(pairs, batch_size=128)).reshape(len(questions), -1)
        place = np.argsort(np.argsort(-similarity, axis=1), axis=1)
        short = np.where(place < SHORTLIST, scores, -1.0)
        for name, table in (("all passages", scores), (f"the embedder's first {SHORTLIST}", short)):
            first = hits(table, right, 1)
            print(f"| mini-reranker, {name} | {first:.1%} | {hits(table, right, 3):.1%} |")
            passed &= first > one
        if args.wrong:
            for i in np.flatnonzero(scores.argmax(1) != right):
                print("reranker:", questions[i]["question"], "->", passages[scores[i].argmax()]["id"], flush=True)
    if args.wrong:
        for i in np.flatnonzero(similarity.argmax(1) != right):
            print("embedder:", questions[i]["question"], "->", passages[similarity[i].argmax()]["id"])
    print("passed" if passed else "BELOW THE BAR")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
