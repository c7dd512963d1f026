"""What a network is made of, as a short text that is another where the network is another one."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import tokenize
from collections.abc import Iterator

from torch import fx, nn

#: Hexadecimal digits: enough that no two networks of a user's have the same by chance.
DIGITS = 16

_LEFT_OUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def digest(network: nn.Module) -> str:
    """Of the layers with their settings, and of the code of classes that are not PyTorch's.

    The weights don't count, nor does where a class was defined, nor comments or the layout of code.
    """
    whole = hashlib.sha256()
    for path, module in network.named_modules(remove_duplicate=False):
        whole.update(f"{path}: {_description(module)}\n".encode())
    return whole.hexdigest()[:DIGITS]


def _description(module: nn.Module) -> str:
    kind = type(module)
    if isinstance(module, fx.GraphModule):
        return _tokens(module.code)
    if kind.__module__.startswith("torch."):
        return f"{kind.__name__}({module.extra_repr()})"
    own = [each for each in kind.__mro__ if not each.__module__.startswith(("torch.", "builtins"))]
    return f"{kind.__name__} {' '.join(text for each in own for text in _code(each))}"


def _code(kind: type) -> Iterator[str]:
    """What a class itself has: its functions, and its plain values."""
    for name, value in vars(kind).items():
        if inspect.isfunction(value):
            # Of functions, not of the class: that would be parsed, which in Python 3.11 two threads
            # can't do at once. What was typed at a prompt has no source.
            with contextlib.suppress(OSError, TypeError):
                yield _tokens(inspect.getsource(value))
        elif isinstance(value, int | float | str | tuple) and not name.startswith("__"):
            yield f"{name} = {value!r}"


def _tokens(code: str) -> str:
    """Code without its comments and its layout."""
    try:
        found = list(tokenize.generate_tokens(io.StringIO(inspect.cleandoc(code)).readline))
    except (tokenize.TokenError, SyntaxError):
        return code
    return " ".join(token.string for token in found if token.type not in _LEFT_OUT)
