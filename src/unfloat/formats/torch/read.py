"""Read a PyTorch model: torch.export, then one table lookup an operator.

The reader is literal. It keeps the model's own order of axes, NCHW: every operator that is defined on channels-last
images is written as transpose, operator, transpose, and `passes/sink_transposes.py` does away with the transposes.

Names: a node that a torch.nn module makes, or any module with its own `weight`, has the module's path
("features.0.1"); one that other code makes has the path of the module whose forward() calls it and the function's name
("layer1.0:add"). A second one of the same name ends in ":2". A node that only helps another one ends in what it does
("conv1:channels_last").
"""

from __future__ import annotations

import torch
from torch import nn
from torch.export import ExportedProgram

from unfloat.formats.torch.border import idle_integers, read_inputs, read_outputs
from unfloat.formats.torch.export import branches_on_batch, export
from unfloat.formats.torch.interpreter import Interpreter
from unfloat.ir.graph import Graph
from unfloat.spec.errors import UnsupportedError


def read(
    model: nn.Module | ExportedProgram, example_inputs: object = (), *, training: bool = False, frozen: bool = False
) -> Graph:
    """Read a model into a Graph. The model is not changed, and its parameters are referred to by name.

    Args:
        model: A module, or what torch.export made of one.
        example_inputs: What the model is called with: a tensor, a tuple of arguments, or a dict of arguments by name.
            Any batch size serves; none is baked in. Not needed for an ExportedProgram.
        training: Read what the model computes while it trains (dropout is kept) instead of what `eval()` computes.
        frozen: No training follows: what depends on parameters alone, as a normalised weight, becomes a constant.

    Returns:
        The Graph, in the model's own layout, before any pass.

    Raises:
        UnsupportedError: Everything in the model that cannot be read, all of it listed.
    """
    if not isinstance(model, nn.Module | ExportedProgram):
        raise UnsupportedError(f"required a torch.nn.Module or an ExportedProgram, found {type(model).__name__}", [])
    if isinstance(model, nn.Module):
        _require_plain(model)
    program = model if isinstance(model, ExportedProgram) else export(model, example_inputs, training)
    interpreter = Interpreter(training, frozen)
    inputs, arguments = read_inputs(program, interpreter)
    interpreter.problems += branches_on_batch(program) if program is not model else ()
    results = interpreter.run(program.graph_module, arguments)
    outputs, structure = read_outputs(program, interpreter, results)
    nodes = interpreter.build.nodes
    named = {param.name for node in nodes for param in node.params.values()}
    constants = {name: array for name, array in interpreter.build.constants.items() if name in named}
    graph = Graph(inputs, tuple(nodes), outputs, constants, structure)
    interpreter.problems += [] if interpreter.problems else idle_integers(graph, interpreter)
    if interpreter.problems:
        count = len(interpreter.problems)
        summary = f"the model has {count} operation{'s' * (count > 1)} that Unfloat cannot read"
        raise UnsupportedError(summary, interpreter.problems)
    return graph


def _require_plain(model: nn.Module) -> None:
    """Refuse what torch.export cannot trace, or traces to other types than a Graph's.

    Raises:
        UnsupportedError: A module is scripted, or a parameter is not float32.
    """
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            found = f"found {type(module).__name__}{f' as {path}' if path else ''}"
            problem = "a scripted or traced module (torch.jit) cannot be exported"
            raise UnsupportedError(f"{problem}, {found}; try: the torch.nn.Module that it was made of", [])
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            raise UnsupportedError(
                f"parameters must be float32, found {name} of {parameter.dtype}; try: model.float()", []
            )
