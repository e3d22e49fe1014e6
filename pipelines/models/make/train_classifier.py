"""Makes tabular-classifier: 200 trees over 42 numbers, as ONNX.

Why it exists: the kind of model most tables are served with, small and fast enough that a server's own cost shows.
The data is made up: two classes in several clusters that differ in 18 of the 42 columns, with noise. Gradient boosting
grows one tree a round for two classes, so 200 rounds are exactly 200 trees.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.model_selection import train_test_split

FEATURES, TREES, DEPTH = 42, 200, 4


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write model.onnx to")
    parser.add_argument("--rows", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=17)
    args = parser.parse_args()

    x, y = make_classification(
        n_samples=args.rows, n_features=FEATURES, n_informative=12, n_redundant=6, n_classes=2, n_clusters_per_class=4,
        flip_y=0.02, random_state=args.seed,
    )
    x = x.astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.25, random_state=args.seed)
    model = GradientBoostingClassifier(
        n_estimators=TREES, max_depth=DEPTH, learning_rate=0.15, subsample=0.5, random_state=args.seed
    ).fit(train_x, train_y)

    graph = to_onnx(
        model,
        initial_types=[("features", FloatTensorType([None, FEATURES]))],
        options={id(model): {"zipmap": False}},
        target_opset={"": 17, "ai.onnx.ml": 3},
    )
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "model.onnx"
    onnx.save(graph, str(path))

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    label, probabilities = session.run(["label", "probabilities"], {"features": test_x})
    gap = np.abs(probabilities - model.predict_proba(test_x)).max()
    print([(i.name, i.type, i.shape) for i in session.get_inputs()])
    print([(o.name, o.type, o.shape) for o in session.get_outputs()])
    accuracy = np.mean(label == test_y)
    print(f"{TREES} trees, {path.stat().st_size} bytes, accuracy {accuracy:.3f}, against sklearn {gap:.1e}")


if __name__ == "__main__":
    main()
