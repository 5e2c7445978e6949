"""Recipe: the user's wishes. A frozen record, saved as TOML; this file needs no PyTorch."""

from __future__ import annotations

import fnmatch
import math
import sys
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from unfloat.ir.graph import OPERAND
from unfloat.ops._operator import WeightRule
from unfloat.spec.errors import RecipeError
from unfloat.spec.fixedpoint import ROUNDINGS
from unfloat.spec.qparams import BITS_MAX, BITS_MIN, WIDE_BITS

SCHEMES = ("int8", "uint8", "int16x8")
RANGES = ("norm", "mse", "minmax", "moving_average", "percentile")
CHANNEL_ORDERS = ("RGB", "BGR")
NORM_MODES = ("batch", "average", "correct")
TRAINED_RANGES = ("moving_average", "learned")
TOML_NAMES = {"overrides": "override"}  # [[override]] stands once above each table, so TOML says it in the singular
TYPE_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "a string", NoneType: "nothing"}
T = TypeVar("T")


@dataclass(frozen=True)
class InputSpec:
    """How a picture becomes an input tensor: resize, crop the centre, order channels, `(pixel - mean) / std`.

    First it is turned as its EXIF orientation says, and 16 bits a channel are divided by 257.

    Attributes:
        size: Height and width of the crop, the model's input.
        resize: The short side before the crop, None to leave the picture as it is; 0 squashes the whole picture to `size`.
        mean, std: For pixels 0 to 255, one number for each channel.
        order: "RGB" or "BGR".
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: int | None = None
    order: str = "RGB"

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        _check_types(self, "input.")
        _require(
            min(self.size) > 0,
            "input.size",
            "two positive integers, height and width",
            self.size,
        )
        _require(all(map(math.isfinite, self.mean)), "input.mean", "three numbers, for pixels 0 to 255", self.mean)
        fine = all(0 < deviation < math.inf for deviation in self.std)
        _require(fine, "input.std", "three positive numbers, for pixels 0 to 255", self.std)
        _require(self.order in CHANNEL_ORDERS, "input.order", f"one of {CHANNEL_ORDERS}", self.order)
        _require(
            self.resize is None or self.resize >= 0,
            "input.resize",
            "a short side, 0 to squash, or nothing",
            self.resize,
        )


@dataclass(frozen=True)
class Override:
    """Other wishes for the layers whose name matches a pattern ("features.0.*"). None leaves the Recipe's.

    Attributes:
        pattern: Shell-style, against the layer's name (`unfloat inspect` prints them).
        weight_bits: 2 to 8.
        activation_bits: 2 to 8, or 16 for int16 codes as "int16x8" has them (not with "uint8"). What a layer with 16
            bits computes has 16 bits, and so have its operands: where the layer before it has 8, or reads it with 8, a
            `rescale` stands between them. What only moves codes (a reshape, a maximum pool) has those that it is given.
        ranges: A range rule.
        bias_correction: Whether to correct these layers' biases.
    """

    pattern: str
    weight_bits: int | None = None
    activation_bits: int | None = None
    ranges: str | None = None
    bias_correction: bool | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        _check_types(self, f"override {self.pattern!r}: ")
        narrow = None if self.activation_bits == WIDE_BITS else self.activation_bits
        _check_layer(f"override {self.pattern!r}: ", self.weight_bits, narrow, self.ranges)


@dataclass(frozen=True)
class Training:
    """How a student trains (paper, section 3). Steps are forward passes in `train()`.

    Attributes:
        ranges: "moving_average" (of each batch's least and greatest value) or "learned" (LSQ: scales are parameters).
        momentum: For "moving_average": the weight of the past.
        start_after: Steps before activations are quantized; ranges are observed meanwhile.
        freeze_ranges_after: Steps after which activation ranges stay as they are; None for never.
        norm: How batch norm is folded: "batch" (batch statistics, CVPR eq. 14), "average" (moving averages, arXiv
            eq. 14) or "correct" (moving averages in the weights, batch statistics by a correction of the accumulator,
            whitepaper eq. 22 to 31).
        freeze_norm_after: Steps after which every norm uses its moving averages and leaves them alone; None for never.
        synchronize: Where several processes train together, take batch statistics over their joined batches, as
            `torch.nn.SyncBatchNorm` does. Moving averages and ranges are always those of the joined batches.
    """

    ranges: str = "moving_average"
    momentum: float = 0.99
    start_after: int = 0
    freeze_ranges_after: int | None = None
    norm: str = "correct"
    freeze_norm_after: int | None = None
    synchronize: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        _check_types(self, "training.")
        _require(self.ranges in TRAINED_RANGES, "training.ranges", f"one of {TRAINED_RANGES}", self.ranges)
        _require(self.norm in NORM_MODES, "training.norm", f"one of {NORM_MODES}", self.norm)
        _require(0 <= self.momentum < 1, "training.momentum", "a number in [0, 1)", self.momentum)
        for name in ("start_after", "freeze_ranges_after", "freeze_norm_after"):
            steps = getattr(self, name)
            _require(steps is None or steps >= 0, f"training.{name}", "a number of steps, at least 0", steps)


@dataclass(frozen=True)
class Recipe:
    """How to quantize.

    Attributes:
        scheme: "int8" (weights symmetric per channel, TFLite's specification) or "uint8" (the paper's: both affine,
            per tensor, weight codes 1 to 255), or "int16x8" (activations int16, symmetric; weights as "int8"; sums of
            64 bits).
        weight_bits, activation_bits: 2 to 8; activations of "int16x8" have 16 whatever is said here, but for overrides.
        ranges: How calibration chooses activation ranges: "norm" (the range whose quantization error has the least
            p-norm), "mse" (the same with p = 2), "minmax", "moving_average", "percentile".
        norm: For "norm": the p. Below 2 it clips rare outliers more readily than the squared error does.
        percentile: For "percentile": the share of values inside, in percent.
        momentum: For "moving_average": the weight of the past.
        rounding: "double" (the paper, TFLite, CMSIS-NN) or "single".
        bias_correction: Measure each channel's bias error and correct it where that helps on held-back samples.
        equalize: Before anything else, even out channel ranges between neighbouring layers (`passes/equalize.py`).
            For "uint8": where each channel has its own scale it can only cost. A student starts from the equalized
            parameters; from the model's own where its batch norms know no statistics yet.
        training: How a student trains; post-training quantization does not read it.
        overrides: Per-layer wishes; the last that matches wins.
        input: How pictures become inputs, or None where inputs are arrays.
    """

    scheme: str = "int8"
    weight_bits: int = 8
    activation_bits: int = 8
    ranges: str = "norm"
    norm: float = 1.75
    percentile: float = 99.99
    momentum: float = 0.9
    rounding: str = "double"
    bias_correction: bool = True
    equalize: bool = False
    training: Training = field(default_factory=Training)
    overrides: tuple[Override, ...] = ()
    input: InputSpec | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        _check_types(self, "")
        _require(self.scheme in SCHEMES, "scheme", f"one of {SCHEMES}", self.scheme)
        _check_layer("", self.weight_bits, self.activation_bits, self.ranges)
        _require(1 <= self.norm <= 4, "norm", "a number in [1, 4]", self.norm)
        _require(50 < self.percentile <= 100, "percentile", "a number above 50, at most 100", self.percentile)
        _require(0 <= self.momentum < 1, "momentum", "a number in [0, 1)", self.momentum)
        for override in self.overrides:
            fits = self.scheme != "uint8" or override.activation_bits != WIDE_BITS
            where = f"override {override.pattern!r}: activation_bits"
            _require(fits, where, 'scheme = "int8" beside 16 bits, whose weights are symmetric', self.scheme)
        _require(self.rounding in ROUNDINGS, "rounding", f"one of {ROUNDINGS}", self.rounding)

    def wish(self, layer: str, name: str) -> Any:
        """The value of a field for one layer, overrides applied; what stands before a layer for its sake is the layer's."""
        value = getattr(self, name)
        if name == "activation_bits" and self.scheme == "int16x8":
            value = WIDE_BITS
        names = {layer, layer.partition(OPERAND)[0]}
        for override in self.overrides:
            wished = getattr(override, name)
            if wished is not None and fnmatch.filter(names, override.pattern):
                value = wished
        return value

    def weight_rule(self, layer: str) -> WeightRule:
        """How the weight of one layer becomes codes."""
        bits = self.wish(layer, "weight_bits")
        return WeightRule("uint8", bits, per_channel=False) if self.scheme == "uint8" else WeightRule(bits=bits)

    def storage(self, bits: int) -> str:
        """Storage of activations of so many bits."""
        return "int16" if bits == WIDE_BITS else "uint8" if self.scheme == "uint8" else "int8"

    def activation_bits_of(self, layer: str) -> int:
        """Bits of what one layer gives."""
        return int(self.wish(layer, "activation_bits"))

    def check_patterns(self, layers: list[str]) -> None:
        """Raise RecipeError if an override matches no layer: a typing error that would pass unseen."""
        for override in self.overrides:
            if not fnmatch.filter(layers, override.pattern):
                raise RecipeError(f"override {override.pattern!r} matches no layer; the layers are {', '.join(layers)}")

    def to_toml(self) -> str:
        """The Recipe as TOML."""
        record = {k: v for k, v in asdict(self).items() if v is not None and k not in TOML_NAMES}
        record["training"] = {k: v for k, v in asdict(self.training).items() if v is not None}
        if self.input is not None:
            record["input"] = {k: v for k, v in asdict(self.input).items() if v is not None}
        if self.overrides:
            record["override"] = [{k: v for k, v in asdict(o).items() if v is not None} for o in self.overrides]
        import tomli_w

        return tomli_w.dumps(record)

    def save(self, path: str | Path) -> None:
        """Write the Recipe as TOML, all or nothing.

        Raises:
            ExportError: The path cannot be written.
        """
        from unfloat.program.file import write_atomically

        write_atomically(path, self.to_toml().encode())

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a Recipe from a TOML file.

        Raises:
            RecipeError: The file is not TOML, or has a field that a Recipe has not.
            OSError: There is no such file, or it cannot be read.
        """
        try:
            return cls.from_toml(Path(path).read_text(encoding="utf-8-sig"))  # Windows begins a file with a mark
        except RecipeError as error:
            raise RecipeError(f"{path}: {error}") from error
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path}: not TOML, which is UTF-8: {error}") from error

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """Read a Recipe from TOML.

        Raises:
            RecipeError: It is not TOML, or has a field that a Recipe has not, or one of another type.
        """
        if sys.version_info >= (3, 11):  # imported here, as most processes only run Programs
            import tomllib
        else:
            import tomli as tomllib

        try:
            record = tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # what reads TOML has its own of long numbers and deep lists
            raise RecipeError(f"not TOML: {error}") from error
        plural = "overrides" in record
        _require(not plural, "overrides", "[[override]] above the fields of each override", record.get("overrides"))
        tables = record.pop("override", [])
        _require(isinstance(tables, list), "override", "tables, each under a [[override]] of its own", tables)
        overrides = tuple(_build(Override, table, "[[override]]") for table in tables)
        picture = record.pop("input", None)
        spec = None if picture is None else _build(InputSpec, picture, "[input]")
        training = _build(Training, record.pop("training", {}), "[training]")
        return _build(cls, {**record, "override": overrides, "input": spec, "training": training}, "the recipe")


def _build(kind: type[T], record: object, where: str) -> T:
    if not isinstance(record, Mapping):
        raise RecipeError(f"{where}: required a table of fields, found {record!r}")
    known = {TOML_NAMES.get(f.name, f.name): f.name for f in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    unknown = set(record) - set(known)
    _require(not unknown, where, f"fields among {sorted(known)}", sorted(unknown))
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}  # type: ignore[arg-type]
    _require(needed <= set(record), where, f"the fields {sorted(needed)}", sorted(record))
    return kind(**{known[k]: tuple(v) if isinstance(v, list) else v for k, v in record.items()})


def _check_types(record: object, prefix: str) -> None:
    """Raise RecipeError unless each field is what its annotation says: `"false"` would else be true, 16.5 a size."""
    for name, hint in get_type_hints(type(record)).items():
        value = getattr(record, name)
        _require(_is_a(hint, value), prefix + name, _in_words(hint), value)


def _is_a(hint: Any, value: object) -> bool:
    """Whether a value is of an annotation's type; an integer is a number too, but neither true nor false is one."""
    kinds = get_args(hint)
    if get_origin(hint) is tuple:
        as_many = isinstance(value, tuple) and (... in kinds or len(value) == len(kinds))
        return as_many and all(_is_a(kinds[0], part) for part in value)  # type: ignore[attr-defined]  # it is a tuple
    if kinds:
        return any(_is_a(kind, value) for kind in kinds)
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def _in_words(hint: Any) -> str:
    """An annotation for people."""
    kinds = get_args(hint)
    if get_origin(hint) is tuple:
        number = "" if ... in kinds else f" of {len(kinds)}"
        return f"a tuple{number} (a list in TOML), each {_in_words(kinds[0])}"
    return " or ".join(map(_in_words, kinds)) or TYPE_NAMES.get(hint, hint.__name__)


def _check_layer(prefix: str, weight_bits: int | None, activation_bits: int | None, ranges: str | None) -> None:
    for name, bits in (("weight_bits", weight_bits), ("activation_bits", activation_bits)):
        fine = bits is None or BITS_MIN <= bits <= BITS_MAX
        _require(fine, prefix + name, f"an integer, {BITS_MIN} to {BITS_MAX}", bits)
    _require(ranges is None or ranges in RANGES, prefix + "ranges", f"one of {RANGES}", ranges)


def _require(condition: bool, where: str, required: str, found: object) -> None:
    if not condition:
        raise RecipeError(f"{where}: required {required}, found {found!r}")
