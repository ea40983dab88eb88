"""Names and numbers of MM-IMDb that its readers and its stand-in share."""

from mmwa_utils.types import DatasetSpec, ModalitySpec

GENRES = (
    *("Action", "Adventure", "Animation", "Biography", "Comedy", "Crime", "Documentary", "Drama", "Family", "Fantasy"),
    *("Film-Noir", "History", "Horror", "Music", "Musical", "Mystery", "Romance", "Sci-Fi", "Short", "Sport"),
    *("Thriller", "War", "Western"),
)
DROPPED = ("News", "Adult", "Talk-Show", "Reality-TV")
"""The four rarest of the 27 raw genres, which the literature leaves out: 64, 4, 2 and 1 films."""

EXPECTED = {"train": 15552, "val": 2608, "test": 7799}
"""Films in each split of the release."""

ROWS = {"train": 32278, "val": 5411, "test": 16120}
"""Rows in each split of the paper: one per plot."""

MODALITIES = (ModalitySpec("text", "text"), ModalitySpec("image", "image"))
SPEC = DatasetSpec("mm_imdb", MODALITIES, "multilabel", len(GENRES), label_names=GENRES, metric="f1_macro")
