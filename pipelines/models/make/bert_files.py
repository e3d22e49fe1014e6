"""Tokenizer and files shared by the embedder and the reranker.

Why it exists: both are BERT-shaped, use one vocabulary and must be readable by sentence-transformers and by engines
that know only `config.json`, `tokenizer.json` and `model.safetensors`.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MAX_TOKENS = 256


def bert_config(vocabulary: int, layers: int, hidden: int = 128) -> BertConfig:
    """The size class of the bundled models."""
    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=4 * hidden,
        max_position_embeddings=MAX_TOKENS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=0,
    )


def choose_vocabulary(teacher_words: list[str], texts: list[str], tokenizer: Tokenizer, size: int) -> list[str]:
    """Part of the teacher's vocabulary: single characters, then what is common in general or in the corpus.

    The teacher's list is sorted by frequency in books and encyclopedias; one half of the places goes by that order,
    the rest by the counts in `texts`, so that everyday words stay although the corpus is technical.
    """
    counts: Counter[str] = Counter()
    for start in range(0, len(texts), 2000):
        for encoding in tokenizer.encode_batch(texts[start : start + 2000], add_special_tokens=False):
            counts.update(encoding.tokens)
    usable = [w for w in teacher_words if w.isascii() and not (w.startswith("[") and len(w) > 1)]
    chosen = list(SPECIAL)
    chosen += [w for w in usable if len(w) == 1 or (w.startswith("##") and len(w) == 3)]
    have = set(chosen)
    general = [w for w in usable if len(w) > 1]
    for word in general[: size // 2]:
        if word not in have:
            chosen.append(word)
            have.add(word)
    for word, _ in counts.most_common():
        if len(chosen) == size:
            break
        if word not in have and word.isascii() and not word.startswith("["):
            chosen.append(word)
            have.add(word)
    return chosen


def build_tokenizer(vocabulary: list[str]) -> Tokenizer:
    """Lower-casing WordPiece with `[CLS] a [SEP]` and `[CLS] a [SEP] b [SEP]`; no padding or truncation stored."""
    ids = {word: i for i, word in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=64))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """`tokenizer.json` and `tokenizer_config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=MAX_TOKENS,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    fast.save_pretrained(folder)
    set_tokenizer_class(folder)
    compact = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    compact["truncation"] = compact["padding"] = None
    (folder / "tokenizer.json").write_text(json.dumps(compact, ensure_ascii=False) + "\n", encoding="utf-8")


def set_tokenizer_class(folder: Path, **more: str) -> None:
    """Names the class by the name that all versions of transformers know."""
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"} | more
    values.pop("backend", None)
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def save_weights(model: torch.nn.Module, config: BertConfig, folder: Path, extra: dict[str, object]) -> None:
    """`config.json` and `model.safetensors` in float16."""
    folder.mkdir(parents=True, exist_ok=True)
    values = config.to_dict() | {"dtype": "float16"} | extra
    values.pop("torch_dtype", None)
    (folder / "config.json").write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    state = {k: v.detach().to(torch.float16).contiguous() for k, v in model.state_dict().items()}
    state = {k: v for k, v in state.items() if not k.endswith("position_ids")}
    save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)


def pad(rows: list[list[int]], value: int = 0) -> torch.Tensor:
    """A rectangular tensor `[rows, longest]`."""
    width = max(map(len, rows))
    return torch.tensor([r + [value] * (width - len(r)) for r in rows])
