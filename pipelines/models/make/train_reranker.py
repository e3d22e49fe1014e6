"""Makes mini-reranker, a cross-encoder.

Why it exists: a relevance model of 3 MB that reads question and passage together. A network this small does not find
out by itself, in minutes, that it should compare words across the two texts. So that is written into the weights:

- embeddings: the main directions of an embedder's word vectors, one number for how rare the word is, one for the text;
- layer 1: each token attends to the tokens of the other text that resemble it, what it finds lands in the free half of
  the hidden vector, and the feed-forward units add up the differences between the two halves in one number;
- layer 2: `[CLS]` takes the mean of that number over the question, rare words counting more;
- pooler and classifier read it; layer 3 is free for what training may add.

With `--steps 0`, which is how the bundled model is made, nothing else happens. With more steps the model then learns
the teacher's cosines for passages that the embedder confuses. Up to 850 steps (100,000 pairs) made the order of `eval/`
worse, not better; many more may help.
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
from transformers import BertConfig, BertForSequenceClassification, BertModel

SCALE, MIDDLE = 16.0, 0.4  # target logit = SCALE * (teacher's cosine - MIDDLE)
CONTENT = 62  # hidden numbers 0 to 61: the word; 64 to 125: what it resembles in the other text
RARITY, MISMATCH, FOUND, ANSWER, TEXT = 62, 63, 64, 126, 127


@torch.no_grad()
def start_as_matcher(
    model: BertForSequenceClassification, words: torch.Tensor, rarity: torch.Tensor, noise: float, seed: int
) -> None:
    """Writes the word matcher into a fresh model.

    `words` are vectors [vocabulary - 5, CONTENT], `rarity` the logarithm of the inverse document frequency
    [vocabulary]. The other weights keep `noise` times their random start: 0 for the pure matcher. The factors follow
    from the sizes that layer normalisation gives the parts.
    """
    generator = torch.Generator().manual_seed(seed)
    for part in (model.bert.encoder, model.bert.pooler, model.classifier):
        for weight in part.parameters():
            if weight.ndim == 2:
                weight.mul_(noise)
    embeddings, (one, two) = model.bert.embeddings, model.bert.encoder.layer[:2]
    table = embeddings.word_embeddings.weight
    table.mul_(0.1)
    table[5:] = 0.0
    table[5:, :CONTENT] = normalize(words, dim=-1) * 0.3
    table[:, RARITY] = (rarity - 5.0) * 0.02
    table[:5, RARITY] = -0.3
    embeddings.position_embeddings.weight.mul_(0.1 * noise)
    embeddings.token_type_embeddings.weight.zero_()
    embeddings.token_type_embeddings.weight[0, TEXT] = 0.15
    embeddings.token_type_embeddings.weight[1, TEXT] = -0.15

    match, output = one.attention.self, one.attention.output.dense
    query, key, value = match.query, match.key, match.value
    for head in range(4):
        axes = torch.linalg.qr(torch.randn(CONTENT, 31, generator=generator))[0].T * 1.4
        rows = slice(32 * head, 32 * head + 31)
        query.weight[rows, :CONTENT] = axes
        key.weight[rows, :CONTENT] = axes
        query.weight[32 * head + 31, TEXT] = -2.0
        key.weight[32 * head + 31, TEXT] = 2.0
        for i in range(16):
            at = 16 * head + i
            if at < CONTENT:
                value.weight[32 * head + i, at] = 1.0
                output.weight[FOUND + at, 32 * head + i] = 1.0
    axes = normalize(torch.randn(256, CONTENT, generator=generator), dim=-1)
    compare = one.intermediate.dense.weight
    for sign, rows in ((1.0, slice(0, 256)), (-1.0, slice(256, 512))):
        compare[rows, :CONTENT] += sign * axes
        compare[rows, FOUND : FOUND + CONTENT] -= sign * axes
    one.output.dense.weight[MISMATCH] = -1 / 30

    gather = two.attention.self
    gather.query.bias[0] = 1.0
    gather.key.weight[0].zero_()
    gather.key.weight[0, TEXT] = 6.7
    gather.key.weight[0, RARITY] = 3.8
    gather.value.weight[0].zero_()
    gather.value.weight[0, MISMATCH] = 1.0
    two.attention.output.dense.weight[ANSWER, 0] = 2.0
    model.bert.pooler.dense.weight[0].zero_()
    model.bert.pooler.dense.weight[0, ANSWER] = 0.2
    model.bert.pooler.dense.bias[0] = 1.0
    model.classifier.weight[0, 0] = 8.0


@torch.no_grad()
def learned_words(embedder: Path, rarity: torch.Tensor) -> torch.Tensor:
    """The embedder's word vectors [vocabulary - 5, CONTENT] along their main directions, common words counting more."""
    parts = BertModel.from_pretrained(embedder, dtype=torch.float32).embeddings
    place = parts.position_embeddings.weight[1:40].mean(0) + parts.token_type_embeddings.weight[0]
    words = normalize(parts.LayerNorm(parts.word_embeddings.weight + place)[5:], dim=-1)
    weight = torch.exp(-rarity[5:, None] / 8)
    _, _, axes = torch.linalg.svd(words * weight, full_matrices=False)
    return words @ axes[:CONTENT].T


def rarities(ids: list[list[int]], vocabulary: int) -> torch.Tensor:
    """Logarithm of the inverse document frequency of every word."""
    counts = np.zeros(vocabulary)
    for row in ids:
        counts[np.unique(row)] += 1
    return torch.from_numpy(np.log(len(ids) / (1 + counts))).float()


def forward(
    model: BertForSequenceClassification, questions: list[list[int]], passages: list[list[int]]
) -> torch.Tensor:
    """Logits of `[CLS] question [SEP] passage [SEP]`; both lists hold ids with their special tokens."""
    rows = [q + p[1:] for q, p in zip(questions, passages, strict=True)]
    kinds = pad([[0] * len(q) + [1] * (len(p) - 1) for q, p in zip(questions, passages, strict=True)])
    ids = pad(rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=ids, token_type_ids=kinds, attention_mask=(ids != 0).long()).logits
    return logits[:, 0].float()


def write(model: BertForSequenceClassification, config: BertConfig, tokenizer: Tokenizer, folder: Path) -> None:
    """The files that CrossEncoder reads; the score is the sigmoid of the logit."""
    extra = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "num_labels": 1,
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"},
    }
    save_weights(model, config, folder, extra)
    save_tokenizer(tokenizer, folder)


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
    parser.add_argument("--embedder", type=Path, required=True, help="folder: word vectors, vocabulary, confusions")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="folder of an earlier run to go on from")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--questions", type=int, default=60_000)
    parser.add_argument("--sentences", type=int, default=40_000, help="short passages used as questions")
    parser.add_argument("--pool", type=int, default=60_000, help="passages among which confusions are looked for")
    parser.add_argument("--steps", type=int, default=0, help="training steps after the word matcher is written")
    parser.add_argument("--batch", type=int, default=20, help="questions in a batch")
    parser.add_argument("--group", type=int, default=6, help="passages per question")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=50, help="steps in which the rate rises")
    parser.add_argument("--gold", type=float, default=2.0, help="added to the target of the question's own passage")
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
    asked = [i for i, r in enumerate(rows) if r["kind"] == "question" and r["passage"] in inside and " " in r["text"]]
    # Short passages ask too: made-up questions repeat the words of their passage, related sentences do not.
    short = [i for i in passages.tolist() if len(texts[i]) <= 110]
    asked = np.concatenate([rng.permutation(asked)[: args.questions], rng.permutation(short)[: args.sentences]])
    own = np.array([rows[i].get("passage", -1) for i in asked])
    began = time.time()
    hard = passages[:20][None].repeat(len(asked), 0)
    if args.steps:
        hard = passages[confusions(args.embedder, texts, asked, passages, 20)]
    alone = own < 0
    for row in np.flatnonzero(alone):
        others = hard[row][hard[row] != asked[row]]
        hard[row] = np.resize(others, hard.shape[1])
    gold = np.where(alone, hard[:, 0], own)
    print(f"{len(asked)} questions, {len(passages)} passages, {time.time() - began:.0f} s", flush=True)

    tokenizer = Tokenizer.from_file(str(args.embedder / "tokenizer.json"))
    tokenizer.enable_truncation(96)
    q_ids = [e.ids for e in tokenizer.encode_batch([texts[i] for i in asked])]
    q_ids = [q if len(q) <= 34 else [*q[:33], q[-1]] for q in q_ids]
    p_ids = {int(i): e.ids for i, e in zip(passages, tokenizer.encode_batch([texts[i] for i in passages]), strict=True)}

    config = bert_config(tokenizer.get_vocab_size(), args.layers)
    config.num_labels = 1
    model = BertForSequenceClassification(config)
    if args.start:
        model = BertForSequenceClassification.from_pretrained(args.start, dtype=torch.float32)
    else:
        rarity = rarities(list(p_ids.values()), tokenizer.get_vocab_size())
        start_as_matcher(model, learned_words(args.embedder, rarity), rarity, 0.2 if args.steps else 0.0, args.seed)
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    if args.steps == 0:
        write(model.eval(), config, tokenizer, args.out)
        return
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=0.01, betas=(0.9, 0.98))

    began, step, log, order, cursor = time.time(), 0, [], rng.permutation(len(asked)), 0
    blocks: list[np.ndarray] = []
    while True:
        done = step / args.steps
        if done >= 1.0:
            break
        for group in optimiser.param_groups:
            group["lr"] = args.rate * min(1.0, (step + 1) / args.warmup) * (0.02 + 0.98 * (1 - done))
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
            target = target + args.gold * torch.from_numpy(candidates == own[chosen][:, None]).float()
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
        if step % 50 == 0:
            means = tuple(np.mean(log, axis=0))
            print(step, f"{time.time() - began:.0f} s", "ranks %.4f points %.3f same first %.3f" % means, flush=True)
            log.clear()
        if step % 100 == 0:
            write(model, config, tokenizer, args.out)
    model.eval()
    write(model, config, tokenizer, args.out)
    print(f"{step} steps, {time.time() - began:.0f} s; written to {args.out}")


if __name__ == "__main__":
    main()
