"""Unfloat turns a floating-point network into one that computes with integers only, the same bits everywhere."""

from unfloat.api import certify, compare, compile_program, convert, export, fit, load, prepare, quantize, survey
from unfloat.program.program import Program
from unfloat.quant.recipe import InputSpec, Override, Recipe, Training
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
