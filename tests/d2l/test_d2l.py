"""The names, and the signatures the book's code relies on."""

from __future__ import annotations

import inspect

import pytest

from fivebyfive import d2l

SIGNATURES = {
    "Accumulator": "(n)",
    "Accumulator.add": "(self, *args)",
    "Accumulator.reset": "(self)",
    "Animator": "(xlabel=None, ylabel=None, legend=None, xlim=None, ylim=None, xscale='linear', "
    "yscale='linear', fmts=('-', 'm--', 'g-.', 'r:'), nrows=1, ncols=1, figsize=(3.5, 2.5))",
    "Animator.add": "(self, x, y)",
    "Residual": "(input_channels, num_channels, use_1x1conv=False, strides=1)",
    "Timer": "()",
    "Timer.avg": "(self)",
    "Timer.cumsum": "(self)",
    "Timer.start": "(self)",
    "Timer.stop": "(self)",
    "Timer.sum": "(self)",
    "accuracy": "(y_hat, y)",
    "corr2d": "(X, K)",
    "evaluate_accuracy": "(net, data_iter)",
    "evaluate_accuracy_gpu": "(net, data_iter, device=None)",
    "get_fashion_mnist_labels": "(labels)",
    "load_array": "(data_arrays, batch_size, is_train=True)",
    "load_data_fashion_mnist": "(batch_size, resize=None)",
    "plot": "(X, Y=None, xlabel=None, ylabel=None, legend=None, xlim=None, ylim=None, "
    "xscale='linear', yscale='linear', fmts=('-', 'm--', 'g-.', 'r:'), figsize=(3.5, 2.5), "
    "axes=None)",
    "predict_ch3": "(net, test_iter, n=6)",
    "set_axes": "(axes, xlabel, ylabel, xlim, ylim, xscale, yscale, legend)",
    "set_figsize": "(figsize=(3.5, 2.5))",
    "sgd": "(params, lr, batch_size)",
    "show_images": "(imgs, num_rows, num_cols, titles=None, scale=1.5)",
    "train_ch3": "(net, train_iter, test_iter, loss, num_epochs, updater)",
    "train_ch6": "(net, train_iter, test_iter, num_epochs, lr, device)",
    "train_epoch_ch3": "(net, train_iter, loss, updater)",
    "try_all_gpus": "()",
    "try_gpu": "(i=0)",
    "use_svg_display": "()",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature_is_the_books(name):
    target = d2l
    for part in name.split("."):
        target = getattr(target, part)
    signature = inspect.signature(target)
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    assert str(inspect.Signature(bare)) == SIGNATURES[name]


def test_all_is_sorted_and_there():
    assert d2l.__all__ == sorted(d2l.__all__)
    for name in d2l.__all__:
        assert getattr(d2l, name) is not None


def test_plt_is_pyplot():
    from matplotlib import pyplot

    assert d2l.plt is pyplot


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'train_ch7'"):
        d2l.train_ch7  # noqa: B018
