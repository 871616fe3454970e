"""bench.growth: one small case, and its plot."""

import xml.etree.ElementTree as ET

from bench import growth


def test_a_case_is_measured_and_plotted(tmp_path):
    row = growth.measure(1, "hole of 0.05 MP", "builtin", "cpu")
    assert abs(row["hole, MP"] - 0.05) < 0.002
    assert row["seconds"] > 0
    assert 0.1 < row[growth.FIGURES[1]] < 8
    rows = [{**row, "photo, MP": mp, "hole": hole} for hole in growth.HOLES for mp in (1, 4)]
    growth.plot(rows, tmp_path / "plot.svg")
    lines = ET.parse(tmp_path / "plot.svg").findall("{http://www.w3.org/2000/svg}polyline")
    assert [len(line.get("points").split()) for line in lines] == [2] * 4
