"""Clamp codes in TFLite's words: a fused activation where its codes are the instruction's, else MAXIMUM and MINIMUM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unfloat.formats.tflite.model import Field
from unfloat.formats.tflite.scope import Scope
from unfloat.spec.qparams import QParams, clamp_code

Codes = tuple[int, int]
BOUNDS = {
    "NONE": (-float("inf"), float("inf")),
    "RELU": (0.0, float("inf")),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}


def activation_codes(activation: str, label: QParams) -> Codes:
    """The codes between which TFLite's kernels clamp: they know the storage type's range, not a label's bits."""
    stored = whole_storage(label)
    low, high = BOUNDS[activation]
    return clamp_code(low, stored), clamp_code(high, stored)


def whole_storage(label: QParams) -> QParams:
    """The label with all the bits of its storage."""
    return label if label.dtype == "int16" else replace(label, bits=8)


def fused_activation(clamp: Codes, label: QParams) -> str:
    """The activation that leaves the fewest bounds to further operators and cuts off no code between them."""
    codes = {activation: activation_codes(activation, label) for activation in BOUNDS}
    harmless = [name for name, (low, high) in codes.items() if low <= clamp[0] and clamp[1] <= high]
    return min(harmless, key=lambda name: sum(a != b for a, b in zip(codes[name], clamp, strict=True)))


def emit_fused(
    scope: Scope,
    builtin: str,
    inputs: Sequence[str],
    output: str,
    clamp: Codes,
    *,
    version: int | None = None,
    **fields: Field,
) -> None:
    """An operator that takes an activation, and what the activation leaves of the clamp."""
    label = scope.label(output)
    activation = fused_activation(clamp, label)
    done = activation_codes(activation, label)
    fields["FusedActivationFunction"] = ("ActivationFunctionType", activation)
    _emit_bounded(scope, builtin, inputs, output, clamp, done, version, fields)


def emit_plain(scope: Scope, builtin: str, inputs: Sequence[str], output: str, clamp: Codes, **fields: Field) -> None:
    """An operator that saturates to its storage type, and the clamp after it."""
    _emit_bounded(scope, builtin, inputs, output, clamp, activation_codes("NONE", scope.label(output)), None, fields)


def _emit_bounded(
    scope: Scope,
    builtin: str,
    inputs: Sequence[str],
    output: str,
    clamp: Codes,
    done: Codes,
    version: int | None,
    fields: dict[str, Field],
) -> None:
    """The operator, then MAXIMUM and MINIMUM for the bounds that are not `done`."""
    bounds = [
        (name, code) for name, code, already in zip(("MAXIMUM", "MINIMUM"), clamp, done, strict=True) if code != already
    ]
    steps = [scope.between(f"{output}/before_{name.lower()}", output) for name, _ in bounds]
    targets = [*steps, output]
    scope.emit(builtin, inputs, targets[0], version=version, **fields)
    for (name, code), source, target in zip(bounds, steps, targets[1:], strict=True):
        limit = scope.codes(f"{output}/{name.lower()}", [code], scope.label(output))
        scope.emit(name, (source, limit), target)
