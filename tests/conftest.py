"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest

import standins
from mmwa_utils.datasets.processing import Processor, load_processor


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Switch the checking of annotations off, to see how a function itself refuses a wrong argument."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def memes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in of Hateful Memes: 240 memes to train on, 60 each to validate and to test."""
    return standins.write("hateful_memes", tmp_path_factory.mktemp("memes") / "data", samples=240, seed=3)


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in of MM-IMDb: 240 films to train on, 60 each to validate and to test."""
    return standins.write("mm_imdb", tmp_path_factory.mktemp("films") / "data", samples=240, seed=3)


@pytest.fixture(scope="session")
def processor(memes: Path) -> Processor:
    """The processor beside a stand-in."""
    return load_processor(memes / "processor")
