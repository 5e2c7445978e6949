"""How near one set of logits is to another on the same pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

COLUMNS = ("top-1 float", "top-1 integer", "difference ± standard error", "same class", "KL", "logit SQNR")


@dataclass(frozen=True)
class Agreement:
    """Integer beside float on the same pictures.

    Attributes:
        top1_float: Share of pictures the reference names right, in percent.
        top1: The same of what was found.
        paired_error: Standard error of the difference of the two, in percent points.
        same: Share of pictures of which both name the same class, in percent.
        divergence: Mean over the pictures of KL(reference || found) of the softmaxes, in nats.
        sqnr: Energy of the reference logits over that of the difference, in dB; infinite where there is none.
    """

    top1_float: float
    top1: float
    paired_error: float
    same: float
    divergence: float
    sqnr: float

    def cells(self) -> list[str]:
        """For a results row."""
        difference = f"{self.top1 - self.top1_float:+.2f} ± {self.paired_error:.2f}"
        return [
            f"{self.top1_float:.2f}",
            f"{self.top1:.2f}",
            difference,
            f"{self.same:.2f} %",
            f"{self.divergence:.4f}",
            f"{self.sqnr:.2f} dB",
        ]


def compare(reference: np.ndarray, found: np.ndarray, labels: np.ndarray) -> Agreement:
    """Measure the agreement of two sets of logits.

    Args:
        reference: The float network's logits (N, classes), N >= 2.
        found: The other network's, on the same pictures.
        labels: The pictures' classes (N,).

    Raises:
        ValueError: The three are not of one size.
    """
    if reference.shape != found.shape or labels.shape != reference.shape[:1]:
        shapes = f"{reference.shape}, {found.shape} and {labels.shape}"
        raise ValueError(f"logits must be twice (N, classes) and labels (N,), found {shapes}: use the same pictures")
    right_float, right = reference.argmax(1) == labels, found.argmax(1) == labels
    differences = right.astype(float) - right_float
    p, q = (log_softmax(logits) for logits in (reference, found))
    divergence = (np.exp(p) * (p - q)).sum(1).mean()
    signal, noise = (reference**2).sum(), ((found - reference) ** 2).sum()
    return Agreement(
        100 * right_float.mean(),
        100 * right.mean(),
        100 * differences.std(ddof=1) / np.sqrt(len(labels)),
        100 * (reference.argmax(1) == found.argmax(1)).mean(),
        float(divergence),
        float(10 * np.log10(signal / noise)) if noise else math.inf,
    )


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """In float64."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
