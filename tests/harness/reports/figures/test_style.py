from __future__ import annotations

from example_points import example
from sketches import drawn, of

from harness.reports.figures import fronts, ranks, style


def test_names_are_cut_in_the_middle_and_drawn_with_the_font_there_is():
    assert style.label("a" * 300) == "a" * 18 + "…" + "a" * 9
    assert style.label("größe") == "größe"
    assert style.label("数据\n\x07") == "\\u6570\\u636e\\n\\x07"
    assert style.label("_hidden").strip() == "_hidden"


def test_labels_do_not_overlap_the_notes_and_stay_on_the_sheet():
    for one in (
        *drawn(fronts.draw_fronts, of(example())).values(),
        *drawn(ranks.draw_areas_and_ranks, of(example())).values(),
    ):
        figure = one.figure
        style.fix_layout(figure)
        renderer = figure.canvas.get_renderer()
        strip = [text.get_window_extent(renderer) for text in figure.texts]
        strip += [legend.get_window_extent(renderer) for legend in figure.legends]
        for axis in (axis for axis in figure.axes if axis.get_visible()):
            box = axis.get_tightbbox(renderer)
            assert not any(box.overlaps(other) for other in strip)
            assert box.x0 >= -1 and box.x1 <= figure.bbox.width + 2
        for at, box in enumerate(strip):
            assert box.x1 <= figure.bbox.width + 1
            assert not any(box.shrunk(0.98, 0.8).overlaps(other) for other in strip[at + 1 :])


def test_widths_are_those_of_a_papers_columns():
    found = drawn(fronts.draw_fronts, of(example(seeds=(0,))))
    assert {one.figure.get_size_inches()[0] for one in found.values()} == {3.25, 6.75}
