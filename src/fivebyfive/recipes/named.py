"""The recipes by name, with what their sources published."""

from __future__ import annotations

from .recipe import Published, Recipe

_BOOK2 = "Dive into Deep Learning, PyTorch, edition 2 (zh) and 0.17 (en)"
_THREE_SD = "mean ± 3 standard deviations over the builds"
_SPAN = "lowest and highest of the builds"
_READERS = "lowest and highest of 130 builds and 31 readers' runs; see docs/reproduce.md"
_HOUSE = "one published run; the range is this project's tolerance"

_STUCK = "lowest and highest of the builds; 6 of them stayed at chance, 2 more ended in NaN"
_USUALLY = (
    "This recipe usually learns within its first epoch: check the pixels' scale and the rate."
)

_SIGMOIDS = (
    "Sigmoids let little of the gradient through at first, and plain SGD takes its time: this "
    "recipe usually gets off the plateau in its first or second epoch."
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="lenet-d2l",
            network="lenet",
            source=_BOOK2,
            plateau=_SIGMOIDS,
            published={
                "train_loss": Published(0.469, 0.436, 0.502, 130, _THREE_SD, sd=0.011),
                "train_acc": Published(0.824, 0.809, 0.839, 130, _THREE_SD, sd=0.005),
                "test_acc": Published(0.803, 0.741, 0.828, 161, _READERS, sd=0.017),
            },
        ),
        Recipe(
            name="lenet-d2l-1.0",
            network="lenet",
            batch_size=128,
            lr=0.1,
            source="Dive into Deep Learning, PyTorch, edition 1.0 (en)",
            plateau="With this recipe's small learning rate the sigmoids usually keep it at chance "
            "for the first 2 to 4 epochs; then it learns.",
            published={"test_acc": Published(None, 0.718, 0.735, 7, _SPAN)},
        ),
        Recipe(
            name="lenet-mnist",
            network="lenet",
            dataset="mnist",
            source="lenet-d2l's settings on MNIST; no figures published",
            plateau=_SIGMOIDS,
        ),
        Recipe(
            name="convnet-mnist",
            network="convnet",
            dataset="mnist",
            mean=0.1307,
            std=0.3081,
            batch_size=512,
            epochs=20,
            optimizer="adam",
            lr=0.001,
            init="default",
            loss="nll",
            source="the widely copied MNIST ConvNet tutorial; one published run",
            plateau="This recipe is usually above 0.96 after its first epoch: something is wrong, "
            "most likely the learning rate or the scaling of the pixels.",
            published={
                "test_acc": Published(0.9896, 0.986, 1.0, 1, _HOUSE),
                "test_acc_epoch_1": Published(0.9651, 0.96, 1.0, 1, _HOUSE),
            },
        ),
        Recipe(
            name="alexnet-d2l",
            network="alexnet",
            resize=224,
            batch_size=128,
            lr=0.01,
            source=_BOOK2,
            plateau="This recipe usually learns within its first epoch. One that doesn't often has "
            "pixels that aren't scaled to 0..1, or another learning rate.",
            published={
                "train_loss": Published(0.329, 0.323, 0.335, 82, _THREE_SD, sd=0.002),
                "train_acc": Published(0.880, 0.877, 0.883, 82, _THREE_SD, sd=0.001),
                "test_acc": Published(0.880, 0.860, 0.886, 82, _SPAN, sd=0.005),
            },
        ),
        Recipe(
            name="lenet-bn-d2l",
            network="lenet-bn",
            lr=1.0,
            source=_BOOK2,
            plateau=_USUALLY,
            published={
                "train_loss": Published(0.259, 0.212, 0.285, 134, _SPAN, sd=0.016),
                "train_acc": Published(0.905, 0.895, 0.922, 134, _SPAN, sd=0.006),
                "test_acc": Published(0.828, 0.619, 0.889, 134, _SPAN, sd=0.048),
            },
        ),
        Recipe(
            name="vgg-d2l",
            network="vgg",
            resize=224,
            batch_size=128,
            lr=0.05,
            source=_BOOK2,
            plateau=_USUALLY,
            published={
                "train_loss": Published(0.177, 0.166, 0.220, 103, _SPAN, sd=0.007),
                "train_acc": Published(0.935, 0.918, 0.939, 103, _SPAN, sd=0.003),
                "test_acc": Published(0.918, 0.900, 0.925, 103, _SPAN, sd=0.005),
            },
        ),
        Recipe(
            name="nin-d2l",
            network="nin",
            resize=224,
            batch_size=128,
            lr=0.1,
            source=_BOOK2,
            plateau="Of 101 published builds of this recipe 6 stayed at chance for all ten epochs "
            "and 2 ended in NaN: try another seed, or a lower learning rate.",
            published={
                "train_loss": Published(0.643, 0.317, 2.303, 99, _STUCK, sd=0.526),
                "train_acc": Published(0.762, 0.100, 0.882, 99, _STUCK, sd=0.204),
                "test_acc": Published(0.758, 0.100, 0.885, 99, _STUCK, sd=0.202),
            },
        ),
        Recipe(
            name="googlenet-d2l",
            network="googlenet",
            resize=96,
            batch_size=128,
            lr=0.1,
            source=_BOOK2,
            plateau="This recipe often needs its first two epochs to learn. Of 110 published "
            "builds 2 ended in NaN.",
            published={
                "train_loss": Published(0.255, 0.232, 0.773, 108, _SPAN, sd=0.052),
                "train_acc": Published(0.903, 0.713, 0.913, 108, _SPAN, sd=0.019),
                "test_acc": Published(0.885, 0.808, 0.902, 108, _SPAN, sd=0.014),
            },
        ),
        Recipe(
            name="resnet-d2l",
            network="resnet18",
            resize=96,
            batch_size=256,
            lr=0.05,
            source=_BOOK2,
            plateau=_USUALLY,
            published={
                "train_loss": Published(0.013, 0.004, 0.023, 116, _SPAN, sd=0.003),
                "train_acc": Published(0.997, 0.993, 1.0, 116, _SPAN, sd=0.001),
                "test_acc": Published(0.904, 0.806, 0.927, 116, _SPAN, sd=0.023),
            },
        ),
        Recipe(
            name="densenet-d2l",
            network="densenet",
            resize=96,
            batch_size=256,
            lr=0.1,
            source=_BOOK2,
            plateau=_USUALLY,
            published={
                "train_loss": Published(0.150, 0.139, 0.166, 111, _SPAN, sd=0.006),
                "train_acc": Published(0.945, 0.938, 0.950, 111, _SPAN, sd=0.002),
                "test_acc": Published(0.861, 0.406, 0.918, 111, _SPAN, sd=0.060),
            },
        ),
    )
}
