"""What the tests of the datasets share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from mmwa_utils.datasets import DatasetError


@contextmanager
def _data_or_error(name: str) -> Iterator[None]:
    try:
        yield
    except DatasetError as error:
        if name not in str(error):
            raise AssertionError(f"the message does not name {name}: {error}") from error


@pytest.fixture(scope="session")
def data_or_error() -> Callable[[str], AbstractContextManager[None]]:
    """A block that may raise `DatasetError`, if the message names the file, and nothing else."""
    return _data_or_error
