"""
Draws what the premise's words attend to in the hypothesis, for several trained models side by side. The pictures of
the README are made by

    uv run --with matplotlib python docs/attention_picture.py output/softmax output/sparsemax output/fusedmax \
        output/oscarmax --premise "..." --hypothesis "..." --out docs/attention.png
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
from allennlp.common.plugins import import_plugins
from allennlp.predictors import Predictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", type=Path, nargs="+", help="folders that `allennlp train` wrote")
    parser.add_argument("--premise", required=True)
    parser.add_argument("--hypothesis", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    import_plugins()
    figure, axes = plt.subplots(1, len(arguments.archives), figsize=(3.4 * len(arguments.archives), 4), squeeze=False)
    for axis, archive in zip(axes[0], arguments.archives, strict=True):
        prediction = Predictor.from_path(str(archive)).predict(arguments.premise, arguments.hypothesis)
        weights = prediction["premise_to_hypothesis_attention"]
        axis.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row, of_row in enumerate(weights):
            for column, weight in enumerate(of_row):
                if weight > 0:
                    color = "white" if weight > 0.5 else "black"
                    axis.text(column, row, f"{weight:.2f}"[1:] if weight < 0.995 else "1", color=color, fontsize=6,
                              ha="center", va="center")  # fmt: skip
        axis.set_xticks(range(len(prediction["hypothesis_tokens"])), prediction["hypothesis_tokens"], rotation=60)
        axis.set_yticks(range(len(prediction["premise_tokens"])), prediction["premise_tokens"])
        axis.tick_params(length=0, labelsize=8)
        label = prediction["label"]
        axis.set_title(f"{archive.name}\n{label} {prediction['probabilities'][label]:.2f}", fontsize=9)
    figure.tight_layout()
    figure.savefig(arguments.out, dpi=130)


if __name__ == "__main__":
    main()
