"""Text noise: each word of five or more letters is, with probability = level, misspelt in one of five ways."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

SHORTEST = 5
"""Letters of the shortest word that is touched."""

Way = Callable[[str, np.random.Generator], str]

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_WORD = re.compile(r"[^\W\d_]+")  # letters of any script


def corrupt_text(text: str, level: float, rng: np.random.Generator) -> str:
    """Return the text with misspelt words; spaces, punctuation, digits and short words stay as they are.

    Args:
        text: any text.
        level: in [0, 1], the probability that a long word is misspelt; 0 returns the text unchanged.
        rng: draws the same numbers at every level, so that the misspelt words are nested over levels.

    >>> corrupt_text("an elephant, 1999", 1.0, np.random.default_rng(0)) == "an elephant, 1999"
    False
    >>> corrupt_text("an ant, 1999", 1.0, np.random.default_rng(0))
    'an ant, 1999'
    """
    return _WORD.sub(lambda match: misspell(match[0], level, rng, WAYS), text)


def misspell(word: str, level: float, rng: np.random.Generator, ways: Sequence[Way]) -> str:
    """Return the word, which is misspelt in one of the ways with probability `level` if it is long enough."""
    chance, way = rng.random(), int(rng.integers(len(ways)))
    own = rng.spawn(1)[0]
    return ways[way](word, own) if len(word) >= SHORTEST and chance < level else word


def _swap(word: str, rng: np.random.Generator) -> str:
    """Exchange two neighbouring letters, neither the first nor the last."""
    at = int(rng.integers(1, len(word) - 2))
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _shuffle_middle(word: str, rng: np.random.Generator) -> str:
    return word[0] + "".join(rng.permutation(list(word[1:-1]))) + word[-1]


def _typo(word: str, rng: np.random.Generator) -> str:
    """Replace one letter by a neighbour on the keyboard; letters that are not on it are left alone."""
    places = [at for at, letter in enumerate(word) if letter.lower() in NEIGHBOURS]
    if not places:
        return word
    at = int(rng.choice(places))
    key = str(rng.choice(list(NEIGHBOURS[word[at].lower()])))
    return word[:at] + (key.upper() if word[at].isupper() else key) + word[at + 1 :]


def _repeat(word: str, rng: np.random.Generator) -> str:
    at = int(rng.integers(len(word)))
    return word[:at] + word[at] + word[at:]


def _omit(word: str, rng: np.random.Generator) -> str:
    """Leave out one letter, neither the first nor the last."""
    at = int(rng.integers(1, len(word) - 1))
    return word[:at] + word[at + 1 :]


def _keyboard_neighbours() -> dict[str, str]:
    """Return the letters beside, above and below each letter of a QWERTY keyboard (rows are set off by half a key)."""
    place = {letter: (row, col + 0.5 * row) for row, keys in enumerate(_ROWS) for col, letter in enumerate(keys)}

    def near(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return abs(one[0] - other[0]) <= 1 and abs(one[1] - other[1]) <= (1 if one[0] == other[0] else 0.5)

    return {a: "".join(b for b in place if b != a and near(place[a], place[b])) for a in place}


NEIGHBOURS = _keyboard_neighbours()
WAYS: tuple[Way, ...] = (_swap, _shuffle_middle, _typo, _repeat, _omit)
