"""MedFuse-I: in-hospital mortality from MIMIC-IV charts and MIMIC-CXR X-rays (Hayat et al., 2022).

Licence: PhysioNet Credentialed Health Data; each user needs an account with a finished training course in research on
human subjects, and must accept both data use agreements. The data must not be passed on.

Steps:
  1. On PhysioNet fetch MIMIC-IV 1.0 and MIMIC-CXR-JPG 2.0.0.
  2. Run the extraction of nyuad-cai/MedFuse on GitHub (folder mimic4extract) on MIMIC-IV for the task
     in-hospital-mortality, and its script resize.py on MIMIC-CXR-JPG.
  3. Bring together in one folder (links to folders are fine):

       in-hospital-mortality/train/*_timeseries.csv       also holds the validation stays
       in-hospital-mortality/test/*_timeseries.csv
       in-hospital-mortality/train_listfile.csv, val_listfile.csv, test_listfile.csv
       root/all_stays.csv
       mimic-cxr-2.0.0-metadata.csv
       resized/*.jpg

  4. Run `mmwa data verify medfuse FOLDER`.
The X-rays may lie elsewhere: give that folder as `xray_root`.
Beware: all 26226 stays are meant to be used, also the three quarters without an X-ray; period_length is 0 in the
listfiles, which stands for 48 hours.

The charts are the in-hospital-mortality task of the MIMIC-IV benchmark, the X-rays are MIMIC-CXR-JPG's, paired as
MedFuse does ("partial": stays without an X-ray are kept).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from mmwa_utils.datasets._files import DatasetError, MissingImages, inside, is_standin, read_image, stat_bytes
from mmwa_utils.datasets._report import Report
from mmwa_utils.datasets._sequence_store import cache_folder
from mmwa_utils.datasets._split import IndexedSplit
from mmwa_utils.datasets.medfuse_features import FEATURE_NAMES, N_BINS, Normaliser, discretise, read_timeseries
from mmwa_utils.datasets.medfuse_index import METADATA, SPLITS, TASK, Index, Stay, read_index, series_folder
from mmwa_utils.files import write_json
from mmwa_utils.types import DatasetSpec, ModalitySpec, Sample

EXPECTED = {"train": 18845, "val": 2138, "test": 5243}
"""Stays, which are also the paper's numbers."""

EXPECTED_POSITIVE = {"train": 2357, "val": 254, "test": 651}
"""Stays that end in death."""

_CHARTS = ModalitySpec("ehr", "stream", width=len(FEATURE_NAMES), max_length=N_BINS)
MODALITIES = (_CHARTS, ModalitySpec("xray", "image", max_length=512))
SPEC = DatasetSpec("medfuse", MODALITIES, "binary", n_labels=1, label_names=("died in hospital",), metric="auroc")


def recognise(root: Path) -> str | None:
    """Return the name of the layout that the folder holds, or None."""
    return "MIMIC-IV benchmark with MIMIC-CXR-JPG" if (root / TASK / "train_listfile.csv").is_file() else None


class MedFuseSplit(IndexedSplit):
    """One split: charts are read and discretised, and X-rays decoded, when a sample is asked for."""

    def __init__(self, root: Path, name: str, xray_root: Path, missing_images: MissingImages) -> None:
        every, _ = _index(root, xray_root)
        self._folder, self._xrays = series_folder(root, name), xray_root / "resized"
        self.normaliser = normaliser(root, every["train"])
        self.stays = every[name]
        if missing_images == "absent":
            gone = {s.dicom_id for s in self.stays if s.dicom_id and not self.xray_path(s.dicom_id).is_file()}
            self.stays = tuple(replace(s, dicom_id=None) if s.dicom_id in gone else s for s in self.stays)
        ids = [stay.name.removesuffix("_timeseries.csv") for stay in self.stays]
        labels = np.asarray([stay.label for stay in self.stays], dtype=np.int64)
        super().__init__(name, SPEC, ids=ids, labels=labels, standin=is_standin(root))

    def read(self, index: int) -> Sample:
        """Return the normalised 76 features (48, 76) and, where the stay has one, the X-ray in RGB."""
        stay = self.stays[index]
        modalities: dict[str, Any] = {"ehr": self.normaliser(features(self._folder / stay.name))}
        if stay.dicom_id is not None:
            modalities["xray"] = read_image(self.xray_path(stay.dicom_id))
        absent = frozenset({"ehr", "xray"} - set(modalities))
        group = None if stay.subject_id is None else str(stay.subject_id)
        return Sample(self._ids[index], stay.label, modalities, absent, group)

    def xray_path(self, dicom_id: str) -> Path:
        """Return where the X-ray of this name lies."""
        return inside(self._xrays, f"{dicom_id}.jpg")

    def sources(self) -> Iterator[bytes]:
        """Yield the listed stays with their X-rays, name and size of each file, and the normalisation."""
        yield repr((self.normaliser.mean.tolist(), self.normaliser.std.tolist())).encode()
        for stay in self.stays:
            yield repr((stay.name, stay.label, stay.dicom_id)).encode()
            yield stat_bytes(self._folder / stay.name)
            yield stat_bytes(self.xray_path(stay.dicom_id) if stay.dicom_id else None)


def features(path: Path) -> Float[np.ndarray, "48 76"]:
    """Return the 76 features of a time series' file, not normalised."""
    return discretise(read_timeseries(path))


def normaliser(root: Path, stays: Sequence[Stay]) -> Normaliser:
    """Return the training stays' statistics, computed once and kept with the SHA-256 of what they came from."""
    paths = [inside(series_folder(root, "train"), stay.name) for stay in stays]
    digest = hashlib.sha256(b"1")
    for path in paths:
        changed = path.stat().st_mtime_ns if path.exists() else 0
        digest.update(stat_bytes(path) + f"/{changed};".encode())
    kept = cache_folder(root) / "medfuse-normaliser.json"
    try:
        known = json.loads(kept.read_text("utf-8"))
        if known["sources"] == digest.hexdigest():
            return Normaliser(np.asarray(known["mean"]), np.asarray(known["std"]), len(stays))
    except (OSError, ValueError, TypeError, KeyError):
        pass  # not there yet, or cut off: it is made again
    fitted = Normaliser.fit(map(features, paths))
    write_json(kept, {"sources": digest.hexdigest(), "mean": fitted.mean.tolist(), "std": fitted.std.tolist()})
    return fitted


def _index(root: Path, xray_root: Path) -> Index:
    files = [root / TASK / f"{split}_listfile.csv" for split in SPLITS]
    files += [root / "root" / "all_stays.csv", xray_root / METADATA]
    stamps = tuple((path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else (0, 0) for path in files)
    return _read_index(root, xray_root, stamps)


@lru_cache(maxsize=4)
def _read_index(root: Path, xray_root: Path, stamps: tuple[tuple[int, int], ...]) -> Index:
    return read_index(root, xray_root)  # `stamps` makes changed files be read again


def open_split(
    root: Path, split: str, *, xray_root: Path | str | None = None, missing_images: MissingImages = "error"
) -> MedFuseSplit:
    """Return one split; this reads the tables and, the first time, every training stay for the normalisation.

    `xray_root` is the folder with the X-rays' metadata and `resized/`, if it is another. With
    `missing_images="absent"` an X-ray whose file is not there counts as absent; otherwise reading the sample fails.
    """
    return MedFuseSplit(root, split, Path(xray_root or root), missing_images)


def check(root: Path, report: Report) -> None:
    """Check tables, counts, missingness, each time series and each X-ray that is needed."""
    report.note("The paper used 18845 / 2138 / 5243 stays, also those without an X-ray (about 74 % in training).")
    by_split, repairs = _index(root, root)
    for kind, times in sorted(repairs.items()):
        report.count(f"repaired, {kind}", times)
    owner: dict[int, str] = {}
    for split, stays in by_split.items():
        died, paired = sum(stay.label for stay in stays), [stay.dicom_id for stay in stays if stay.dicom_id]
        report.count(f"{split}: stays", len(stays), expected=EXPECTED[split])
        report.count(f"{split}: died", died, expected=EXPECTED_POSITIVE[split])
        report.count(f"{split}: survived", len(stays) - died)
        report.count(f"{split}: without an X-ray", len(stays) - len(paired))
        for stay in stays:
            if stay.subject_id is not None and owner.setdefault(stay.subject_id, split) != split:
                where = f"{stay.subject_id} in {owner[stay.subject_id]} and {split}"
                report.problem("patient in two splits", where, fatal=False)
        times = 0
        for path in (series_folder(root, split) / stay.name for stay in stays):
            try:
                times += sum(read_timeseries(path).repairs.values())
            except DatasetError as error:
                report.problem(f"{'unusable' if path.is_file() else 'missing'} time series", str(error), fatal=True)
        if times:
            report.count(f"{split}: repaired, values not finite or rows out of order", times)
        xrays = [root / "resized" / f"{name}.jpg" for name in paired]
        for path in xrays:
            if not path.is_file():
                report.problem('missing X-ray (missing_images="absent" reads on without)', str(path), fatal=False)
        report.check_images([path for path in xrays if path.is_file()])
