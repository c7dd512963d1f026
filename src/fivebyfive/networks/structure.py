"""What a network is made of, as a short text that is another where the network is another one."""

from __future__ import annotations

import hashlib
import inspect
import io
import tokenize

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
    try:
        return f"{kind.__name__} {_tokens(inspect.getsource(kind))}"
    except (OSError, TypeError):  # typed at a prompt
        return kind.__name__


def _tokens(code: str) -> str:
    """Code without its comments and its layout."""
    try:
        found = list(tokenize.generate_tokens(io.StringIO(inspect.cleandoc(code)).readline))
    except (tokenize.TokenError, SyntaxError):
        return code
    return " ".join(token.string for token in found if token.type not in _LEFT_OUT)
