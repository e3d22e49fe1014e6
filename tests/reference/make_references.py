"""Writes the reference values that the engines' tests compare with.

Why it exists: an engine is right when it gives what sentence-transformers and transformers give on the same weights.
Those are too heavy to run in every test, so their results on fixed inputs are committed, and made again by this script
when the bundled models change. How: README.md beside it.

Besides real models there are tiny ones, whose weights follow from a formula that the tests compute too (`recipe_weight`):
they cover shapes that the bundled models do not have.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import sentence_transformers
import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
)

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORDS = "stream of water turns the old mill wheel while the miller counts sacks of flour and".split()
TEXTS = [
    "",
    "cluster",
    "How do I restart a worker?",
    "The head writes what people asked for; workers report what they see.",
    "Grüße aus Zürich — ça va? 東京は夜の七時 🚀 Ελληνικά, русский, عربى",
    "line one\nline two\tand a tab,   and   spaces",
    "1234567890 !@#$%^&*() [CLS] [SEP] <b>html</b> C++ foo_bar.baz()",
    "supercalifragilisticexpialidocious" * 4,
    " ".join(WORDS[i % len(WORDS)] for i in range(300)),
]
QUERY = "How do I restart a worker?"
PROMPTS = ["The cluster", "Answer from the passages.\n- A worker runs replicas.\nQuestion: What does a worker run?\n", "Grüße 東"]
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is a head?\nSay it twice."},
]
NUM_GREEDY = 32


def rounded(values: Any) -> Any:
    """Nested lists of floats with seven digits after the point."""
    return np.round(np.asarray(values, dtype=np.float64), 7).tolist()


def recipe_weight(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Weights of the tiny models: a hash of the tensor's name and the element's index, mapped to -0.25..0.25.

    Norms are 1 plus that. The hash: FNV-1a of the name, plus the index times a constant, then a mix of shifts and
    products (Murmur3's finaliser); all in 32 bits.
    """
    seed = 2166136261
    for byte in name.encode():
        seed = ((seed ^ byte) * 16777619) & 0xFFFFFFFF
    h = (np.arange(int(np.prod(shape)), dtype=np.uint64) * 2654435761 + seed) & 0xFFFFFFFF
    h ^= h >> 16
    h = (h * 0x85EBCA6B) & 0xFFFFFFFF
    h ^= h >> 13
    h = (h * 0xC2B2AE35) & 0xFFFFFFFF
    h ^= h >> 16
    values = (h.astype(np.float64) / 2**32 - 0.5) * 0.5
    if "norm" in name.lower() and name.endswith("weight"):
        values += 1.0
    return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def fill(model: torch.nn.Module) -> torch.nn.Module:
    """The model with every weight by the recipe."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(recipe_weight(name, tuple(parameter.shape)))
    return model.float().eval()


def embeddings(folder: Path) -> dict[str, Any]:
    """Embeddings of `TEXTS` by sentence-transformers, all in one batch and so with padding."""
    model = SentenceTransformer(str(folder), device="cpu").float()
    return {"texts": TEXTS, "embeddings": rounded(model.encode(TEXTS, batch_size=len(TEXTS)))}


def scores(folder: Path) -> dict[str, Any]:
    """Scores of `TEXTS` as documents by sentence-transformers' cross-encoder, with its default activation."""
    model = CrossEncoder(str(folder), device="cpu")
    model.model.float()
    values = model.predict([(QUERY, text) for text in TEXTS], batch_size=len(TEXTS))
    return {"query": QUERY, "documents": TEXTS, "scores": rounded(values)}


@torch.no_grad()
def greedy(model: torch.nn.Module, ids: list[int]) -> list[int]:
    """The most likely token, `NUM_GREEDY` times over; end tokens do not end it."""
    new: list[int] = []
    for _ in range(NUM_GREEDY):
        new.append(int(model(torch.tensor([ids + new])).logits[0, -1].argmax()))
    return new


@torch.no_grad()
def last_logits(model: torch.nn.Module, ids: list[int]) -> list[float]:
    """Logits after the last token."""
    return rounded(model(torch.tensor([ids])).logits[0, -1])


def generator(folder: Path) -> dict[str, Any]:
    """Token ids, logits after the prompt, greedy continuations and the chat template's result of a real generator."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    cases = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt)["input_ids"]
        new = greedy(model, ids)
        text = tokenizer.decode(new, skip_special_tokens=True)
        cases.append({"prompt": prompt, "ids": ids, "greedy_ids": new, "greedy_text": text})
    cases[0]["logits"] = last_logits(model, cases[0]["ids"])
    rendered = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    return {"cases": cases, "chat": {"messages": MESSAGES, "rendered": rendered}}


def tiny() -> dict[str, Any]:
    """Logits of tiny models of shapes that the bundled ones lack."""
    common = {
        "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
    }
    llama3 = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32, "rope_theta": 500.0,
    }
    ids = [5, 17, 3, 96, 41, 8, 8, 60, 22, 1, 77, 30]
    qwen2 = fill(Qwen2ForCausalLM(Qwen2Config(**common, rope_parameters={"rope_type": "default", "rope_theta": 1e6})))
    llama = fill(LlamaForCausalLM(LlamaConfig(**common, attention_bias=True, mlp_bias=True, rope_parameters=llama3)))
    result = {}
    for name, model, extra in (
        ("qwen2", qwen2, {"model_type": "qwen2", "rope_parameters": {"rope_theta": 1e6}}),
        ("llama", llama, {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "rope_parameters": llama3}),
    ):
        result[name] = {
            "config": common | extra, "ids": ids, "logits": last_logits(model, ids), "greedy_ids": greedy(model, ids),
        }
    config = {
        "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 40, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1,
        "hidden_act": "gelu",
    }
    roberta = fill(RobertaForSequenceClassification(RobertaConfig(**config, num_labels=3)))
    with torch.no_grad():
        # Without the padding id, which would have a position of its own.
        ids = [2 if token == 1 else token for token in ids]
        logits = roberta(torch.tensor([ids])).logits[0]
    result["roberta"] = {"config": config | {"model_type": "roberta"}, "ids": ids, "logits": rounded(logits)}
    return result


def write(path: Path, values: dict[str, Any]) -> None:
    """One JSON file, with the versions that made it."""
    made_with = {m.__name__: m.__version__ for m in (torch, transformers, sentence_transformers)}
    path.write_text(json.dumps({"made_with": made_with} | values, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test-models", type=Path, default=ROOT / "target" / "test-models", help="holds all-MiniLM-L6-v2")
    parser.add_argument("--models", type=Path, default=ROOT / "pipelines" / "models", help="holds the bundled models")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--only", nargs="*", help="names of the files to write, without .json")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    makers = {
        "all-minilm-l6-v2": (embeddings, args.test_models / "all-MiniLM-L6-v2"),
        "mini-embedder": (embeddings, args.models / "mini-embedder"),
        "mini-reranker": (scores, args.models / "mini-reranker"),
        "mini-generator": (generator, args.models / "mini-generator"),
        "tiny": (tiny, None),
    }
    missing = False
    for name, (make, folder) in makers.items():
        if args.only and name not in args.only:
            continue
        if folder is None:
            write(args.out / f"{name}.json", make())
        elif (folder / "config.json").is_file():
            digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
            write(args.out / f"{name}.json", {"weights_sha256": digest} | make(folder))
        else:
            missing = True
            print(f"{name}: left as it is, {folder} has no model", file=sys.stderr)
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()
