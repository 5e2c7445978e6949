"""What can go wrong, by kind. Every message names the place, what was required, what was found, what to try."""

from __future__ import annotations

from collections.abc import Sequence


class UnfloatError(Exception):
    """The root of every error that Unfloat raises for a user's input."""


class NumericDomainError(UnfloatError, ValueError):
    """A number lies outside the domain of the arithmetic: NaN, infinity, or a factor no shift can hold."""


class InvalidGraphError(UnfloatError):
    """A Graph breaks its own rules; raised between passes."""


class InvalidProgramError(UnfloatError):
    """A Program, or a file that should hold one, breaks the rules of `program/verify.py`."""


class RecipeError(UnfloatError, ValueError):
    """A Recipe asks for something that does not exist or cannot be combined."""


class CalibrationError(UnfloatError, ValueError):
    """Calibration data are missing, of the wrong shape or dtype, or not finite."""


class TrainingError(UnfloatError):
    """A student cannot go on: its training diverged, a range collapsed, or its state is not what was expected."""


class TrainingWarning(UserWarning):
    """Something about a student that is legal but seldom meant."""


class InputError(UnfloatError, ValueError):
    """An array given to an Engine is not what its Program takes."""


class ExportError(UnfloatError):
    """The target format cannot say what the Program says."""


class PeerError(UnfloatError):
    """Another runtime is not there, refuses its file, or dies."""


class MissingExtraError(UnfloatError, ImportError):
    """An optional dependency is not installed; the message names the extra."""

    @classmethod
    def of(cls, need: str, extra: str) -> MissingExtraError:
        """The error of one extra: what needs which package, and how README.md installs it."""
        return cls(f"{need}, which Unfloat's extra {extra!r} brings: pip install '.[{extra}]' in a clone of Unfloat")


class UnsupportedError(UnfloatError):
    """Operators that Unfloat does not know, all of them at once.

    Attributes:
        problems: One line each: module path, source line, operator, reason.
    """

    def __init__(self, summary: str, problems: Sequence[str]) -> None:
        """Keep the problems apart from the sentence that introduces them."""
        self.problems = tuple(problems)
        super().__init__("\n  - ".join([summary, *self.problems]))
