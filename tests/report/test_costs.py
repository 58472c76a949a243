"""The cost tables are the ledger, and money is only spoken of where there is a price."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from farthing.cost.entries import Entry
from farthing.report.costs import costs, remaining
from farthing.report.reading import read_run

Maker = Callable[..., Path]


def test_rows_add_up_to_the_total(run_dir: Path) -> None:
    cost = costs(read_run(run_dir))
    for rows in (cost["by_stage"], cost["by_kind"]):
        for key in ("wall_s", "cpu_s", "tokens", "flops", "money"):
            assert sum(row[key] for row in rows) == pytest.approx(cost["total"][key])
    assert {row["name"] for row in cost["by_stage"]} == {
        "tokenizer",
        "pretrain",
        "base_eval",
        "grpo",
        "final_eval",
    }


def test_money_is_core_hours_times_price(run_dir: Path) -> None:
    cost = costs(read_run(run_dir))
    assert cost["total"]["money"] == pytest.approx(cost["total"]["wall_s"] / 3600 * 2 * 0.04)
    assert (cost["price"], cost["cores"], cost["currency"]) == (0.04, 2, "EUR")


def test_waste_is_money_too(run_dir: Path) -> None:
    lines = [json.loads(line) for line in (run_dir / "ledger.jsonl").read_text(encoding="utf-8").splitlines()]
    dead = sum(line.get("waste", {}).get("dead_groups", 0.0) for line in lines)
    row = costs(read_run(run_dir))["waste"][0]
    assert row["name"].startswith("groups that taught nothing")
    assert row["wall_s"] == pytest.approx(dead)
    assert row["money"] == pytest.approx(dead / 3600 * 2 * 0.04)


def test_no_price_no_money(make_run: Maker, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", steps=2, pretrain_steps=2)
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config["recipe"]["cost"] = {"price_per_core_hour": 0.0, "currency": "USD"}
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    cost = costs(read_run(path))
    assert cost["price"] is None
    assert {row["money"] for row in [cost["total"], *cost["by_kind"], *cost["waste"]]} == {None}


def test_no_ledger_no_cost(tmp_path: Path) -> None:
    assert costs(read_run(tmp_path)) == {}


def test_what_a_running_stage_will_still_take_is_its_steps_left_times_its_recent_step(run_dir: Path) -> None:
    run = read_run(run_dir)
    cost = costs(run)
    going = {"state": "running", "stage": "grpo", "stages": {"grpo": {"step": 60, "steps": 240}}}
    # Forty slow steps, then twenty of 2 s and of 3 s of processor time, each with half a second before it.
    entries = [Entry(1, "grpo", "train", step, 20.0 * step, 20.0, 20.0) for step in range(1, 41)]
    entries += [Entry(1, "grpo", "train", step, 900 + 2.5 * (step - 41), 2.0, 3.0) for step in range(41, 61)]
    left = remaining(replace(run, status=going, ledger=entries), cost)
    wall = 180 * (20 * 2.5 - 0.5) / 20
    assert left is not None
    assert left["wall_s"] == pytest.approx(wall)
    assert left["money"] == pytest.approx(wall / 3600 * 2 * 0.04)
    assert left["energy_kwh"] == pytest.approx(180 * 3.0 * cost["watts"] / 3.6e6)
    for step in (0, 240):
        going["stages"] = {"grpo": {"step": step, "steps": 240}}
        assert remaining(replace(run, status=going), cost) is None
    assert remaining(replace(run, status=going | {"state": "interrupted"}), cost) is None
    assert remaining(run, cost) is None


def test_energy_is_processor_time_times_watts_and_says_whose(run_dir: Path) -> None:
    run = read_run(run_dir)
    for processor, own, watts, source in (
        ("AMD EPYC 7B13", 0.0, 4.4, "EPYC 7763"),
        ("Imaginary CPU", 0.0, 10.0, "assumption"),
        ("AMD EPYC 7B13", 7.5, 7.5, "watts_per_core"),
    ):
        recipe = run.recipe | {"cost": run.recipe["cost"] | {"watts_per_core": own}}
        told = replace(run, hardware={"processor": processor}, config=run.config | {"recipe": recipe})
        cost = costs(told)
        assert (cost["watts"], source in cost["watts_source"]) == (watts, True)
        assert cost["total"]["energy_kwh"] == pytest.approx(cost["total"]["cpu_s"] * watts / 3.6e6)
        assert sum(row["energy_kwh"] for row in cost["by_kind"]) == pytest.approx(cost["total"]["energy_kwh"])
    assert cost["core_hours"] == pytest.approx(cost["total"]["wall_s"] * 2 / 3600)
