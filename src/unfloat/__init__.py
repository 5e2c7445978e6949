"""Unfloat turns a floating-point network into one that computes with integers only, the same bits everywhere."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from unfloat.api import certify, compare, compile_program, convert, export, fit, load, prepare, quantize, survey
from unfloat.program.program import Program
from unfloat.spec.errors import (
    CalibrationError,
    ExportError,
    InputError,
    InvalidGraphError,
    InvalidProgramError,
    MissingExtraError,
    NumericDomainError,
    PeerError,
    RecipeError,
    TrainingError,
    TrainingWarning,
    UnfloatError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from unfloat.quant.recipe import InputSpec, Override, Recipe, Training

__version__ = "0.1.0"
__all__ = [
    "CalibrationError",
    "ExportError",
    "InputError",
    "InputSpec",
    "InvalidGraphError",
    "InvalidProgramError",
    "MissingExtraError",
    "NumericDomainError",
    "Override",
    "PeerError",
    "Program",
    "Recipe",
    "RecipeError",
    "Training",
    "TrainingError",
    "TrainingWarning",
    "UnfloatError",
    "UnsupportedError",
    "certify",
    "compare",
    "compile_program",
    "convert",
    "export",
    "fit",
    "load",
    "prepare",
    "quantize",
    "survey",
]


def __dir__() -> list[str]:
    """What there is, recipes too."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Recipes, which a process that only runs a program starts without."""
    if name in ("InputSpec", "Override", "Recipe", "Training"):
        return getattr(importlib.import_module("unfloat.quant.recipe"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
