"""The chart: one panel a row, one bar a contender."""

from pathlib import Path

from bench.report import Whole, number

COLOURS = {"penstock": "#0b7285", "nginx": "#868e96", "haproxy": "#adb5bd", "null relay": "#dee2e6"}


def draw(whole: Whole, target: Path) -> str:
    """Draws the chart and says where, or why not."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - the chart alone needs it
        from matplotlib.figure import Figure as Drawing  # noqa: PLC0415
    except ImportError:
        return "skipped, matplotlib is not installed"
    rows = [row for row in whole["rows"] if any(figure["samples"] for figure in row["figures"])]
    if not rows:
        return "skipped, nothing was measured"
    # Fixed names inside the file and no date: only figures change it. Words stay text, so that they can be read.
    mpl.rcParams.update({"svg.hashsalt": "penstock", "svg.fonttype": "none", "font.size": 9})
    drawing = Drawing(figsize=(9, 0.6 + sum(_height(row) for row in rows)), layout="constrained")
    panels = drawing.subplots(len(rows), 1, squeeze=False, height_ratios=[_height(row) for row in rows])
    for panel, row in zip(panels[:, 0], rows, strict=True):
        figures = _shown(row)[::-1]
        labels = [", ".join(part for part in (one["peer"], one["variant"]) if part) for one in figures]
        medians = [one["median"] for one in figures]
        spread = [
            [max(0, one["median"] - one["low"]) for one in figures],
            [one["high"] - one["median"] for one in figures],
        ]
        colours = [COLOURS.get(one["peer"], "#ced4da") for one in figures]
        bars = panel.barh(labels, medians, xerr=spread, color=colours, ecolor="#495057", error_kw={"linewidth": 0.8})
        panel.bar_label(bars, labels=[number(value) for value in medians], padding=6)
        panel.set_title(f"{row['row']}  {row['title']}  [{figures[0]['unit']}]", loc="left", fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(x=0.12)
    drawing.savefig(target, metadata={"Date": None})
    return target.name


def _height(row: Whole) -> float:
    return 0.6 + 0.28 * len(_shown(row))


def _shown(row: Whole) -> list[Whole]:
    """The figures of the row's first unit: bars of milliseconds and of megabytes have no common axis."""
    measured = [figure for figure in row["figures"] if figure["samples"]]
    return [figure for figure in measured if figure["unit"] == measured[0]["unit"]]
