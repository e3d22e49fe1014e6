"""Distils mini-embedder from all-MiniLM-L6-v2.

Why it exists: a text embedder of 2 MB that runs anywhere: pipelines can be tried and tested without a download.
The student starts from the teacher: its vocabulary is a part of the teacher's and each word's vector is what the
teacher makes of that word, projected to fewer numbers. It then learns (a) the teacher's vectors, projected likewise,
(b) the teacher's similarities within a batch of questions and passages, (c) which passage belongs to which question.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from bert_files import MAX_TOKENS, bert_config, build_tokenizer, choose_vocabulary, pad, save_tokenizer, save_weights
from sentence_transformers import SentenceTransformer
from teach import teacher_folder
from tokenizers import Tokenizer
from torch.nn.functional import kl_div, log_softmax, normalize, softmax
from transformers import BertModel

TEMPERATURE = 0.05


class Projection(torch.nn.Module):
    """Teacher space [384] to student space [hidden]: the main directions of the teacher's vectors."""

    def __init__(self, teacher: np.ndarray, hidden: int) -> None:
        super().__init__()
        sample = torch.from_numpy(teacher[:: max(1, len(teacher) // 60_000)].astype(np.float32))
        _, values, axes = torch.linalg.svd(sample, full_matrices=False)
        kept = (values[:hidden] ** 2).sum() / (values**2).sum()
        print(f"{hidden} of 384 directions hold {kept:.3f} of the teacher's energy")
        self.register_buffer("axes", axes[:hidden].T.contiguous())

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return normalize(vectors @ self.axes, dim=-1)


def word_vectors(words: list[str], projection: Projection) -> torch.Tensor:
    """What the teacher makes of each word alone, in student space."""
    model = SentenceTransformer(str(teacher_folder()), device="cpu")
    ids = torch.tensor([model.tokenizer.convert_tokens_to_ids(w) for w in words])
    rows = torch.stack([torch.full_like(ids, 101), ids, torch.full_like(ids, 102)], dim=1)
    parts = []
    with torch.no_grad():
        for chunk in rows.split(512):
            hidden = model[0].auto_model(input_ids=chunk, attention_mask=torch.ones_like(chunk)).last_hidden_state
            parts.append(hidden.mean(dim=1))
    return projection(normalize(torch.cat(parts), dim=-1))


def encode(model: BertModel, rows: list[list[int]], offset: int = 0) -> torch.Tensor:
    """Unit vectors [rows, hidden]: mean over the real tokens, then normalised."""
    ids = pad(rows)
    mask = (ids != 0).long()
    positions = torch.arange(ids.shape[1])[None] + min(offset, MAX_TOKENS - ids.shape[1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model(input_ids=ids, attention_mask=mask, position_ids=positions).last_hidden_state
    weights = mask[..., None].float()
    return normalize((hidden.float() * weights).sum(1) / weights.sum(1), dim=-1)


def write(model: BertModel, tokenizer: Tokenizer, folder: Path) -> None:
    """The files as sentence-transformers lays them out."""
    save_weights(model, model.config, folder, {"architectures": ["BertModel"], "model_type": "bert"})
    save_tokenizer(tokenizer, folder)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    pooling = {
        "word_embedding_dimension": model.config.hidden_size,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    (folder / "1_Pooling").mkdir(exist_ok=True)
    for name, value in (
        ("modules.json", modules),
        ("1_Pooling/config.json", pooling),
        ("sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": False}),
    ):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True, help="float16 array made by teach.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vocabulary", type=int, default=7424)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=192, help="pairs of question and passage in a batch")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=17)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)

    rows = [json.loads(line) for line in args.texts.open(encoding="utf-8")]
    teacher = np.load(args.teacher, mmap_mode="r")
    folder = teacher_folder()
    words = (folder / "vocab.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
    source = Tokenizer.from_file(str(folder / "tokenizer.json"))
    source.no_padding()
    source.no_truncation()
    sample = [r["text"] for r in rows[::3]]
    vocabulary = choose_vocabulary(words, sample, source, args.vocabulary)
    tokenizer = build_tokenizer(vocabulary)
    tokenizer.enable_truncation(96)
    ids = [e.ids for start in range(0, len(rows), 10_000)
           for e in tokenizer.encode_batch([r["text"] for r in rows[start : start + 10_000]])]
    asked: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        if row["kind"] == "question":
            asked.setdefault(row["passage"], []).append(i)
    passages = np.array(sorted(asked))
    lists = np.array([i for i, r in enumerate(rows) if r["kind"] == "words"])
    print(f"{len(passages)} passages with questions, vocabulary {len(vocabulary)}", flush=True)

    projection = Projection(teacher, args.hidden)
    model = BertModel(bert_config(len(vocabulary), args.layers, args.hidden), add_pooling_layer=False)
    with torch.no_grad():
        table = model.embeddings.word_embeddings.weight
        table[len("01234") :] = word_vectors(vocabulary[5:], projection) * 0.3
        table[:5] *= 0.1
        model.embeddings.position_embeddings.weight.mul_(0.1)
        model.embeddings.token_type_embeddings.weight.zero_()
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.rate, weight_decay=0.01, betas=(0.9, 0.98))

    began, step, log = time.time(), 0, []
    order, cursor = rng.permutation(passages), 0
    blocks: list[np.ndarray] = []
    while True:
        done = step / args.steps
        if done >= 1.0:
            break
        for group in optimiser.param_groups:
            group["lr"] = args.rate * min(1.0, (step + 1) / 200) * (0.02 + 0.98 * (1 - done))
        # Neighbours in length share a batch: sixteen batches are drawn and sorted together.
        if not blocks:
            if cursor + 16 * args.batch > len(order):
                order, cursor = rng.permutation(passages), 0
            drawn = order[cursor : cursor + 16 * args.batch]
            cursor += 16 * args.batch
            drawn = drawn[np.argsort([len(ids[p]) for p in drawn], kind="stable")]
            blocks = [drawn[b * args.batch : (b + 1) * args.batch] for b in rng.permutation(16)]
        chosen = blocks.pop()
        questions = np.array([asked[p][rng.integers(len(asked[p]))] for p in chosen])
        extra = rng.choice(lists, args.batch // 6)
        short = np.concatenate([questions, extra])
        offset = int(rng.integers(0, MAX_TOKENS)) if rng.random() < 0.3 else 0
        q = encode(model, [ids[i] for i in short], offset)
        p = encode(model, [ids[i] for i in chosen], offset)
        with torch.no_grad():
            tq = normalize(torch.from_numpy(teacher[short].astype(np.float32)), dim=-1)
            tp = normalize(torch.from_numpy(teacher[chosen].astype(np.float32)), dim=-1)
            gold = torch.eye(len(chosen))
            goal = 0.75 * softmax(tq[: len(chosen)] @ tp.T / TEMPERATURE, dim=-1) + 0.25 * gold
        student, target = torch.cat([q, p]), torch.cat([tq, tp])
        vectors = (1 - (student * projection(target)).sum(-1)).mean()
        pairs = (student @ student.T - target @ target.T).pow(2).mean() * 20
        ranks = kl_div(log_softmax(q[: len(chosen)] @ p.T / TEMPERATURE, dim=-1), goal, reduction="batchmean")
        loss = vectors + pairs + 0.3 * ranks
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        step += 1
        log.append([part.item() for part in (vectors, pairs, ranks)])
        if step % 100 == 0:
            print(step, f"{time.time() - began:.0f} s", np.round(np.mean(log, axis=0), 4).tolist(), flush=True)
            log.clear()
    model.eval()
    write(model, tokenizer, args.out)
    print(f"{step} steps, {time.time() - began:.0f} s; written to {args.out}")


if __name__ == "__main__":
    main()
