"""Where a call of an exported graph comes from: module, line, operator."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import fx

TORCH = str(Path(torch.__file__).parent)
WITHOUT_GRAD = "wrap_with_set_grad_enabled"  # a call of calls
FRAME = re.compile(r'File "(.+?)", line (\d+)')


def aten_name(node: fx.Node) -> str:
    """The operator without overload, "relu" for relu_ too."""
    target: Any = node.target
    packet = getattr(target, "overloadpacket", target)
    name = str(getattr(packet, "__name__", packet))
    return name.removesuffix("_") if in_place(node) else name


def qualified_name(node: fx.Node) -> str:
    """The operator as torch spells it, "aten.relu", for messages."""
    schema = getattr(node.target, "_schema", None)
    return aten_name(node) if schema is None else f"{schema.name.split('::')[0]}.{aten_name(node)}"


def in_place(node: fx.Node) -> bool:
    """Whether the call writes into its first argument."""
    schema = getattr(node.target, "_schema", None)
    return bool(schema is not None and schema.is_mutable and schema.name.endswith("_"))


def _module(node: fx.Node) -> tuple[str, str]:
    """Path and class of the innermost module."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    return str(path), kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"


def module_path(node: fx.Node) -> str:
    """The path of the module whose forward() calls the operator, "" for the model itself."""
    return _module(node)[0]


def node_name(node: fx.Node, parameters: Collection[str] = ()) -> str:
    """The name of the node to be, given the parameters that the call reads: see `read.py`."""
    path, kind = _module(node)
    if path and (kind.startswith("torch.nn.") or f"{path}.weight" in parameters):
        return path
    return f"{path}:{aten_name(node)}" if path else aten_name(node)


def source_line(node: fx.Node) -> str:
    """The line of the innermost forward() that is not torch's own, "file:line", or ""."""
    frames = FRAME.findall(node.meta.get("stack_trace") or "")
    user = [f"{file}:{line}" for file, line in frames if not file.startswith((TORCH, "torch/"))]
    return user[-1] if user else ""
