"""Read a `.tflite` file of real numbers into a Graph, through the same operator table: to quantize what Keras made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unfloat.formats.tflite import halves
from unfloat.formats.tflite.activation import BOUNDS
from unfloat.formats.tflite.builtins import UnreadableError
from unfloat.formats.tflite.decode import decode
from unfloat.formats.tflite.draft import Draft
from unfloat.formats.tflite.model import TfModel, TfOperator
from unfloat.formats.tflite.read import drafted, require_choosing
from unfloat.ir.graph import EMPTY, Clamp, Graph, Node, Param
from unfloat.ir.instruction import Tensor
from unfloat.ops import REGISTRY
from unfloat.ops._indices import rows_by_index
from unfloat.program.file import naming, read_bytes
from unfloat.spec.qparams import QParams

CONVERTERS_CLIP = 10.0  # of a cell: what converters write for layers that clip nothing
ELSEWHERE = {"clamp", "cell_clip"}  # a slot of the node; what `clip_code` leaves out
UNIT = QParams((1.0,))  # of every value here, so that operators which share QParams agree


def read(path: str | Path, example_inputs: object = (), *, training: bool = False, frozen: bool = False) -> Graph:
    """Read a float model.

    Args:
        path: A `.tflite` file of float32 tensors; constants may be float16.
        example_inputs: Not needed: the file knows its shapes.
        training: Not needed: a file has one form.
        frozen: Not needed: a file's weights are constants.

    Returns:
        The Graph, in the file's own layout (NHWC), before any pass; its weights are the Graph's constants.

    Raises:
        InvalidProgramError: The file is damaged; the message names the field.
        UnsupportedError: Operators that Unfloat does not know, all of them at once.
        MissingExtraError: The package of the extra `tflite` is not installed.
        OSError: There is no such file, or it cannot be read.
    """
    with naming(path):
        model = halves.undo(decode(read_bytes(path)))
    draft, border = drafted(model, FloatDraft)
    inputs = tuple(replace(port, name=port.value) for port in border.inputs)
    graph = Graph(inputs, tuple(draft.nodes), border.outputs, draft.arrays, border.structure)
    require_choosing(draft.model, inputs, rows_by_index(graph.nodes, graph.shapes()))
    return graph


class FloatDraft(Draft):
    """The Graph being made. Where an integer Draft makes codes' constants, this one keeps real parameters.

    States do not travel with what calibrates: each run begins anew, as it does in the layer that was converted.
    """

    filler = "add"
    carried = 0

    def __init__(self, model: TfModel, lead: int) -> None:
        """Begin with nothing; see `Draft`."""
        super().__init__(model, lead)
        self.nodes: list[Node] = []
        self.arrays: dict[str, np.ndarray] = {}

    def label(self, name: str | None) -> QParams:
        """One for all real numbers; codes have no place in a float model."""
        tensor = self.tensor(name)
        if tensor.dtype != "float32" and not tensor.is_index:
            required = "required float32 in a model to quantize"
            raise UnreadableError(
                f"{required}, found {tensor.dtype} in {tensor.name}: unfloat.load reads quantized files"
            )
        return UNIT

    def reason(self, operator: TfOperator) -> str:
        """Real numbers are no reason to refuse an operator here."""
        return ""

    def codes_of(self, name: str) -> str:
        """An input's real numbers are the value itself."""
        return name

    def input_name(self, user: str, codes: str) -> str:
        """A Graph knows one name for both, the user's."""
        return user

    def weights(
        self, source: str, weight: tuple[np.ndarray, QParams], bias: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, QParams], dict[str, Any]]:
        """The parameters as they are."""
        return {"weight": weight[0], "bias": bias}, {}, {}

    def clamp_by(self, activation: str, output: str) -> dict[str, Any]:
        """The node's clamp slot, where there is an activation."""
        return {} if activation == "NONE" else {"clamp": Clamp(*BOUNDS[activation])}

    def clip_code(self, bound: float, label: QParams) -> int:
        """None: a lowered cell saturates beyond a bound of its own, where its tanh is 1."""
        if 0 < bound < CONVERTERS_CLIP:
            raise UnreadableError(f"required no clip of the cell below {CONVERTERS_CLIP}, found {bound}")
        return 0

    def border(self, name: str | None) -> dict[str, Any]:
        """Zeros, which a node's border is made of."""
        real = self.single(name)
        if real != 0:
            raise UnreadableError(f"required a border of zeros in a model to quantize, found {real}")
        return {}

    def cuts(self, operator: TfOperator) -> bool:
        """Whether the operator has an activation."""
        return bool(self.clamp(operator))

    def bounded(self, output: str, source: str, bound: np.ndarray, *, below: bool) -> None:
        """A clamp on one side."""
        real, infinity = float(bound.reshape(-1)[0]), float("inf")
        self.narrowed(output, source, {"clamp": Clamp(real, infinity) if below else Clamp(-infinity, real)})

    def narrowed(self, output: str, source: str, clamp: Mapping[str, Any]) -> None:
        """A node of its own; a pass joins it to the one before."""
        self.define(output, "rescale", (self.operand(source),), clamp)

    def emit(
        self,
        op: str,
        inputs: Sequence[str],
        label: QParams,
        attributes: Mapping[str, Any],
        constants: Mapping[str, np.ndarray] = EMPTY,
        labels: Mapping[str, QParams] = EMPTY,
        name: str | None = None,
    ) -> str:
        """Append a node; what only an instruction has is left out.

        Raises:
            UnreadableError: It is one that cannot begin anew with each run, or means what no node says.
        """
        if REGISTRY[op].states is not None and attributes.get("carried", 1):
            raise UnreadableError(
                f"{op} lives on what earlier runs left, of which samples to calibrate with say nothing"
            )
        name = self.unused(name or f"{inputs[0]}/{op}")
        params = {role: Param(f"{name}.{role}") for role in constants}
        self.arrays |= {f"{name}.{role}": np.asarray(array, np.float32) for role, array in constants.items()}
        held = {*REGISTRY[op].attributes, *REGISTRY[op].optional}
        if lost := attributes.keys() - held - ELSEWHERE:
            raise UnreadableError(f"required {op} without {', '.join(sorted(lost))} in a model to quantize")
        own = {role: value for role, value in attributes.items() if role in held}
        shape = self.made_by(op, inputs, attributes, constants)
        self.nodes.append(Node(name, op, tuple(inputs), shape, own, params, clamp=attributes.get("clamp")))
        self.tensors[name] = Tensor(name, shape, label)
        return name

    def declared(self, name: str, content: np.ndarray, label: QParams) -> str:
        """A node of its own."""
        name = super().declared(name, content, label)
        self.arrays[f"{name}.value"] = np.asarray(content, np.float32)
        self.nodes.append(Node(name, "constant", (), content.shape, params={"value": Param(f"{name}.value")}))
        return name

    def gap(self, label: QParams) -> dict[str, Any]:
        """Zeros, to which constants are added."""
        return {}
