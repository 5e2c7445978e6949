"""What to try at a site that adds much noise. Thresholds and rules of thumb; each says only what was measured.

A site is bad where its own SQNR is below `FLOOR_DB` at 8 bits, or `MARGIN_DB` below the median of all sites. Noise has
three causes, and the greatest decides:

- clipping: values beyond the window. Try `ranges = "minmax"`; where the range already is the least and greatest value
  that calibration saw, only other calibration data help.
- weights: what the codes of weight and bias lose. Try 8 bits; else a scale for each channel; else training.
- rounding: what is left. Where a narrower window would have at most half the error on these very values, rare outliers
  stretch it: try `ranges = "mse"`; and "percentile" where that is not enough, because calibration saw an outlier so far
  out that its square outweighs all else. Else training.

At fewer than 8 activation bits clipping and rounding are two sides of one trade: more bits help both.
"""

from __future__ import annotations

import glob
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unfloat.ir.graph import Graph
from unfloat.quant.comparison import decibels, override_record
from unfloat.quant.recipe import Override, Recipe
from unfloat.quant.sites import Site, find_sites

FLOOR_DB = 20.0  # at 8 bits: a tenth of the signal's amplitude is noise
MARGIN_DB = 10.0  # below the median: ten times the noise power of the layer in the middle
WORTH = 2.0  # times less error: what another window must promise
NARROWING = ("mse", "percentile")  # rules that leave outliers out, the more careful one first
HEEDING = ("minmax", "moving_average")  # rules that do not
BITS = 8
TRAIN = "fine-tune with quantization in the loop (unfloat.prepare)"


@dataclass(frozen=True)
class Finding:
    """What was measured at one site; noises are sums of squares over the same values.

    Attributes:
        name: The value.
        signal: Of the float network's values.
        noise: Born here.
        weights, clipping: Parts of `noise`.
        gains: How many times less the window of each rule in `NARROWING`, chosen for these values, errs on them.
    """

    name: str
    signal: float
    noise: float
    weights: float
    clipping: float
    gains: Mapping[str, float]

    @property
    def own_sqnr_db(self) -> float:
        """See `SiteComparison`."""
        return decibels(self.signal, self.noise)

    @property
    def cause(self) -> str:
        """See `SiteComparison`."""
        if not self.noise:
            return ""
        rounding = self.noise - self.weights - self.clipping
        parts = {"clipping": self.clipping, "weights": self.weights, "rounding": rounding}
        return max(parts, key=parts.__getitem__)


@dataclass(frozen=True)
class Advice:
    """The override to try, if one can help, and the same in words."""

    override: Override | None = None
    text: str = ""


def advise(findings: Sequence[Finding], graph: Graph, recipe: Recipe) -> dict[str, Advice]:
    """Advice for the bad sites, by name."""
    sites = {value: site for site in find_sites(graph, recipe) for value in site.values}
    constants = {node.name for node in graph.nodes if not node.inputs}  # a few numbers, almost always exact
    ratios = [f.own_sqnr_db for f in findings if math.isfinite(f.own_sqnr_db) and f.name not in constants]
    median = statistics.median(ratios) if ratios else math.inf
    return {f.name: _advice(f, sites[f.name], graph, recipe) for f in findings if _bad(f, sites[f.name], median)}


def _bad(finding: Finding, site: Site, median: float) -> bool:
    below_floor = site.bits == BITS and finding.own_sqnr_db < FLOOR_DB
    return below_floor or finding.own_sqnr_db < median - MARGIN_DB


def _advice(finding: Finding, site: Site, graph: Graph, recipe: Recipe) -> Advice:
    if finding.cause == "weights":
        return _for_weights(finding.name, recipe)
    if site.fixed is not None:
        return Advice(text="none: the operator dictates its range")
    if site.bits < BITS:
        return _more_bits(site, graph, recipe)
    rule = recipe.wish(site.makers[0], "ranges")
    if finding.cause == "clipping":
        if rule == "minmax":
            return Advice(text="calibrate on data like these: they go beyond the range that calibration saw")
        return _range(site, graph, "minmax")
    tried = {"percentile": NARROWING, **dict.fromkeys(HEEDING, ())}.get(rule, ("mse",))
    worth = [rule for rule in NARROWING if rule not in tried and finding.gains[rule] > WORTH]
    return _range(site, graph, worth[0]) if worth else Advice(text=TRAIN)


def _for_weights(name: str, recipe: Recipe) -> Advice:
    if recipe.wish(name, "weight_bits") < BITS:
        return _overriding(Override(glob.escape(name), weight_bits=BITS))
    if recipe.scheme == "uint8":
        return Advice(text='scheme = "int8" for the whole recipe: a weight scale for each channel; or equalize = true')
    return Advice(text=TRAIN)


def _more_bits(site: Site, graph: Graph, recipe: Recipe) -> Advice:
    """Of the names in a shared site, the first whose wish decides its bits."""
    names = [node.name for node in graph.nodes if node.name in site.values]
    for name in names:
        override = Override(glob.escape(name), activation_bits=BITS)
        changed = replace(recipe, overrides=(*recipe.overrides, override))
        if any(s.bits == BITS for s in find_sites(graph, changed) if s.name == site.name):
            return _overriding(override)
    return Advice(text=f"activation_bits = {BITS} for the whole recipe: no override reaches an input")


def _range(site: Site, graph: Graph, rule: str) -> Advice:
    """The first maker's wish decides how a shared site is observed."""
    maker = site.makers[0]
    if maker not in {node.name for node in graph.nodes}:
        return Advice(text=f'ranges = "{rule}" for the whole recipe: no override reaches an input')
    return _overriding(Override(glob.escape(maker), ranges=rule))


def _overriding(override: Override) -> Advice:
    wishes = {k: v for k, v in override_record(override).items() if k != "pattern"}
    name = "".join(f"{k} = {v if isinstance(v, int) else repr(v)}" for k, v in wishes.items())
    return Advice(override, f"{name} for {override.pattern}".replace("'", '"'))
