"""Claims: every fault of the file at once."""

from __future__ import annotations

import pytest

from harness import suite
from harness.reports import stamp
from harness.reports.verdicts import claim_file
from harness.suite import Suite, SuiteError


def of(methods=("a", "b"), datasets=("x",), seeds=(0, 1, 2), budgets=(0.5, 1.0)) -> Suite:
    raw = {
        "name": "quick", "budgets": list(budgets), "seeds": list(seeds), "backbone": {"use": "m:f"},
        "input": {"size": 8, "channels": 1},
        "datasets": [{"name": name, "source": "folder", "path": name} for name in datasets],
        "methods": [{"use": f"m:{name}", "name": name} for name in methods],
    }  # fmt: skip
    return suite.parse(raw, "quick.toml")


def claim(**values):
    return {"id": "one", "text": "A beats B", "a": "a", "b": "b", "metric": "accuracy", "budget": 0.5, **values}


def faults(given: Suite, *entries, **top) -> list[str]:
    with pytest.raises(SuiteError) as caught:
        claim_file.parse_claims({"claims": list(entries), **top}, given, "q.claims.toml")
    assert all(fault.startswith("q.claims.toml: ") for fault in caught.value.faults)
    return [fault.removeprefix("q.claims.toml: ") for fault in caught.value.faults]


def test_all_faults_at_once_with_key_path_allowed_and_nearest():
    wrong = claim(a="aa", metric="acuracy", bye=0.1, sets=["y"], scope="these set", id="No Good", level=1.5)
    found = faults(of(), claim(budget=0.4), wrong, claim())
    starts = [
        "claims[1].id: 'No Good': allowed are lower-case",
        "claims[1].metric: 'acuracy' is not known; allowed: accuracy, area, macs",
        "claims[1].level: 1.5: input should be less than 1",
        "claims[1].scope: 'these set' is not known; allowed: these sets, sets like these; nearest: these sets",
        "claims[1].bye: unknown key; allowed: id, text, a, b, metric, budget, by,",
        "claims[0].budget: 0.4: not in suite 'quick'; allowed: 0.5, 1, all, mean",
        "claims[1].a: 'aa': no such method in suite 'quick'; allowed: a, b; nearest: a",
        "claims[1].sets[0]: 'y': no such data set in suite 'quick'; allowed: x",
        "claims[2].id: 'one': duplicate of claims[0].id",
    ]
    assert len(found) == len(starts)
    for start in starts:
        assert any(fault.startswith(start) for fault in found), (start, found)


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (claim(a="b"), "claims[0].b: 'b': the same as a"),
        (claim(by=2), "claims[0].by: 2: accuracy is a share; 2 points are 0.02"),
        (claim(budget="each"), "claims[0].budget: 'each': not in suite 'quick'; allowed: 0.5, 1, all, mean"),
        (claim(budget=True), "claims[0].budget: True: not in suite"),
        (claim(metric="area"), "claims[0].budget: 0.5: metric 'area' is of whole cells and takes none"),
        (claim(sets="x"), "claims[0].sets: 'x': must be \"all\" or a list; allowed: x"),
        (claim(sets=[]), "claims[0].sets: []: must be"),
        (claim(sets=["x", "x"]), "claims[0].sets[1]: 'x': named twice"),
        (claim(at_least=2), "claims[0].at_least: 2: there are only 1 sets"),
        (claim(at_least=0), "claims[0].at_least: 0: input should be greater than or equal to 1"),
        (claim(at_least=1, budget="all"), "claims[0].at_least: not with budget"),
        (claim(at_least=1, scope="sets like these"), "claims[0].scope: 'sets like these' is about a mean over sets"),
        (claim(metric="over_budget"), "claims[0].b: 'b': metric 'over_budget' counts the choices of a alone"),
        ({k: v for k, v in claim().items() if k != "b"}, "claims[0].b: missing key"),
        ({k: v for k, v in claim().items() if k != "budget"}, "claims[0].budget: missing key"),
        ({k: v for k, v in claim().items() if k != "text"}, "claims[0].text: missing key"),
        (claim(by=float("nan")), "claims[0].by: nan: only finite numbers"),
        ("text", "claims[0]: 'text':"),
    ],
)
def test_each_fault(entry, fault):
    assert any(found.startswith(fault) for found in faults(of(), entry)), faults(of(), entry)


def test_a_file_without_claims_and_other_keys():
    assert any(fault.startswith("claims: []") for fault in faults(of()))
    assert "claim: unknown key; allowed: claims; nearest: claims" in faults(of(), claim(), claim=1)


def test_files_that_cannot_be_read(tmp_path):
    path = stamp.claims_beside(tmp_path / "quick.toml")
    assert path == tmp_path / "quick.claims.toml"
    for content, word in ((None, "cannot be read"), (b"\xff", "not UTF-8"), (b"[[claims]\n", "not TOML")):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(SuiteError, match=word):
            claim_file.load_claims(path, of())
