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
