"""Where labels of a figure go, so that none lies on another or on a line.

Knows numbers and matplotlib's axes. Knows nothing about runs or what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS = 72  # in an inch


def apart(wanted: Sequence[float], gap: float, taken: Sequence[float] = ()) -> list[float]:
    """The free places nearest to those wanted: at least `gap` from each other, and from those that are `taken`."""
    full, found = list(taken), list(wanted)
    for number in sorted(range(len(wanted)), key=wanted.__getitem__):
        near = [wanted[number], *(place + side * gap for place in full for side in (1, -1))]
        free = [place for place in near if all(abs(place - other) > gap * 0.999 for other in full)]
        found[number] = min(free, key=lambda place: abs(place - wanted[number]))
        full.append(found[number])
    return found


def heights(panel: Axes, values: Sequence[float]) -> list[float]:
    """In points, where these values lie once the figure is laid out."""
    figure = panel.figure.get_figure(root=True)
    assert figure is not None
    return [float(panel.transData.transform((0.0, value))[1]) * _POINTS / figure.dpi for value in values]


def name_levels(levels: Mapping[Axes, Sequence[tuple[str, float, str]]], size: float = 8) -> None:
    """Name horizontal lines of a figure's panels, each a text, a value and a colour, beyond the right edge, where
    nothing is drawn.

    Lays the figure out, for good: all else must be there, and the limits of the panels what they will be.
    """
    notes = {
        panel: [
            panel.annotate(
                text,
                (1, value),
                (4, 0),
                xycoords=panel.get_yaxis_transform(),
                textcoords="offset points",
                va="center",
                fontsize=size,
                color=color,
            )
            for text, value, color in named
        ]
        for panel, named in levels.items()
    }
    for panel in levels:
        figure = panel.figure.get_figure(root=True)
        assert figure is not None
        if (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)  # as drawing would, each time
            figure.set_layout_engine("none")
    for panel, named in levels.items():
        wanted = heights(panel, [value for _, value, _ in named])
        for note, place, own in zip(notes[panel], apart(wanted, size * 1.3), wanted, strict=True):
            note.set_position((4, place - own))
