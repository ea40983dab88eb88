"""A small tokenizer and image processor, which a stand-in of text or pictures has beside its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_processor(path: Path, *, words: Sequence[str], shortest_edge: int, size_divisor: int = 8) -> Path:
    """Write a small BERT tokenizer over `words` and a ViLT image processor as `from_pretrained` reads them.

    Words outside the vocabulary are spelt with its letters, so any lower-case English text can be encoded.

    >>> import tempfile
    >>> from mmwa_utils.datasets.processing import load_processor
    >>> folder = write_processor(Path(tempfile.mkdtemp()) / "p", words=["red", "circle"], shortest_edge=32)
    >>> load_processor(folder).tokenizer.tokenize("Red circles")
    ['red', 'circle', '##s']
    """
    from transformers import ViltImageProcessorPil

    path.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [*_SPECIAL, *sorted(set(words) | set(letters) | set(".,!?'-")), *(f"##{letter}" for letter in letters)]
    (path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    special = {f"{name.strip('[]').lower()}_token": name for name in _SPECIAL}
    (path / "tokenizer_config.json").write_text(json.dumps({**config, **special}, indent=1), encoding="utf-8")
    images = {"size": {"shortest_edge": shortest_edge}, "size_divisor": size_divisor}
    ViltImageProcessorPil.from_dict(images).save_pretrained(path)
    return path
