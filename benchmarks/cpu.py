"""How fast a recipe trains on this processor, against the ways people train it today.

    python benchmarks/cpu.py lenet-d2l --rounds 5
    python benchmarks/cpu.py convnet-mnist --rounds 5 --epochs 3

Four figures that must not be mixed: ``cold_s``, a whole process from start to end with imports,
loading, training and a test each epoch; ``warm_s``, the training and the tests alone;
``steady_images_s``, images trained on in a second of an epoch after the first, data included; and
``forward_images_s``, the same for the test. Needs Pillow, and the recipe's full dataset.
"""

from __future__ import annotations

import argparse
import json
import statistics

import fivebyfive as fbf
from contenders import CONTENDERS as PYTORCH
from fivebyfive import recipes
from frameworks import FRAMEWORKS
from harness import compare, fma_peak, machine, ratios, save, spread

CONTENDERS = {**PYTORCH, **FRAMEWORKS}
FIGURES = ("steady_images_s", "forward_images_s", "warm_s", "cold_s", "peak_mb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="lenet-d2l")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="else the recipe's")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, help="else all there are")
    parser.add_argument("--only", choices=CONTENDERS, help="run one, once, in this process")
    options = parser.parse_args()
    recipe = recipes.get(options.recipe).but(epochs=options.epochs)
    if options.only:
        print(json.dumps(CONTENDERS[options.only](recipe)))
        return
    everyone = CONTENDERS if recipe.name == "lenet-d2l" else PYTORCH
    words = [recipe.name, "--epochs", str(recipe.epochs)]
    about = {**machine(), "recipe": recipe.name, "epochs": recipe.epochs, "rounds": options.rounds}
    flops = fbf.layers(recipe.network).flops_training
    about |= {"flop_an_image": flops, "fma_peak_gflops": fma_peak(about["threads"])}
    results = compare(__file__, options.contenders or list(everyone), options.rounds, words)
    print(", ".join(f"{key}: {value}" for key, value in about.items()))
    table(results)
    if peak := about["fma_peak_gflops"]:
        for name, rounds in results.items():
            shares = [each["steady_images_s"] * flops / (peak * 1e9) for each in rounds]
            print(f"{name}: {100 * statistics.median(shares):.0f} % of the FMA peak")
    print(f"raw figures: {save(f'cpu-{recipe.name}', {'about': about, 'results': results})}")


def table(results: dict[str, list[dict[str, float]]]) -> None:
    """Median (lowest–highest) of each figure, and the ratio to the textbook loop's speed."""
    print(f"{'':14}" + "".join(f"{figure:>28}" for figure in FIGURES))
    for name, rounds in results.items():
        cells = [spread([each[figure] for each in rounds]) for figure in FIGURES]
        print(f"{name:14}" + "".join(f"{cell:>28}" for cell in cells))
    first = next(iter(results))
    for name, rounds in list(results.items())[1:]:
        for figure in ("steady_images_s", "cold_s"):
            pairs = ratios([r[figure] for r in rounds], [r[figure] for r in results[first]])
            if figure == "cold_s":
                pairs = [1 / pair for pair in pairs]
            print(
                f"{name} / {first}, {figure}: {statistics.median(pairs):.2f} times as fast "
                f"({min(pairs):.2f}–{max(pairs):.2f})"
            )


if __name__ == "__main__":
    main()
