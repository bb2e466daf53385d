"""Draw architecture.svg from the imports under genbench/: `python docs/draw_architecture.py`.

A room is a package of genbench or a module at its top level. An arrow says that the upper room imports the lower one
somewhere: at the top of a module, within a function, or for type checkers alone. All three count, because a room that
knows another's types depends on it as one that calls it does, and because a late import would otherwise hide a
circle. Needs the standard library alone, and gives the same bytes everywhere.
"""

from __future__ import annotations

import ast
import itertools
import math
import random
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from html import escape
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "genbench"
PICTURE = Path(__file__).resolve().with_name("architecture.svg")

Graph = Mapping[str, AbstractSet[str]]
# A place on a floor: a room's own, or on a higher floor the place where arrows to that room pass.
Place = tuple[str, int]
Arrow = tuple[Place, Place]
Rows = list[list[Place]]


# --- What the code says ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Room:
    """A package (`models/`) or a module at the top level (`run.py`)."""

    title: str
    summary: str  # the first line of its docstring
    registers: bool  # whether it holds components, which the registry finds by name


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str | None:
    """The name of the room that a module is in; None for genbench/__init__.py, which is in none."""
    top = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return None if top == "__init__" else top


def imports(path: Path) -> set[str]:
    """The rooms of genbench that a module imports anywhere: in functions and for type checkers, its own room too."""
    names: list[list[str]] = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names += [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = list(path.relative_to(PACKAGE.parent).parts[: -node.level]) if node.level else []
            start += node.module.split(".") if node.module else []
            names += [[*start, alias.name] for alias in node.names]
    return {name[1] for name in names if name[0] == PACKAGE.name and len(name) > 1 and is_room(name[1])}


def is_room(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def read_rooms() -> dict[str, Room]:
    found = {}
    for name in sorted({room for module in modules() if (room := room_of(module))}):
        module = PACKAGE / f"{name}.py"
        package = not module.exists()
        docstring = ast.get_docstring(parsed(PACKAGE / name / "__init__.py" if package else module)) or ""
        found[name] = Room(
            title=f"{name}/" if package else f"{name}.py",
            summary=docstring.partition("\n")[0].replace("`", "").removesuffix("."),
            registers=any(registers(path) for path in modules() if room_of(path) == name),
        )
    return found


def registers(path: Path) -> bool:
    """Whether a class or function of a module stands under `@register(…)`."""
    decorators = (d for node in ast.walk(parsed(path)) for d in getattr(node, "decorator_list", []))
    return any(isinstance(d, ast.Call) and ast.unparse(d.func).split(".")[-1] == "register" for d in decorators)


def read_graph() -> dict[str, set[str]]:
    """Which other rooms each room imports."""
    graph: dict[str, set[str]] = {}
    for path in modules():
        if room := room_of(path):
            graph.setdefault(room, set()).update(imports(path) - {room})
    return graph


def floors(graph: Graph) -> dict[str, int]:
    """The length of the longest way down from each room: 0 if it imports no other. ValueError names a circle."""
    found: dict[str, int] = {}

    def floor(room: str, way: tuple[str, ...]) -> int:
        if room in way:
            raise ValueError(f"a circle: {' → '.join((*way[way.index(room) :], room))}")
        if room not in found:
            found[room] = max((1 + floor(other, (*way, room)) for other in sorted(graph[room])), default=0)
        return found[room]

    for room in sorted(graph):
        floor(room, ())
    return found


def reduced(graph: Graph) -> dict[str, set[str]]:
    """Without the imports that follow from others: if a imports b and b imports c, then a → c is left out."""

    def below(room: str) -> set[str]:
        return {room}.union(*(below(other) for other in graph[room]))

    return {
        room: {o for o in others if not any(o in below(other) for other in others - {o})}
        for room, others in ((room, set(others)) for room, others in graph.items())
    }


# --- Where everything goes ------------------------------------------------------------------------------------------

# Lengths in pixels.
MARGIN, PADDING, APART, BEND = 28, 12, 22, 4  # BEND: the width of a place where arrows pass
TITLE, TEXT, LINE = 16, 12, 15
NARROW, WIDE, MOST_LINES = 116, 300, 4
GAP, PORTS, HEAD = 40, 20, 9  # between floors; between arrows that leave a box; an arrow's head
# How long to look for the best order, and how much further arrows may go to save one crossing.
STARTS, SWEEPS, ROUNDS, CROSSING = 60, 4, 500, 1000


@dataclass(frozen=True)
class Box:
    width: int
    lines: list[str]

    @property
    def height(self) -> int:
        return 2 * PADDING + TITLE + LINE * len(self.lines)


def box(room: Room) -> Box:
    """As narrow as `MOST_LINES` lines of text allow, the lines about equally long."""
    least = max(NARROW, int(extent(room.title, TITLE) * 1.1) + 2 * PADDING)
    most = min(MOST_LINES, len(wrapped(room.summary, least - 2 * PADDING)))
    for width in range(2 * PADDING, WIDE, 4):
        lines = wrapped(room.summary, width - 2 * PADDING)
        if len(lines) <= most and all(extent(line, TEXT) <= width - 2 * PADDING for line in lines):
            return Box(max(least, width), lines)
    return Box(WIDE, wrapped(room.summary, WIDE - 2 * PADDING))


def wrapped(text: str, width: float) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and extent(f"{lines[-1]} {word}", TEXT) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def extent(text: str, size: float) -> float:
    """The width of a text in whatever sans-serif font is at hand: a generous guess."""
    return size * sum(30 if c in "fijlrt.,:;'|! ()-/" else 90 if c in "mwMW→" else 58 for c in text) / 100


def arrows(graph: Graph, floor: Mapping[str, int]) -> list[Arrow]:
    """The imports, cut at every floor that they pass. All arrows to one room share its places."""
    found = set()
    for room, others in graph.items():
        for other in others:
            start = (room, floor[room])
            for level in range(floor[room] - 1, floor[other] - 1, -1):
                found.add((start, (other, level)))
                start = (other, level)
    return sorted(found)


def packed(row: list[Place], width: Mapping[Place, int]) -> dict[Place, float]:
    """The middle of each place when a row stands close together around 0."""
    middles, right = {}, 0.0
    for place in row:
        middles[place] = right + width[place] / 2
        right += width[place] + APART
    return {place: x - (right - APART) / 2 for place, x in middles.items()}


def ordered(parts: list[Arrow], width: Mapping[Place, int]) -> Rows:
    """Every floor from left to right, with few crossings and short ways: the best of some starts, each improved."""
    near: dict[Place, list[Place]] = {place: [] for place in width}
    for upper, lower in parts:
        near[upper].append(lower)
        near[lower].append(upper)
    levels = range(1 + max(level for _, level in width))
    leaving = [[part for part in parts if part[0][1] == level] for level in (*levels, len(levels))]

    def cost(at: Mapping[Place, float], *floors: int) -> float:
        """Of the arrows that leave these floors."""
        total = 0.0
        for level in floors:
            ends = [(at[upper], at[lower]) for upper, lower in leaving[level]]
            crossings = sum((a - c) * (b - d) < 0 for i, (a, b) in enumerate(ends) for c, d in ends[:i])
            total += CROSSING * crossings + sum(abs(a - b) for a, b in ends)
        return total

    chance = random.Random(0)
    best: tuple[float, Rows] | None = None
    for _ in range(STARTS):
        rows = [sorted((p for p in width if p[1] == level), key=lambda _: chance.random()) for level in levels]
        at = {place: x for row in rows for place, x in packed(row, width).items()}
        for _ in range(SWEEPS):
            for row in (*rows, *reversed(rows)):
                row.sort(key=lambda p: sum(at[q] for q in near[p]) / len(near[p]) if near[p] else at[p])
                at |= packed(row, width)
        improved = True
        while improved:  # move one place along its row as long as that helps
            improved = False
            for level, row in enumerate(rows):
                now = cost(at, level, level + 1)
                for i, j in itertools.permutations(range(len(row)), 2):
                    row.insert(j, row.pop(i))
                    if (moved := cost(at | packed(row, width), level, level + 1)) < now - 1e-6:
                        now, improved = moved, True
                    else:
                        row.insert(i, row.pop(j))
                at |= packed(row, width)
        total = cost(at, *levels)
        if best is None or total < best[0]:
            best = total, rows
    assert best
    return best[1]


def placed(rows: Rows, parts: list[Arrow], width: Mapping[Place, int]) -> dict[Place, int]:
    """The middle of each place: as near to what it is connected with as its neighbours let it."""
    pull: dict[Place, list[tuple[float, Place]]] = {place: [] for place in width}
    for upper, lower in parts:
        weight = 20.0 if upper[0] == lower[0] else 1.0  # a bundle of arrows hangs straight
        pull[upper].append((weight, lower))
        pull[lower].append((weight, upper))
    at = {place: x for row in rows for place, x in packed(row, width).items()}
    for _ in range(ROUNDS):
        for row in (*rows, *reversed(rows)):
            offset = packed(row, width)
            blocks: list[list[float]] = []  # wish, weight, members: neighbours that meet are moved together
            for place in row:
                weight = sum(w for w, _ in pull[place]) or 1e-3
                wish = sum(w * at[q] for w, q in pull[place]) / weight if pull[place] else at[place]
                blocks.append([wish - offset[place], weight, 1])
                while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
                    (a, v, m), (b, w, n) = blocks[-2:]
                    blocks[-2:] = [[(a * v + b * w) / (v + w), v + w, m + n]]
            shifts = [shift for shift, _, members in blocks for _ in range(int(members))]
            for place, shift in zip(row, shifts, strict=True):
                at[place] = offset[place] + shift
    # From here on in whole pixels, rounded twice so that no last digit of a sum decides a half.
    at = {place: float(round(round(x, 3))) for place, x in at.items()}
    straighten(at, rows, width)
    left = min(x - width[place] / 2 for place, x in at.items())
    return {place: round(x - left) + MARGIN for place, x in at.items()}


def straighten(at: dict[Place, float], rows: Rows, width: Mapping[Place, int]) -> None:
    """Hang every bundle of arrows plumb, from its highest place to its room, as far as the neighbours let it."""

    def room_for(place: Place) -> tuple[float, float]:
        row = rows[place[1]]
        i = row.index(place)
        reach = [(width[place] + width[other]) / 2 + APART - 2 for other in row]
        return (
            at[row[i - 1]] + reach[i - 1] if i else -math.inf,
            at[row[i + 1]] - reach[i + 1] if i + 1 < len(row) else math.inf,
        )

    def hang(run: list[Place]) -> None:
        low, high = max(room_for(p)[0] for p in run), min(room_for(p)[1] for p in run)
        middle = min(max(sum(at[p] for p in run) / len(run), low), high)
        at.update((p, middle) for p in run)

    for name in sorted({place[0] for place in at}):
        run: list[Place] = []
        for place in sorted((p for p in at if p[0] == name), key=lambda p: -p[1]):
            longer = [*run, place]
            if run and max(room_for(p)[0] for p in longer) > min(room_for(p)[1] for p in longer):
                hang(run)
                longer = [place]
            run = longer
        hang(run)


# --- The picture ----------------------------------------------------------------------------------------------------

LEGEND = (
    "An arrow leads to what a room imports; one that follows from others is left out.",
    "Green rooms hold components, which are found by name: nobody needs to import them.",
)


def draw() -> str:
    """The picture as SVG."""
    graph, rooms = read_graph(), read_rooms()
    floor = floors(graph)
    parts = arrows(reduced(graph), floor)
    boxes = {(name, floor[name]): box(room) for name, room in rooms.items()}
    places = sorted({*boxes, *(place for part in parts for place in part)})
    width = {place: boxes[place].width if place in boxes else BEND for place in places}
    rows = ordered(parts, width)
    at = placed(rows, parts, width)

    span: list[tuple[int, int]] = [(0, 0)] * len(rows)  # top and bottom of every floor
    y = MARGIN
    for level in reversed(range(len(rows))):
        high = max(boxes[place].height for place in rows[level] if place in boxes)
        far = max((abs(at[upper] - at[lower]) for upper, lower in parts if upper[1] == level), default=0)
        span[level] = (y, y + high)
        y += high + GAP + min(far // 12, GAP)
    wide = max(at[place] + width[place] // 2 for place in places) + MARGIN
    high = span[0][1] + MARGIN + LINE * len(LEGEND) + 8

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" role="img"',
        ' aria-label="What imports what in genbench" font-family="Helvetica, Arial, sans-serif">',
        f'<rect width="{wide}" height="{high}" fill="#fff"/>',
    ]
    for name in sorted(rooms):
        lines += bundle(name, parts, at, span, boxes)
    for place, shape in sorted(boxes.items()):
        lines += drawn(rooms[place[0]], shape, at[place], span[place[1]])
    for i, line in enumerate(LEGEND, 1):
        y = span[0][1] + 16 + LINE * i
        lines.append(f'<text x="{MARGIN}" y="{y}" font-size="{TEXT}" fill="#444">{escape(line)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def bundle(
    name: str, parts: list[Arrow], at: Mapping[Place, int], span: list[tuple[int, int]], boxes: Mapping[Place, Box]
) -> list[str]:
    """All arrows to one room as one path, on a white one, which shows that it passes over others."""
    way, head = [], ""
    for upper, lower in (part for part in parts if part[1][0] == name):
        exits = sorted((below for above, below in parts if above == upper), key=at.__getitem__)
        x1 = at[upper] + round((exits.index(lower) - (len(exits) - 1) / 2) * PORTS)
        x2, y1, y2 = at[lower], span[upper[1]][1], span[lower[1]][0]
        if upper not in boxes:
            way.append(f"M{x1} {span[upper[1]][0]}V{y1}")
        if lower in boxes:
            head = f'<path d="M{x2 - HEAD // 2} {y2 - HEAD}h{HEAD // 2 * 2}l-{HEAD // 2} {HEAD}z" fill="#666"/>'
            y2 -= HEAD
        middle = (y1 + y2) // 2
        way.append(f"M{x1} {y1}C{x1} {middle} {x2} {middle} {x2} {y2}")
    if not way:
        return []
    path = f'<path d="{"".join(way)}" fill="none"'
    return [f'{path} stroke="#fff" stroke-width="5"/>', f'{path} stroke="#666" stroke-width="1.5"/>', head]


def drawn(room: Room, shape: Box, x: int, span: tuple[int, int]) -> list[str]:
    top, bottom = span
    fill, edge = ("#e4f2ec", "#009e73") if room.registers else ("#e8eef7", "#0072b2")
    y = (top + bottom - shape.height) // 2 + PADDING + TITLE - 3
    return [
        f'<rect x="{x - shape.width // 2}" y="{top}" width="{shape.width}" height="{bottom - top}" rx="6"'
        f' fill="{fill}" stroke="{edge}" stroke-width="1.5"/>',
        f'<text x="{x}" y="{y}" font-size="{TITLE}" font-weight="bold" text-anchor="middle" fill="#111">'
        f"{escape(room.title)}</text>",
        *(
            f'<text x="{x}" y="{y + 2 + LINE * i}" font-size="{TEXT}" text-anchor="middle" fill="#444">'
            f"{escape(line)}</text>"
            for i, line in enumerate(shape.lines, 1)
        ),
    ]


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8", newline="\n")
