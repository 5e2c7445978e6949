"""The pages of the training experiments say what the records say, and name what has not run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks import results
from benchmarks.training import experiments, pages
from benchmarks.training.cell import Cell


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "records"
    place.mkdir()
    for module in (pages, experiments):
        monkeypatch.setattr(module, "RECORDS", place)
    monkeypatch.setattr(experiments, "UNFINISHED", tmp_path / "unfinished")
    monkeypatch.setattr(results, "FOLDER", tmp_path / "docs" / "results")
    monkeypatch.setattr(results, "command", lambda: "python -m somewhere")
    return place


def write(place: Path, cell: Cell, found: tuple[float, float, float], seconds: float = 60.0) -> None:
    float_, ptq, qat = found
    record = {
        "commit": f"abc{cell.seed}",
        "float": float_,
        "ptq": ptq,
        "qat": qat,
        "epochs": [{"seconds": seconds}] * 2,
    }
    (place / f"{cell.name}.json").write_text(json.dumps(record))


def test_cells_have_names_of_their_own() -> None:
    cells = {cell for group in experiments.EXPERIMENTS.values() for cell in group}
    assert len({cell.name for cell in cells}) == len(cells)
    assert len({(c.weight_bits, c.activation_bits) for c in experiments.EXPERIMENTS["ablation"]}) == 25


def test_a_table_gives_means_and_spreads_over_seeds(records: Path) -> None:
    for seed, found in enumerate([(88.0, 78.0, 86.0), (86.0, 72.0, 84.0)]):
        write(records, experiments.cell(4, 4, seed=seed), found)
    pages.table("page", "Title", ["four_bits"], lambda c: (c.network,), ("network",), [])
    text = (results.FOLDER / "page.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| resnet8 "))
    assert [c.strip() for c in row.strip("|").split("|")] == [
        *("resnet8", "2", "87.00 ± 1.41", "75.00 ± 4.24", "85.00 ± 1.41"),
        *("-12.00 ± 2.83", "-2.00 ± 0.00", "83 %", "2", "abc0, abc1"),
    ]
    assert f"Not run yet: {experiments.cell(4, 4, seed=2).name}." in text


def test_the_grid_has_weights_down_and_activations_across(records: Path) -> None:
    write(records, experiments.cell(8, 4), (88.0, 80.0, 87.5))
    write(records, experiments.cell(5, 6), (88.0, 81.0, 87.0))
    values = pages.grid("qat")
    assert values[0, 4] == -0.5
    assert values[3, 2] == -1.0
    assert np.isnan(values).sum() == 23


def test_a_cell_is_claimed_once_and_by_the_living(records: Path) -> None:
    one = experiments.cell()
    with experiments.claimed(one) as mine, experiments.claimed(one) as others:
        assert mine
        assert not others
    lock = experiments.UNFINISHED / f"{one.name}.running"
    assert not lock.exists()
    lock.write_text("999999999")  # no process has this number
    with experiments.claimed(one) as mine:
        assert mine
    write(records, one, (88.0, 87.0, 88.0))
    with experiments.claimed(one) as mine:
        assert not mine
    with experiments.claimed(Cell(network="resnet8", seed=77)) as mine:  # no float network
        assert not mine
