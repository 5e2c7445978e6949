"""A reshape as runs of axes: (N, C, H, W) -> (N, g, C / g, H, W) is N, then C -> (g, C / g), then H, then W."""

from __future__ import annotations

from dataclasses import dataclass

from unfloat.ir.graph import Shape


@dataclass(frozen=True)
class Group:
    """One run.

    Attributes:
        source: Axes before; those of size 1 are left out, for where they are does not matter.
        target: Axes after; those of size 1 go with the run before them.
    """

    source: list[int]
    target: list[int]


def groups(source: Shape, target: Shape) -> list[Group]:
    """Split a reshape into its shortest runs. Dimension 0, the batch, is a run of its own."""
    runs = [Group([0], [0])]
    i, j = 1, 1
    while i < len(source) or j < len(target):
        if i < len(source) and source[i] == 1:
            i += 1
        elif j < len(target) and target[j] == 1:
            runs[-1].target.append(j)
            j += 1
        else:
            run, i, j = _shortest(source, target, i, j)
            runs.append(run)
    return runs


def _shortest(source: Shape, target: Shape, i: int, j: int) -> tuple[Group, int, int]:
    """The shortest run that starts at these axes, and where the next one starts."""
    run = Group([i], [j])
    before, after = source[i], target[j]
    i, j = i + 1, j + 1
    while before != after:
        if before < after:
            if source[i] != 1:
                run.source.append(i)
            before *= source[i]
            i += 1
        else:
            run.target.append(j)
            after *= target[j]
            j += 1
    return run, i, j
