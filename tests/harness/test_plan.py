"""Plans: deterministic, unique ids that change with what a cell computes and with nothing else."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import plan
from harness.plan import Cell, Prints
from harness.suite import SuiteError
from tests.harness import small

METHODS = [
    {"use": "m:a"},
    {"use": "m:b", "options": {"x": 1, "y": [1, 2]}},
    {"use": "m:c", "after": ["a"]},
    {"use": "m:d", "after": ["c", "b"]},
]
DATASETS = [{"name": "digits"}, {"name": "mnist5k", "fit": 50}, {"name": "glyphs", "augment": "crop"}]


def names(cells: tuple[Cell, ...]) -> dict[tuple[str, str, int], str]:
    return {(cell.method, cell.dataset, cell.seed): cell.id for cell in cells}


def planned(**changes: Any) -> tuple[Cell, ...]:
    suite = small.suite(**{"methods": METHODS, "datasets": DATASETS, "seeds": [0, 1], **changes})
    return plan.cells(suite, small.prints(suite))


def full(**changes: Any) -> dict[tuple[str, str, int], str]:
    return names(planned(**changes))


FULL = full()


def turned(value: Any) -> Any:
    """The same value with the keys of every table the other way round."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return [turned(entry) for entry in value] if isinstance(value, list) else value


def test_every_combination_is_a_cell_and_ids_are_unique() -> None:
    assert len(FULL) == len(set(FULL.values())) == 4 * 3 * 2
    assert all(len(cell) == 16 and int(cell, 16) >= 0 for cell in FULL.values())


@given(st.permutations(METHODS), st.permutations(DATASETS), st.permutations([0, 1]))
def test_order_changes_no_id_and_needs_come_first(methods: Any, datasets: Any, seeds: list[int]) -> None:
    cells = planned(methods=methods, datasets=datasets, seeds=seeds)
    assert names(cells) == FULL
    seen: set[str] = set()
    for cell in cells:
        assert set(cell.needs) <= seen
        seen.add(cell.id)


@given(
    st.sets(st.sampled_from(range(4)), min_size=1),
    st.sets(st.sampled_from(range(3)), min_size=1),
    st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True),
)
def test_adding_methods_datasets_or_seeds_changes_no_id(ms: set[int], ds: set[int], seeds: list[int]) -> None:
    wanted = ms | ({0} if 2 in ms or 3 in ms else set()) | ({1, 2} if 3 in ms else set())
    part = full(methods=[METHODS[i] for i in sorted(wanted)], datasets=[DATASETS[i] for i in sorted(ds)], seeds=seeds)
    whole = full(seeds=list(range(10)))
    assert part.items() <= whole.items()


def test_keys_in_another_order_are_the_same_plan() -> None:
    raw = small.raw(methods=METHODS, datasets=DATASETS, seeds=[0, 1])
    assert full(**turned(raw)) == FULL


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"title": "T"},
        {"timeout_minutes": 3},
        {"test_batch": 7},
        {"processes": 2},
        {"memory_gib": 3.0},
        {"disk_gib": 1.0},
        {"latency_seconds": 3.0},
        {"regime": "equal_steps"},
        {"datasets": [{**each, "reading": "memory"} for each in DATASETS]},
    ],
)
def test_what_changes_no_number_changes_no_id(changes: dict[str, Any]) -> None:
    assert full(**changes) == FULL


@pytest.mark.parametrize(
    "changes",
    [
        {"budgets": [0.25, 0.5, 1.0]},
        {"threads": 2},
        {"backbone": {"use": "tests.harness.fakes:backbone", "options": {"width": 8}}},
        {"input": {"size": 9, "channels": 1}},
        {"input": {"size": 8, "channels": 1, "mean": [0.4]}},
        {"input": {"size": 8, "channels": 1, "resize": 9}},
        {"schedule": {"lr": 0.002}},
        {"schedule": {"micro_batch": 4}},
        {"schedule": {"checkpointing": True}},
        {"regime": "equal_macs"},
        {"regime": "equal_macs", "macs_factor": 0.5},
        {"task": "multi_label"},
        {"task": "multi_label", "score": "auroc"},
    ],
)
def test_what_changes_numbers_changes_all_ids(changes: dict[str, Any]) -> None:
    assert not set(full(**changes).values()) & set(FULL.values())


def test_new_names_keep_ids_and_new_options_change_those_that_need_them() -> None:
    renamed = full(datasets=[{"name": "x", "source": "digits"}, *DATASETS[1:]])
    assert set(renamed.values()) == set(FULL.values())
    changed = full(methods=[{**METHODS[0], "options": {"deep": True}}, *METHODS[1:]])
    touched = {key[0] for key in FULL if FULL[key] != changed[key]}
    assert touched == {"a", "c", "d"}


def test_a_path_is_no_identity_unless_nothing_else_is_known() -> None:
    assert full(datasets=[{**DATASETS[0], "path": "/here"}, *DATASETS[1:]]) == FULL
    folders = [full(datasets=[{"name": "x", "source": "folder", "path": path}]) for path in ("/a", "/b")]
    assert folders[0] == folders[1]
    suites = [small.suite(datasets=[{"name": "x", "source": "folder", "path": path}]) for path in ("/a", "/b")]
    lost = [plan.cells(suite, small.prints(suite, missing="x"))[0] for suite in suites]
    assert len({cell.id for cell in lost} | {folders[0]["a", "x", 0]}) == 3
    assert lost[0].content["data"] is None


def test_keys_that_came_later_are_in_the_id_where_they_are_used() -> None:
    folder = {"name": "x", "source": "folder", "path": "/a", "reading": "disk"}
    ways = [full(datasets=[{**folder, **more}]) for more in ({}, {"workers": 7}, {"reading": "memory"})]
    assert ways[0] == ways[1] and not set(ways[0].values()) & set(ways[2].values())
    old = small.cells(small.suite())[0].content
    assert "reading" not in old["dataset"] and "resize" not in old["input"] and "outputs" not in old
    assert not {"micro_batch", "checkpointing"} & old["schedule"].keys() and not {"task", "score"} & old.keys()


def test_a_suite_with_metrics_keeps_outputs_and_which_metrics_is_no_identity() -> None:
    one, two = ([{"use": "a.b:one"}], [{"use": "a.b:two", "options": {"k": 1}}, {"use": "a.b:one"}])
    assert full(metrics=one) == full(metrics=two)
    assert not set(full(metrics=one).values()) & set(FULL.values())


def test_listings_that_are_missing_differ_by_what_they_list() -> None:
    entry = {"source": "listing", "use": "a.b:c"}
    sets = [{**entry, "name": "x", "options": {"k": 1}}, {**entry, "name": "y", "options": {"k": 2}}]
    suite = small.suite(datasets=sets)
    prints = replace(small.prints(suite), data=dict.fromkeys("xy"))
    assert len({cell.id for cell in plan.cells(suite, prints)}) == 2


def test_each_print_touches_its_own_cells_and_those_that_need_them() -> None:
    suite = small.suite(methods=METHODS, datasets=DATASETS, seeds=[0, 1])
    before = small.prints(suite)

    def touched(code: dict[str, str], data: dict[str, str | None]) -> set[tuple[str, str]]:
        now = names(plan.cells(suite, Prints({**before.code, **code}, {**before.data, **data}, {})))
        return {key[:2] for key in FULL if now[key] != FULL[key]}

    sets = [entry["name"] for entry in DATASETS]
    assert touched({}, {}) == set()
    assert touched({"m:b": "new"}, {}) == {(m, d) for m in "bd" for d in sets}
    assert touched({"m:c": "new"}, {}) == {(m, d) for m in "cd" for d in sets}
    assert touched({}, {"mnist5k": "new"}) == {(m, "mnist5k") for m in "abcd"}
    assert touched({suite.backbone.use: "new"}, {}) == {key[:2] for key in FULL}


@pytest.mark.parametrize("version", ["PROTOCOL_VERSION", "COUNTER_VERSION"])
def test_versions_are_identity(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, version, 99)
    assert not set(full().values()) & set(FULL.values())


def test_two_cells_that_are_the_same_by_content_are_refused() -> None:
    suite = small.suite(datasets=[{"name": n, "source": "folder", "path": f"/{n}"} for n in "xy"])
    with pytest.raises(SuiteError, match="steady · x · seed 0 and steady · y · seed 0 are the same by content"):
        plan.cells(suite, small.prints(suite))


def test_code_among_the_options_is_part_of_the_content_and_nothing_else_is() -> None:
    deep = {"select": "my_rules:halving", "deep": [{"rule": "my_rules:other"}], "size": 3}
    assert plan.named_code(deep) == ("my_rules:halving", "my_rules:other")
    for word in ("nsga2", "cuda:0", "a:b:c", "http://x", ":x", "x:"):
        assert plan.named_code({"select": word}) == ()
    suite = small.suite(methods=[{"use": "m:a", "options": {"select": "my_rules:halving"}}])
    known = Prints({suite.backbone.use: "b", "m:a": "a"}, {entry.name: "d" for entry in suite.datasets}, {})
    code = {"backbone": "b", "method": "a"}
    assert plan.cells(suite, known)[0].content["code"] == code
    with_rule = Prints({**known.code, "my_rules:halving": "c"}, known.data, {})
    assert plan.cells(suite, with_rule)[0].content["code"] == {**code, "my_rules:halving": "c"}


def test_a_file_among_the_options_counts_by_its_content(tmp_path: Path) -> None:
    def ids(folder: str, content: bytes) -> dict[tuple[str, str, int], str]:
        file = tmp_path / folder / "w.bin"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
        return full(methods=[{"use": "m:a", "options": {"deep": [{"weights": str(file)}], "word": "w.bin"}}])

    assert ids("here", b"one") == ids("there", b"one")
    assert not set(ids("here", b"one").values()) & set(ids("here", b"two").values())


def test_ids_are_the_same_on_every_machine_and_day() -> None:
    """Golden: a change here makes every kept record a stranger; grow PROTOCOL_VERSION if that is meant."""
    (cell,) = planned(**{key: small.raw()[key] for key in ("methods", "datasets", "seeds")})
    assert cell.id == "d928b71a6d4524dd"
    assert cell.id == plan.canonical_digest(cell.content)[:16]


def test_ten_thousand_cells_are_planned_in_two_seconds() -> None:
    methods = [{"use": f"m:m{i}"} for i in range(10)]
    datasets = [{"name": f"d{i}", "source": "digits", "fit": i + 1} for i in range(10)]
    suite = small.suite(methods=methods, datasets=datasets, seeds=list(range(100)))
    prints = small.prints(suite)
    began = time.process_time()
    assert len(plan.cells(suite, prints)) == plan.count(suite) == 10_000
    assert time.process_time() - began < 2
