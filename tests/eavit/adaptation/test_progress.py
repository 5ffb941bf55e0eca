"""Progress goes to the function that is given, to bars that are closed in the end, or nowhere."""

from contextlib import ExitStack

from eavit.adaptation.progress import reporter, silent


def test_progress_goes_where_it_is_asked_to(capsys):
    with ExitStack() as stack:
        assert reporter(print, stack) is print
        assert reporter(False, stack) is silent
        bars = reporter(True, stack)
        bars("train", 1, 4)
        bars("search", 2, 2)
    shown = capsys.readouterr().err
    assert "train:  25%" in shown
    assert "search: 100%" in shown
    assert shown.endswith("\n")


def test_bars_in_a_file_are_few(capsys, monkeypatch):
    clock = iter(float(at) for at in range(10**6))
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock) / 20)  # each look at the clock takes 0.05 s
    with ExitStack() as stack:
        bars = reporter(True, stack)
        for step in range(1000):
            bars("train", step + 1, 1000)
    assert capsys.readouterr().err.count("\r") < 10
