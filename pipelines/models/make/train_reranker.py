"""Distils mini-reranker, a cross-encoder, from the teacher's similarities.

Why it exists: a relevance model of 3 MB that reads question and passage together. Its candidates are passages that
mini-embedder confuses, its targets the teacher's cosines (and a little extra for the passage the question was made
from), so it learns exactly what the embedder gets wrong.

A network this small does not find out by itself, in minutes, that it should compare words across the two texts. Layer 1
therefore starts as a soft matcher: the 63 main directions of the words' vectors are content, each token attends to the
tokens of the other text that resemble it, what it finds lands in the free half of the hidden vector, and the
feed-forward units start as differences between the two halves. From there on everything is learned.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from bert_files import bert_config, pad, save_tokenizer, save_weights
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from torch.nn.functional import kl_div, log_softmax, normalize, softmax
from train_embedder import Projection, word_vectors
from transformers import BertForSequenceClassification

HALF = 64
SCALE, MIDDLE = 16.0, 0.4  # target logit = SCALE * (teacher's cosine - MIDDLE)
GOLD_BONUS = 1.0


@torch.no_grad()
def start_as_matcher(model: BertForSequenceClassification, words: torch.Tensor, seed: int) -> None:
    """Sets embeddings and layer 1 as the module's text describes; `words` are unit vectors [vocabulary - 5, 128]."""
    generator = torch.Generator().manual_seed(seed)
    content = HALF - 1
    embeddings, layer = model.bert.embeddings, model.bert.encoder.layer[0]
    table = embeddings.word_embeddings.weight
    table.mul_(0.1)
    table[5:] = 0.0
    table[5:, :content] = normalize(words[:, :content], dim=-1) * 0.3
    embeddings.position_embeddings.weight.mul_(0.1)
    embeddings.token_type_embeddings.weight.zero_()
    embeddings.token_type_embeddings.weight[0, -1] = 0.15
    embeddings.token_type_embeddings.weight[1, -1] = -0.15
    attention = layer.attention
    query, key, value, output = attention.self.query, attention.self.key, attention.self.value, attention.output.dense
    for part in (query, key, value, output):
        part.weight.mul_(0.2)
    for head in range(4):
        axes = torch.linalg.qr(torch.randn(content, 31, generator=generator))[0].T
        rows = slice(32 * head, 32 * head + 31)
        query.weight[rows, :content] = axes
        key.weight[rows, :content] = axes
        query.weight[32 * head + 31, -1] = -1.0
        key.weight[32 * head + 31, -1] = 1.0
        for i in range(16):
            at = 16 * head + i
            if at < content:
                value.weight[32 * head + i, at] = 1.0
                output.weight[HALF + at, 32 * head + i] = 1.0
    axes = normalize(torch.randn(256, content, generator=generator), dim=-1)
    compare = layer.intermediate.dense.weight
    compare.mul_(0.2)
    for sign, rows in ((1.0, slice(0, 256)), (-1.0, slice(256, 512))):
        compare[rows, :content] += sign * axes
        compare[rows, HALF : HALF + content] -= sign * axes


def forward(model: BertForSequenceClassification, questions: list[list[int]], passages: list[list[int]]) -> torch.Tensor:
    """Logits of `[CLS] question [SEP] passage [SEP]`; both lists hold ids with their special tokens."""
    rows = [q + p[1:] for q, p in zip(questions, passages, strict=True)]
    kinds = pad([[0] * len(q) + [1] * (len(p) - 1) for q, p in zip(questions, passages, strict=True)])
    ids = pad(rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=ids, token_type_ids=kinds, attention_mask=(ids != 0).long()).logits
    return logits[:, 0].float()


def confusions(embedder: Path, texts: list[str], asked: np.ndarray, passages: np.ndarray, keep: int) -> np.ndarray:
    """For each question the `keep` passages nearest to it for the student embedder, as positions in `passages`."""
    model = SentenceTransformer(str(embedder), device="cpu", model_kwargs={"dtype": "float32"}).bfloat16()

    def vectors(rows: np.ndarray) -> torch.Tensor:
        found = model.encode([texts[i] for i in rows], batch_size=256, convert_to_tensor=True, show_progress_bar=False)
        return found.bfloat16()

    pool = vectors(passages).T.contiguous()
    parts = [(chunk @ pool).topk(keep, dim=1).indices for chunk in vectors(asked).split(1024)]
    return torch.cat(parts).numpy()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True, help="float16 array made by teach.py")
    parser.add_argument("--embedder", type=Path, required=True, help="folder of mini-embedder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--questions", type=int, default=60_000)
    parser.add_argument("--pool", type=int, default=60_000, help="passages among which confusions are looked for")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after so long; the rate falls accordingly")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=20, help="questions in a batch")
    parser.add_argument("--group", type=int, default=6, help="passages per question")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=17)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)

    rows = [json.loads(line) for line in args.texts.open(encoding="utf-8")]
    texts = [r["text"] for r in rows]
    teacher = np.load(args.teacher, mmap_mode="r")
    passages = rng.permutation([i for i, r in enumerate(rows) if r["kind"] == "passage"])[: args.pool]
    inside = set(passages.tolist())
    asked = np.array([i for i, r in enumerate(rows) if r["kind"] == "question" and r["passage"] in inside])
    asked = rng.permutation(asked)[: args.questions]
    gold = np.array([rows[i]["passage"] for i in asked])
    began = time.time()
    hard = passages[confusions(args.embedder, texts, asked, passages, 20)]
    print(f"{len(asked)} questions, {len(passages)} passages; confusions found in {time.time() - began:.0f} s", flush=True)

    tokenizer = Tokenizer.from_file(str(args.embedder / "tokenizer.json"))
    tokenizer.enable_truncation(96)
    q_ids = [e.ids for e in tokenizer.encode_batch([texts[i] for i in asked])]
    q_ids = [q if len(q) <= 34 else [*q[:33], q[-1]] for q in q_ids]
    p_ids = {int(i): e.ids for i, e in zip(passages, tokenizer.encode_batch([texts[i] for i in passages]), strict=True)}

    config = bert_config(tokenizer.get_vocab_size(), args.layers)
    config.num_labels = 1
    model = BertForSequenceClassification(config)
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    start_as_matcher(model, word_vectors(vocabulary[5:], Projection(teacher)), args.seed)
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=0.01, betas=(0.9, 0.98))

    began, step, log, order, cursor = time.time(), 0, [], rng.permutation(len(asked)), 0
    blocks: list[np.ndarray] = []
    while True:
        done = (time.time() - began) / (60 * args.minutes) if args.minutes else step / args.steps
        if done >= 1.0:
            break
        for group in optimiser.param_groups:
            group["lr"] = args.rate * min(1.0, (step + 1) / 200) * (0.02 + 0.98 * (1 - done))
        # Neighbours in length share a batch: sixteen batches are drawn and sorted together.
        if not blocks:
            if cursor + 16 * args.batch > len(order):
                order, cursor = rng.permutation(len(asked)), 0
            drawn = order[cursor : cursor + 16 * args.batch]
            drawn = drawn[np.argsort([len(p_ids[int(gold[i])]) for i in drawn], kind="stable")]
            cursor += 16 * args.batch
            blocks = [drawn[b * args.batch : (b + 1) * args.batch] for b in rng.permutation(16)]
        chosen = blocks.pop()
        groups = []
        for i in chosen:
            others = rng.choice(hard[i], args.group - 2, replace=False)
            groups.append([gold[i], *others, passages[rng.integers(len(passages))]])
        candidates = np.array(groups)
        with torch.no_grad():
            tq = normalize(torch.from_numpy(teacher[asked[chosen]].astype(np.float32)), dim=-1)
            tp = normalize(torch.from_numpy(teacher[candidates.ravel()].astype(np.float32)), dim=-1)
            cosines = (tp.view(len(chosen), args.group, -1) @ tq[:, :, None])[..., 0]
            target = SCALE * (cosines - MIDDLE)
            target = target + GOLD_BONUS * torch.from_numpy(candidates == gold[chosen][:, None]).float()
        logits = forward(model, [q_ids[i] for i in chosen for _ in range(args.group)],
                         [p_ids[int(p)] for p in candidates.ravel()]).view(len(chosen), args.group)
        ranks = kl_div(log_softmax(logits, dim=-1), softmax(target, dim=-1), reduction="batchmean")
        points = (logits - target).pow(2).mean()
        loss = ranks + 0.05 * points
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        step += 1
        same = (logits.detach().argmax(1) == target.argmax(1)).float().mean()
        log.append([part.item() for part in (ranks, points, same)])
        if step % 100 == 0:
            means = tuple(np.mean(log, axis=0))
            print(step, f"{time.time() - began:.0f} s", "ranks %.4f points %.3f same first %.3f" % means, flush=True)
            log.clear()
    model.eval()
    extra = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "num_labels": 1,
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"},
    }
    save_weights(model, config, args.out, extra)
    save_tokenizer(tokenizer, args.out)
    print(f"{step} steps, {time.time() - began:.0f} s; written to {args.out}")


if __name__ == "__main__":
    main()
