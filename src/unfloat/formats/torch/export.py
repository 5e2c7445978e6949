"""From a module to an ExportedProgram with any number of samples, the module left as it was."""

from __future__ import annotations

import contextlib
import inspect
import io
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from unfloat.formats.torch.linear import CUMULATIVE
from unfloat.formats.torch.origin import TORCH
from unfloat.spec.errors import UnsupportedError

Examples = tuple[tuple[Any, ...], dict[str, Any]]


def export(model: nn.Module, example_inputs: object, training: bool) -> ExportedProgram:
    """Trace a module with a free batch size.

    Args:
        model: Any module; its training flags are restored.
        example_inputs: A tensor, a tuple of arguments, or a dict of arguments by name.
        training: Trace what training runs (flags as they are if the module is in training) or what evaluation runs.

    Raises:
        UnsupportedError: torch.export cannot trace it; the cause is kept.
    """
    examples = _arguments(model, example_inputs)
    with _mode(model, training), torch.set_grad_enabled(training):
        try:
            return _trace(model, _two_samples(examples), dynamic=True)
        except Exception as error:  # torch.export raises whatever the model's own code runs into
            # A model that insists on its batch size: what it does with one is read as what it does with any.
            with contextlib.suppress(Exception):
                return _trace(model, examples, dynamic=False)
            raise UnsupportedError("torch.export cannot trace this model", [_reason(error)]) from error


def _arguments(model: nn.Module, example_inputs: object) -> Examples:
    """Positional and named arguments; the latter in the order in which the model takes them, not the mapping's."""
    if isinstance(example_inputs, Mapping):
        order = [name for name in inspect.signature(model.forward).parameters if name in example_inputs]
        return (), {name: example_inputs[name] for name in [*order, *(n for n in example_inputs if n not in order)]}
    if isinstance(example_inputs, Sequence):
        return tuple(example_inputs), {}
    return (example_inputs,), {}


@contextlib.contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    """The whole model in one mode. A model already in training keeps parts that the user froze with `eval()`."""
    flags = [(module, module.training) for module in model.modules()]
    cumulative = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.momentum is None]
    if model.training != training or not training:
        model.train(training)
    for norm in cumulative:
        norm.momentum = CUMULATIVE
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag
        for norm in cumulative:
            norm.momentum = None


def _two_samples(examples: Examples) -> Examples:
    """The examples with at least two samples: torch.export takes a size of 1 for a constant."""
    sizes = [leaf.shape[0] for leaf in pytree.tree_leaves(examples) if isinstance(leaf, torch.Tensor) and leaf.dim()]
    count = max([2, *sizes])

    def repeated(leaf: object) -> object:
        alone = isinstance(leaf, torch.Tensor) and leaf.dim() > 0 and leaf.shape[0] == 1
        return torch.cat([leaf] * count) if alone else leaf

    return pytree.tree_map(repeated, examples)


def _trace(model: nn.Module, examples: Examples, dynamic: bool) -> ExportedProgram:
    args, kwargs = examples
    shapes = ShapesCollection()
    for leaf in pytree.tree_leaves(examples):
        if dynamic and isinstance(leaf, torch.Tensor) and leaf.dim():
            shapes[leaf] = {0: Dim.AUTO}
    unread = io.StringIO()  # failing, torch.export prints graphs
    with contextlib.redirect_stdout(unread), contextlib.redirect_stderr(unread), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The tensor attributes? self", UserWarning)  # a recurrent layer's own lists
        return torch.export.export(model, args, kwargs, dynamic_shapes=shapes if dynamic else None, strict=False)


def branches_on_batch(program: ExportedProgram) -> Iterator[str]:
    """A problem for each batch size that the model has compared with a number: only one side of it was traced."""
    for limits in program.range_constraints.values():
        if limits.lower > 2 or limits.upper < sys.maxsize:  # 2 is torch.export's own: it takes 1 for a constant
            sizes = f"of {limits.lower} or more" if limits.lower > 2 else f"of {limits.upper} or less"
            yield f"the model: it branches on the batch size, read with batches {sizes}; try: one way for any batch"


def _reason(error: Exception) -> str:
    """The user's own line, and the first line of what torch says."""
    frames = traceback.extract_tb(error.__traceback__)
    foreign = (TORCH, __file__, "<string>")  # the last is code that torch generates
    user = [frame for frame in frames if not frame.filename.startswith(foreign)]
    where = f"{user[-1].filename}:{user[-1].lineno}: " if user else ""
    first = str(error).strip().splitlines() or [""]
    hint = "; try: no branch on the values of a tensor" if "data-dependent" in first[0] else ""
    return f"{where}{type(error).__name__}: {first[0]}{hint}"
