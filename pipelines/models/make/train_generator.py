"""Trains mini-generator, a small Llama-shaped writer.

Why it exists: a causal language model of under 3 MB with real weights, so that streaming, batching and KV caches can be
tried without a download. It learns from documentation prose and from prompts made of passages and a question whose
answer is a sentence of one passage; so it mostly answers by copying the sentence that fits. It knows nothing else.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from bert_files import set_tokenizer_class
from questions import ask, sentences
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END, START, STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WINDOW = 512
Example = list[tuple[str, float]]  # pieces of text with the weight of their tokens in the loss


def build_tokenizer(texts: list[str], size: int) -> Tokenizer:
    """Byte-level BPE; ids 0 to 2 are the special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END, START, STOP],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def rag_prompt(passages: list[str], question: str, rng: random.Random) -> str:
    """The prompt of the bundled `rag` pipeline, with the line ends that templates may leave."""
    lines = "".join(f"- {p}\n" for p in passages)
    gap = "\n" if rng.random() < 0.5 else ""
    return f"Answer from the passages.\n{lines}{gap}Question: {question}"


def chat(prompt: str, answer: str) -> Example:
    """One turn in the chat template's form."""
    return [(f"{START}user\n{prompt}{STOP}\n{START}assistant\n", 0.3), (f"{answer}{STOP}", 2.0), (f"\n{END}", 0.1)]


def examples(prose: list[str], passages: list[str], rng: random.Random) -> Iterator[Example]:
    """Endless training examples: prose, answers from passages (plain and as chat), short answers to bare questions."""
    while True:
        kind = rng.random()
        if kind < 0.30:
            yield [(rng.choice(prose) + END, 1.0)]
            continue
        at = rng.randrange(len(passages))
        parts = sentences(passages[at])
        answer = rng.choice(parts)
        question = ask(answer, rng)
        if not question or len(answer) < 25 or not answer.endswith((".", "!")):
            continue
        question = question[0].upper() + question[1:]
        if kind > 0.94:
            yield chat(question, answer)
            continue
        others = rng.randint(0, 4)
        around = [passages[(at + rng.randint(1, 40)) % len(passages)] if rng.random() < 0.3 else rng.choice(passages)
                  for _ in range(others)]
        given = [p for p in {passages[at], *around} if len(p) < 330]
        given.sort(key=lambda _: rng.random())
        prompt = rag_prompt(given, question, rng)
        if kind > 0.80:
            yield chat(prompt, answer)
        elif rng.random() < 0.7:
            yield [(prompt + "\n", 0.3), (answer + END, 2.0)]
        else:
            yield [(prompt, 0.3), (" " + answer + END, 2.0)]


def windows(
    source: Iterator[Example], tokenizer: Tokenizer, copies: float, rng: random.Random
) -> Iterator[tuple[list[int], list[float]]]:
    """Token windows and weights. A share `copies` of the examples is a random string of tokens given twice."""
    ids: list[int] = []
    weights: list[float] = []
    while True:
        if rng.random() < copies:
            some = [rng.randrange(3, tokenizer.get_vocab_size()) for _ in range(rng.randint(10, 60))]
            ids += [*some, *some, 0]
            weights += [0.0] * (len(some) + 2) + [1.0] * (len(some) - 1)
        else:
            for text, weight in next(source):
                piece = tokenizer.encode(text).ids
                ids += piece
                weights += [weight] * len(piece)
        while len(ids) > WINDOW:
            yield ids[: WINDOW + 1], weights[: WINDOW + 1]
            ids, weights = ids[WINDOW + 1 :], weights[WINDOW + 1 :]
            # What is left belongs to an example whose beginning is gone: drop it.
            if ids and 0 in ids:
                cut = ids.index(0) + 1
                ids, weights = ids[cut:], weights[cut:]
            else:
                ids, weights = [], []


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalised updates for weight matrices (Jordan et al. 2024): small models learn faster."""

    def __init__(self, params: list[torch.nn.Parameter], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.lerp_(p.grad, 0.05)
                x = p.grad.lerp(m, 0.95)
                wide = x.shape[0] > x.shape[1]
                x = (x.T if wide else x) / (x.norm() + 1e-7)
                for _ in range(5):
                    a = x @ x.T
                    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
                x = x.T if wide else x
                p.mul_(1 - group["lr"] * 0.1)
                p.add_(x, alpha=-group["lr"] * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)


def write(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Weights in float16 and configuration with `rope_theta` at the top level."""
    folder.mkdir(parents=True, exist_ok=True)
    c = model.config
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": c.vocab_size,
        "hidden_size": c.hidden_size, "intermediate_size": c.intermediate_size,
        "num_hidden_layers": c.num_hidden_layers, "num_attention_heads": c.num_attention_heads,
        "num_key_value_heads": c.num_key_value_heads, "head_dim": c.hidden_size // c.num_attention_heads,
        "max_position_embeddings": 2048, "rope_theta": 10000.0, "rms_norm_eps": c.rms_norm_eps, "hidden_act": "silu",
        "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True, "torch_dtype": "float16",
        "initializer_range": 0.02, "use_cache": True, "bos_token_id": 0, "eos_token_id": [0, 2], "pad_token_id": 0,
    }
    generation = {"bos_token_id": 0, "eos_token_id": [0, 2], "pad_token_id": 0}
    for name, value in (("config.json", config), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    tensors = {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}
    state = {k: v.detach().to(torch.float16).contiguous() for k, v in tensors.items()}
    save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=END, additional_special_tokens=[START, STOP],
        model_max_length=2048, clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    set_tokenizer_class(folder, chat_template=CHAT_TEMPLATE)
    compact = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(compact, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="weights of an earlier run to go on from")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--copies", type=float, default=0.25, help="share of copying drill, falling to 0 at half time")
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=17)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)

    passages = [r["text"] for r in map(json.loads, args.texts.open(encoding="utf-8")) if r["kind"] == "passage"]
    prose = [r["text"] for r in map(json.loads, args.corpus.open(encoding="utf-8")) if len(r["text"]) > 90]
    rng.shuffle(prose)
    if args.start:
        tokenizer = Tokenizer.from_file(str(args.start / "tokenizer.json"))
        model = LlamaForCausalLM.from_pretrained(args.start, dtype=torch.float32)
    else:
        tokenizer = build_tokenizer(prose[:80_000], args.vocabulary)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=args.vocabulary, hidden_size=128, intermediate_size=384, num_hidden_layers=args.layers,
                num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048, rms_norm_eps=1e-5,
                tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, pad_token_id=0,
            )
        )
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    adam = torch.optim.AdamW(rest, lr=args.rate / 5, betas=(0.9, 0.95), weight_decay=0.0)
    optimisers = [Muon(matrices, args.rate), adam]
    base = [args.rate, args.rate / 5]

    source = examples(prose, passages, rng)
    began, step, log = time.time(), 0, []
    drill = windows(source, tokenizer, args.copies, rng)
    plain = windows(source, tokenizer, 0.0, rng)
    while True:
        done = step / args.steps
        if done >= 1.0:
            break
        for optimiser, rate in zip(optimisers, base, strict=True):
            optimiser.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 50, 0.02 + (1 - done) / 0.6)
        batch = [next(drill if done < 0.5 else plain) for _ in range(args.batch)]
        ids = torch.tensor([b[0] for b in batch])
        weights = torch.tensor([b[1] for b in batch])[:, 1:].reshape(-1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model.model(input_ids=ids[:, :-1]).last_hidden_state
            logits = model.lm_head(hidden)
        each = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].reshape(-1), reduction="none")
        loss = (each * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        model.zero_grad()
        step += 1
        with torch.no_grad():
            # Answers carry weight 2, prose and drill weight 1.
            answers = each[weights == 2.0].mean()
            log.append([float(loss.detach()), float(answers), float(each[weights == 1.0].mean())])
        if step % 50 == 0:
            means = torch.tensor(log).nanmean(0)
            print(step, f"{time.time() - began:.0f} s", "loss %.3f answers %.3f prose %.3f" % tuple(means), flush=True)
            log.clear()
        if step % 500 == 0:
            write(model, tokenizer, args.out)
    model.eval()
    write(model, tokenizer, args.out)
    print(f"{step} steps, {time.time() - began:.0f} s; written to {args.out}")


if __name__ == "__main__":
    main()
