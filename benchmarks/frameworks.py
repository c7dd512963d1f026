"""LeNet on Fashion-MNIST in other frameworks, each in its own idiom, where it is installed.

    pip install -c constraints.txt ".[benchmarks]"

Only ``lenet-d2l``. Keras runs on the backend that ``KERAS_BACKEND`` names (TensorFlow by default).
"""

from __future__ import annotations

import importlib.util
import os
import time
from typing import Any

import numpy as np

import fivebyfive as fbf
from contenders import network
from fivebyfive.recipes import Recipe
from harness import Contender, Training


def lightning(recipe: Recipe) -> dict[str, float]:
    """Lightning's Trainer over a DataLoader of resident tensors."""
    import logging
    import warnings

    import lightning as L  # noqa: N812 (its users' name for it)
    import torch
    import torch.nn.functional as F  # noqa: N812

    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    data = fbf.datasets.load(recipe.dataset)
    times = Training()

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network(recipe)

        def training_step(self, batch: Any, _: int) -> Any:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            self.right += int((self.net(batch[0]).argmax(1) == batch[1]).sum())

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=recipe.lr)

        def on_train_epoch_start(self) -> None:
            self.begin = time.perf_counter()
            self.tested = 0.0

        def on_validation_epoch_start(self) -> None:
            self.right, self.test_begin = 0, time.perf_counter()

        def on_validation_epoch_end(self) -> None:
            self.tested = time.perf_counter() - self.test_begin
            times.test_seconds.append(self.tested)
            times.test_acc = self.right / 10_000

        def on_train_epoch_end(self) -> None:
            times.train_seconds.append(time.perf_counter() - self.begin - self.tested)

    def loader(split: Any, shuffle: bool) -> Any:
        tensors = torch.utils.data.TensorDataset(split.images.float() / 255, split.labels)
        return torch.utils.data.DataLoader(tensors, recipe.batch_size, shuffle=shuffle)

    trainer = L.Trainer(
        max_epochs=recipe.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(Module(), loader(data.train, True), loader(data.test, False))
    return times.report(60_000, 10_000)


def keras(recipe: Recipe) -> dict[str, float]:
    """``Model.fit``, the compiled step that Keras makes by default."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras as K  # noqa: N812

    (x, y), (tx, ty) = _arrays(recipe)
    times = Training()

    class Clock(K.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, *_: Any) -> None:
            self.begin, self.tested = time.perf_counter(), 0.0

        def on_test_begin(self, *_: Any) -> None:
            self.test_begin = time.perf_counter()

        def on_test_end(self, *_: Any) -> None:
            self.tested = time.perf_counter() - self.test_begin
            times.test_seconds.append(self.tested)

        def on_epoch_end(self, _: int, logs: Any = None) -> None:
            times.train_seconds.append(time.perf_counter() - self.begin - self.tested)
            times.train_loss, times.test_acc = logs["loss"], logs["val_accuracy"]

    layers = K.layers
    model = K.Sequential(
        [
            K.Input((28, 28, 1)),
            layers.Conv2D(6, 5, padding="same", activation="sigmoid"),
            layers.AveragePooling2D(2),
            layers.Conv2D(16, 5, activation="sigmoid"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(120, activation="sigmoid"),
            layers.Dense(84, activation="sigmoid"),
            layers.Dense(10),
        ]
    )
    model.compile(
        K.optimizers.SGD(recipe.lr),
        K.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        x,
        y,
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        validation_data=(tx, ty),
        validation_batch_size=500,
        callbacks=[Clock()],
        verbose=0,
    )
    return times.report(60_000, 10_000)


def flax(recipe: Recipe) -> dict[str, float]:
    """JAX with Flax and Optax: the whole step jitted, images resident, batches gathered inside."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn

    (x, y), (tx, ty) = ((jnp.asarray(a), jnp.asarray(b)) for a, b in _arrays(recipe))
    times = Training()

    class LeNet(nn.Module):  # type: ignore[misc]
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = nn.avg_pool(nn.sigmoid(nn.Conv(6, (5, 5))(x)), (2, 2), (2, 2))
            x = nn.avg_pool(nn.sigmoid(nn.Conv(16, (5, 5), padding="VALID")(x)), (2, 2), (2, 2))
            x = nn.sigmoid(nn.Dense(120)(x.reshape(len(x), -1)))
            return nn.Dense(10)(nn.sigmoid(nn.Dense(84)(x)))

    net = LeNet()
    weights = net.init(jax.random.key(0), x[:1])
    optimizer = optax.sgd(recipe.lr)

    def loss_of(weights: Any, x: Any, y: Any) -> Any:
        losses = optax.softmax_cross_entropy_with_integer_labels(net.apply(weights, x), y)
        return losses.mean()

    @jax.jit
    def step(weights: Any, state: Any, indices: Any) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(weights, x[indices], y[indices])
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(weights, updates), state, loss

    @jax.jit
    def right(weights: Any) -> Any:
        return (net.apply(weights, tx).argmax(1) == ty).sum()

    state, random = optimizer.init(weights), np.random.default_rng(0)
    for _ in range(recipe.epochs):
        begin, total = time.perf_counter(), jnp.zeros(())
        order = random.permutation(len(x))
        for first in range(0, len(x), recipe.batch_size):
            indices = order[first : first + recipe.batch_size]
            weights, state, loss = step(weights, state, indices)
            total += loss * len(indices)
        times.train_loss = float(total) / len(x)
        times.train_seconds.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        times.test_acc = int(right(weights)) / 10_000
        times.test_seconds.append(time.perf_counter() - begin)
    return times.report(60_000, 10_000)


def _arrays(recipe: Recipe) -> Any:
    data = fbf.datasets.load(recipe.dataset)
    return tuple(
        (split.images.permute(0, 2, 3, 1).numpy().astype(np.float32) / 255, split.labels.numpy())
        for split in (data.train, data.test)
    )


#: What is installed here, by the name of its package.
FRAMEWORKS: dict[str, Contender] = {
    name: contender
    for name, contender in (("lightning", lightning), ("keras", keras), ("flax", flax))
    if importlib.util.find_spec(name)
}
