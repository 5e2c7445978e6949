"""Comparison: what `unfloat.compare` found, as data; this file needs no PyTorch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import tomli_w

from unfloat.quant.recipe import Override


@dataclass(frozen=True)
class SiteComparison:
    """One value of the Program beside the float network's.

    Attributes:
        name: The layer's name, or the input's.
        op: Its operator, or "input".
        sqnr_db: Signal-to-quantization-noise ratio of the Program's value, dB: all error up to here. Infinite: none.
        own_sqnr_db: The same for the noise that is born here: the layer's integers on the float network's inputs,
            quantized, against the layer's float meaning of those same quantized inputs. Layers that only move codes
            add none. Corrections of biases are left out: they make up for noise from elsewhere too.
        clipped_share: The share of the float network's values that no code of this site reaches (0 to 1). Values that
            a fused clamp stops are within reach: the float network stops them too.
        max_abs: The greatest magnitude in the float network.
        bits: Of the site's codes.
        weight_bits: Of the weight's codes, None where there is no weight.
        cause: What most of the noise born here comes from: "clipping", "rounding" or "weights"; "" without noise.
        suggestion: The override to try, None where there is nothing to mend or no override would.
        advice: The same, or what to try instead, in words; "" where there is nothing to mend.
    """

    name: str
    op: str
    sqnr_db: float
    own_sqnr_db: float
    clipped_share: float
    max_abs: float
    bits: int
    weight_bits: int | None
    cause: str
    suggestion: Override | None
    advice: str


@dataclass(frozen=True)
class OutputComparison:
    """One output of the network.

    Attributes:
        name: The user's name.
        sqnr_db: As for a site.
        same_argmax: The share of samples whose greatest value stands in the same place in the float network; None
            where the output is not one row of several numbers a sample.
    """

    name: str
    sqnr_db: float
    same_argmax: float | None


@dataclass(frozen=True)
class Comparison:
    """A Program beside the float network it was made from.

    Attributes:
        sites: Every value of the Program, the one that adds the most noise of its own first.
        outputs: In the network's order.
        samples: How many samples were compared.
    """

    sites: tuple[SiteComparison, ...]
    outputs: tuple[OutputComparison, ...]
    samples: int

    def overrides(self) -> tuple[Override, ...]:
        """The suggestions, each once, the worst site's first; to append to a Recipe's."""
        return tuple(dict.fromkeys(site.suggestion for site in self.sites if site.suggestion is not None))

    def to_toml(self) -> str:
        """The suggestions as [[override]] tables, to paste at the end of a recipe; "" where there is none."""
        return "\n".join("[[override]]\n" + tomli_w.dumps(override_record(o)) for o in self.overrides())

    def record(self) -> dict[str, Any]:
        """For scripts: what JSON can hold. An infinite ratio (no noise, or noise without a signal) is None."""
        sites = []
        for site in self.sites:
            suggestion = site.suggestion and override_record(site.suggestion)
            sites.append({**_finite(asdict(site)), "suggestion": suggestion})
        outputs = [_finite(asdict(output)) for output in self.outputs]
        return {"samples": self.samples, "outputs": outputs, "sites": sites, "toml": self.to_toml()}


def override_record(override: Override) -> dict[str, Any]:
    """The wishes of an override by name."""
    wishes = {f.name: getattr(override, f.name) for f in fields(override)}
    return {name: wish for name, wish in wishes.items() if wish is not None}


def decibels(signal: float, noise: float) -> float:
    """`10 log10(signal / noise)` of two sums of squares: inf without noise, -inf with nothing but noise."""
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
