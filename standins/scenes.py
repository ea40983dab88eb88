"""Pictures and sentences that share objects: how a story becomes pixels and words, and which belong together.

A scene has three objects on a grid of square cells. Text and picture both mention all three, at the same places:

- the *circle* is red (+1) or blue (-1): the shared sign, in words and in paint, each wrong now and then;
- the *square* is yellow (+1) or purple (-1): the picture shows one part and the text names the other, so that only
  their agreement tells anything;
- the *triangle* is called old (+1) or new (-1) in the text, the dominant modality; the picture shows a grey one.

Whatever the colours say, the words about an object and the patches that show it are about the same thing: a true
correspondence of tokens, with which a learned transport plan can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, UInt8

from standins.story import Draws, locate

CELL = 16
"""Side of a cell in pixels."""

_ROWS = {4: ("top", "upper", "lower", "bottom"), 6: ("top", "upper", "high", "low", "lower", "bottom")}
_COLUMNS = ("first", "second", "third", "fourth")
_WORDS = {"circle": ("blue", "red"), "square": ("purple", "yellow"), "triangle": ("new", "old")}
_PAINT = {
    ("circle", -1): (40, 70, 200),
    ("circle", 1): (210, 40, 40),
    ("square", -1): (130, 50, 150),
    ("square", 1): (235, 200, 40),
    ("triangle", 0): (110, 110, 110),
}
_OPENINGS = ("look at", "when you see", "nobody expected", "this is", "here we have", "say hello to", "guess who found")
_FILLERS = (
    "and that was all",
    "nobody knows why",
    "what a day it was",
    "as everyone said later",
    "until the lights went out",
    "and the band played on",
)

VOCABULARY = tuple(
    sorted(
        {word for phrase in (*_OPENINGS, *_FILLERS) for word in phrase.split()}
        | {word for rows in _ROWS.values() for word in rows}
        | set(_COLUMNS)
        | {word for pair in _WORDS.values() for word in pair}
        | set(_WORDS)
        | {"the", "and", "at", ",", "."}
    )
)
"""Every word that a scene's text can have."""


@dataclass(frozen=True)
class SceneObject:
    """An object in both modalities: its words as [start, end) characters, its cell as row and column."""

    shape: str
    start: int
    end: int
    row: int
    column: int


@dataclass(frozen=True)
class Correspondence:
    """Which words and which cells of a picture are about the same object.

    `grid` is the number of rows and columns of cells of the picture.

    Examples
    --------
    >>> true = Correspondence((SceneObject("circle", 0, 10, row=1, column=0),), grid=(2, 2))
    >>> true.matrix(np.array([[0, 3], [4, 10], [11, 14]]), patches=(2, 2)).astype(int)
    array([[0, 0, 1, 0],
           [0, 0, 1, 0],
           [0, 0, 0, 0]])
    """

    objects: tuple[SceneObject, ...]
    grid: tuple[int, int]

    def matrix(self, offsets: Int[np.ndarray, "tokens 2"], *, patches: tuple[int, int]) -> Bool[np.ndarray, "tokens p"]:
        """True where a token and a patch are about the same object.

        Args:
            offsets: first and last-plus-one character of each token, (0, 0) for special tokens and padding.
            patches: rows and columns of patches, read row by row; a patch belongs to the cell in which its centre lies.
        """
        rows, columns = patches
        cell_row = ((np.arange(rows) + 0.5) * self.grid[0] / rows).astype(int)
        cell_column = ((np.arange(columns) + 0.5) * self.grid[1] / columns).astype(int)
        related = np.zeros((len(offsets), rows * columns), dtype=bool)
        for item in self.objects:
            word = (offsets[:, 0] >= item.start) & (offsets[:, 1] <= item.end) & (offsets[:, 1] > offsets[:, 0])
            shown = (cell_row == item.row)[:, None] & (cell_column == item.column)[None, :]
            related |= word[:, None] & shown.ravel()[None, :]
        return related


@dataclass(frozen=True)
class Scene:
    """One drawn scene: 8-bit pixels (height, width, 3), text, and what corresponds in them.

    Examples
    --------
    >>> sight = np.array([1, -1, 1])
    >>> scene = draw_scene({"text": sight, "image": sight}, (4, 4), np.random.default_rng(0))
    >>> scene.pixels.shape, [scene.text[item.start:item.end] for item in scene.correspondence.objects][0][:10]
    ((64, 64, 3), 'red circle')
    """

    pixels: UInt8[np.ndarray, "height width 3"]
    text: str
    correspondence: Correspondence


def scene_of(draws: Draws, index: int, grid: tuple[int, int], seed: Sequence[int]) -> Scene:
    """Return the scene of one sample that a story drew: the same for the same arguments."""
    return draw_scene({name: seen[index] for name, seen in draws.seen.items()}, grid, np.random.default_rng(seed))


def find_scene(sample_id: str, draws: Mapping[str, Draws], grid: tuple[int, int], seed: int) -> Scene:
    """Return the scene of a sample; ids count from 1.

    Raises:
        KeyError: the stand-in has no such sample.
    """
    split, index = locate(sample_id, draws, first=1)
    return scene_of(tuple(draws.values())[split], index, grid, [seed, split, index])


def draw_scene(seen: Mapping[str, np.ndarray], grid: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Draw the picture and write the text for what each modality sees of the signs (columns shared, part, own)."""
    cells = rng.choice(grid[0] * grid[1], size=3, replace=False)
    places = {shape: divmod(int(cell), grid[1]) for shape, cell in zip(_WORDS, cells, strict=True)}
    shown, said = ([int(sign) for sign in seen[name]] for name in ("image", "text"))
    pixels = _paint(dict(zip(_WORDS, (*shown[:2], 0), strict=True)), places, grid, rng)
    text, objects = _write(dict(zip(_WORDS, said, strict=True)), places, grid[0], rng)
    return Scene(pixels, text, Correspondence(objects, grid))


def _paint(
    signs: Mapping[str, int], places: Mapping[str, tuple[int, int]], grid: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    height, width = grid[0] * CELL, grid[1] * CELL
    background = rng.integers(200, 246)
    canvas = np.full((height, width, 3), background, dtype=np.float64)
    for shape, (row, column) in places.items():
        inside = _silhouette(shape, size=rng.uniform(0.72, 0.95))
        cell = canvas[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
        cell[inside] = _PAINT[shape, signs[shape]]
    noisy = canvas + rng.normal(0.0, 12.0, size=canvas.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def _silhouette(shape: str, *, size: float) -> np.ndarray:
    """Which pixels of a cell a shape covers; `size` is its diameter as a share of the cell."""
    axis = (np.arange(CELL) + 0.5) / CELL * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    if shape == "circle":
        return x**2 + y**2 <= size**2
    if shape == "square":
        return np.maximum(abs(x), abs(y)) <= size * 0.85
    return (y <= size * 0.85) & (abs(x) <= (y + size) / 2)


def _write(
    signs: Mapping[str, int], places: Mapping[str, tuple[int, int]], rows: int, rng: np.random.Generator
) -> tuple[str, tuple[SceneObject, ...]]:
    text = f"{rng.choice(_OPENINGS)} the "
    objects = []
    order = [tuple(_WORDS)[int(i)] for i in rng.permutation(len(_WORDS))]
    for position, shape in enumerate(order):
        row, column = places[shape]
        phrase = f"{_WORDS[shape][signs[shape] > 0]} {shape} at {_ROWS[rows][row]} {_COLUMNS[column]}"
        objects.append(SceneObject(shape, len(text), len(text) + len(phrase), row, column))
        text += phrase + (" , the ", " and the ", " ")[position]
    text += f"{rng.choice(_FILLERS)} ."
    return text, tuple(sorted(objects, key=lambda item: item.shape))


def retell(scene: Scene, rng: np.random.Generator, *, sentences: int) -> str:
    """The scene's text with further sentences that say nothing: a longer plot of the same film."""
    extra = (f"{rng.choice(_OPENINGS)} {rng.choice(_FILLERS)} ." for _ in range(sentences))
    return " ".join((scene.text, *extra))
