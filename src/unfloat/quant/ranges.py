"""Ranges: the state of a student's quantizers, one entry a site; what its labels follow from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from unfloat.quant.recipe import Recipe
from unfloat.quant.sites import Site
from unfloat.spec.errors import InputError, RecipeError, TrainingError
from unfloat.spec.qparams import QParams, positive_scale, qparams_from_range

STEPS, OBSERVED, RANGES_FROZEN, NORM_FROZEN = range(4)
GO_BACK = "go back to the last checkpoint and lower the learning rate, or clip gradients"
LEAST_SHARE = 2.0**-16  # of where a learned scale started: less has collapsed


class Ranges(nn.Module):
    """Everything a student knows beyond the float model, under one prefix of its state.

    Attributes:
        window: [sites, 2] float32, the least and greatest real value of each site; both 0 where it is fixed.
        scale: [sites] float32 parameter, for learned scales only: each scale over the one that `window` gives.
        clips: One float32 parameter a linear node, for learned scales only: the share of each weight channel's range
            that is kept, [channels] or [1].
        progress: Training steps taken; whether ranges are observed; whether ranges and norms were frozen by hand.

    The recipe is kept beside them as extra state, its TOML as bytes: a checkpoint of another recipe is refused, and
    nothing that broadcasts buffers (DistributedDataParallel) can make two recipes look like one.
    """

    progress: torch.Tensor
    window: torch.Tensor

    def __init__(self, sites: Sequence[Site], wishes: Recipe, weight_channels: Mapping[str, int]) -> None:
        """All ranges are empty until `start`."""
        super().__init__()
        self.sites = tuple(sites)
        self.recipe, self.training_wishes = wishes, wishes.training
        self.index = {maker: i for i, site in enumerate(sites) if site.fixed is None for maker in site.makers}
        self.weights = tuple(weight_channels)
        self.register_buffer("progress", torch.zeros(4, dtype=torch.int64))
        self.register_buffer("window", torch.zeros(len(sites), 2))
        self.learned = wishes.training.ranges == "learned"
        if self.learned:
            self.scale = nn.Parameter(torch.ones(len(sites)))
            learned_weights = wishes.scheme != "uint8"  # affine weights keep the range of their values
            channels = weight_channels.values() if learned_weights else ()
            self.clips = Clips([nn.Parameter(torch.ones(count)) for count in channels])

    @torch.no_grad()
    def start(self, labels: Mapping[str, QParams]) -> None:
        """Take the labels that calibration chose."""
        for i, site in enumerate(self.sites):
            if site.fixed is None:
                label = labels[site.name]
                self.window[i] = torch.tensor(label.window)
        self._observed_anew()

    @torch.no_grad()
    def begin(self, low: torch.Tensor, high: torch.Tensor) -> None:
        """Take the ranges of a first batch; see `move`."""
        seen = torch.isfinite(low) & torch.isfinite(high)
        batch = torch.stack([low.clamp(max=0.0), high.clamp(min=0.0)], dim=1)
        self.window.copy_(torch.where(seen[:, None], batch, torch.zeros_like(batch)))
        self._observed_anew()

    def _observed_anew(self) -> None:
        for learned in self.parameters():
            learned.fill_(1.0)
        self.progress[OBSERVED] = 1

    def weight_clips(self) -> dict[str, torch.Tensor]:
        """The learned share of each weight's range that is kept, by node.

        Raises:
            TrainingError: One is not finite or has collapsed.
        """
        if not self.learned:
            return {}
        clips = dict(zip(self.weights, self.clips, strict=False))
        for layer, clip in clips.items():
            if not bool(((clip >= LEAST_SHARE) & torch.isfinite(clip)).all()):
                raise TrainingError(_collapsed(layer, "its weight's learned scale", float(clip.detach().min())))
        return clips

    @property
    def observed(self) -> bool:
        """Whether there are ranges."""
        return bool(self.progress[OBSERVED])

    def labels(self) -> dict[str, QParams]:
        """QParams of every value under the present ranges.

        Raises:
            TrainingError: No range was observed, or one is not finite or has collapsed.
        """
        if not self.observed:
            raise TrainingError(
                f"no range was observed yet, for {self.sites[0].name} and all other sites: "
                "run a training step, or student.calibrate(batches)"
            )
        windows = self.window.tolist()
        scales = self.scale.tolist() if self.learned else []
        labels = {}
        for i, site in enumerate(self.sites):
            label = site.fixed or self._observed(i, windows[i])
            if self.learned and site.fixed is None:
                label = self._learned(site, label, scales[i])
            labels.update(dict.fromkeys(site.values, label))
        return labels

    def _observed(self, i: int, window: Sequence[float]) -> QParams:
        site, (low, high) = self.sites[i], window
        if not (abs(low) < float("inf") and abs(high) < float("inf")):  # false for NaN too
            raise TrainingError(diverged(site.name, f"a range of [{low}, {high}]"))
        return qparams_from_range(low, high, site.dtype, site.bits)

    def _learned(self, site: Site, start: QParams, ratio: float) -> QParams:
        if not LEAST_SHARE <= ratio < float("inf"):
            raise TrainingError(_collapsed(site.name, "its learned scale", ratio))
        return replace(start, scale=(positive_scale(start.scale[0] * ratio),))

    def move(self, low: torch.Tensor, high: torch.Tensor) -> None:
        """Move the windows towards a batch's own (paper, section 3.1): `m * old + (1 - m) * new`, zero inside.

        A batch of zeros leaves a window as it is: zeros fit into any, and the window of a layer that has died would
        shrink until no multiplier could be made of it.

        Args:
            low: [sites]; +inf where a site was not seen.
            high: [sites]; -inf where a site was not seen.
        """
        seen = torch.isfinite(low) & torch.isfinite(high) & ((low != 0) | (high != 0))
        batch = torch.stack([low.clamp(max=0.0), high.clamp(min=0.0)], dim=1)
        m = self.training_wishes.momentum
        moved = m * self.window + (1 - m) * torch.where(seen[:, None], batch, self.window)
        self.window.copy_(torch.where(seen[:, None], moved, self.window))

    def check_finite(self, low: torch.Tensor, high: torch.Tensor, inputs: Collection[str]) -> None:
        """Raise what names the first site whose values in this batch hold a NaN or an infinity.

        Args:
            low: [sites].
            high: [sites].
            inputs: The names of the network's inputs.

        Raises:
            InputError: The batch itself holds it.
            TrainingError: A layer made it.
        """
        unseen = (low == float("inf")) & (high == -float("inf"))
        bad = ~(unseen | (torch.isfinite(low) & torch.isfinite(high)))
        if bool(bad.any()):
            i = int(bad.nonzero()[0])
            if self.sites[i].name in inputs:
                raise InputError(
                    f"input {self.sites[i].name}: required finite numbers, found NaN or infinity in this batch: look at "
                    "what loads and augments the data"
                )
            raise TrainingError(diverged(self.sites[i].name, f"activations from {float(low[i])} to {float(high[i])}"))

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Ranges:
        """To another device, but never to another type: `student.to(torch.bfloat16)` is for layers."""

        def move(tensor: torch.Tensor) -> torch.Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        super()._apply(move, recurse)
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """A float checkpoint has none of these entries: it loads, and the ranges are to be observed anew."""
        if not _of_student(state_dict, prefix):
            self.progress.zero_()
            return
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def get_extra_state(self) -> torch.Tensor:
        """The recipe's TOML, uint8."""
        return torch.frombuffer(bytearray(self.recipe.to_toml().encode()), dtype=torch.uint8)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Nothing to do: the recipe has been compared, it stays as it is."""

    def check_recipe(self, state_dict: Mapping[str, Any], prefix: str) -> None:
        """Raise TrainingError where a state, its entries under `prefix`, is that of a student of another recipe."""
        if not _of_student(state_dict, prefix):
            return
        found = state_dict.get(f"{prefix}_extra_state")
        text = "" if found is None else bytes(found.cpu().numpy()).decode(errors="replace")
        try:
            same = found is not None and Recipe.from_toml(text) == self.recipe
        except RecipeError:  # a field that this version does not know
            same = False
        if not same:
            mine, theirs = self.recipe.to_toml().splitlines(), text.splitlines()
            required = "; ".join(line for line in mine if line not in theirs) or "less"
            other = "; ".join(line for line in theirs if line not in mine) or "less"
            raise TrainingError(
                f"the checkpoint was made with another recipe: required {required}, found {other}: "
                "prepare the student with the checkpoint's recipe, or load the float model's checkpoint"
            )


class Clips(nn.ParameterList):
    """Learned clips: a float checkpoint has none of them, and loads all the same."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        if _of_student(state_dict, prefix.removesuffix("clips.")):
            super()._load_from_state_dict(state_dict, prefix, *rest)


def _of_student(state_dict: Mapping[str, Any], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in state_dict)


def _collapsed(layer: str, what: str, share: float) -> str:
    return (
        f"layer {layer}: {what} has collapsed, required a share of where it started that is not nearly 0, found {share}: "
        'lower the learning rate of the parameters "unfloat.*", or take training.ranges = "moving_average"'
    )


def diverged(layer: str, found: str) -> str:
    """What to say of a number in training that is not finite."""
    return f"layer {layer}: training has diverged, required finite values, found {found}: {GO_BACK}"
