"""Which photos a `fill` is about, which mask belongs to each, and where each result goes."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

FORMATS = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
}
ONLY_READ = {
    ".avif": ".png",
    ".heic": ".jpg",
    ".heif": ".jpg",
    ".jxl": ".png",
}  # with the suffix that results mostly have
READABLE = {*FORMATS, *ONLY_READ}
SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif"}
MASK = "_mask"  # NAME_mask.png, NAME_mask001.png: the names of the released code's predict script


class PairsError(Exception):
    """The arguments do not say which pictures to fill; the message says what to change."""


@dataclass(frozen=True)
class Pair:
    """One picture to fill.

    mask: None where the photo's transparency is the hole. output: the result's file. name: the photo as the user knows
    it. problem: why it cannot be filled, if that shows already. follows: the result's format is known once it is there,
    and decides the output's suffix.
    """

    photo: Path
    mask: Path | None
    output: Path
    name: str
    problem: str | None = None
    follows: bool = False

    def output_as(self, form: str) -> Path:
        """Where a result of that format goes."""
        return self.output.with_suffix(SUFFIXES[form]) if self.follows else self.output

    def outputs(self) -> list[Path]:
        """Where the result may be."""
        return [self.output_as(form) for form in (SUFFIXES if self.follows else ("",))]


def find_pairs(photos: Sequence[str], masks: Path | None, output: Path, form: str) -> list[Pair]:
    """All pictures that the arguments name, in order.

    photos: files, folders (with their subfolders) and patterns. masks: a folder with the photos' names, or one mask for
    all; None: `NAME_mask*` beside each photo, and where there is none, its transparency. output: a file's name for one
    picture, otherwise a folder. form: the results' format, or `same`. Raises PairsError.
    """
    if masks is not None and not masks.exists():
        raise PairsError(f"--masks {masks}: there is no such file or folder")
    found = list(dict.fromkeys(_photos(photos, output)))
    if not found:
        raise PairsError(f"there is no picture in {' '.join(photos)}: looked for {' '.join(sorted(READABLE))}")
    matched = [(photo, name, mask) for photo, name in found for mask in _masks(photo, name, masks)]
    if str(output) == "-" or (output.suffix.lower() in FORMATS and not output.is_dir()):
        if len(matched) > 1:
            raise PairsError(f"-o {output}: {len(matched)} pictures need a folder, not one file")
        photo, name, mask = matched[0]
        return [_pair(photo, mask, output, name, masks)]
    pairs = [
        _pair(photo, mask, output / _result_name(photo, name, mask, form), name, masks, form)
        for photo, name, mask in matched
    ]
    taken = Counter(path for pair in pairs for path in pair.outputs())
    return [
        pair
        if all(taken[path] == 1 for path in pair.outputs())
        else replace(pair, output=pair.output.with_name(f"{Path(pair.name).name}{pair.output.suffix}"))
        for pair in pairs
    ]


def _pair(photo: Path, mask: Path | None, output: Path, name: Path, masks: Path | None, form: str = "") -> Pair:
    missing = f"{masks} has no mask for it" if masks is not None and mask is None else None
    follows = form == "same" and photo.suffix.lower() not in FORMATS
    return Pair(photo, mask, output, str(name), missing, follows)


def _photos(arguments: Sequence[str], output: Path) -> Iterator[tuple[Path, Path]]:
    """Each photo, and its path below what named it."""
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            inside = [file for file in sorted(path.rglob("*")) if _is_picture(file) and output not in file.parents]
            yield from ((file, file.relative_to(path)) for file in _without_masks(inside))
        elif path.exists():
            yield path, Path(path.name)
        elif glob.has_magic(argument):
            matches = sorted(Path(match) for match in glob.glob(argument, recursive=True))
            yield from ((file, Path(file.name)) for file in _without_masks([f for f in matches if _is_picture(f)]))
        else:
            raise PairsError(f"{argument}: there is no such file or folder")


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in READABLE and not path.name.startswith(".") and path.is_file()


def _without_masks(files: Sequence[Path]) -> list[Path]:
    """The files but for those that are the mask of another one."""
    photos = {(file.parent, file.stem) for file in files}
    return [
        file for file in files if MASK not in file.stem or (file.parent, file.stem.rpartition(MASK)[0]) not in photos
    ]


def _masks(photo: Path, name: Path, masks: Path | None) -> Sequence[Path | None]:
    """The masks of a photo; [None] where there is none."""
    if masks is not None and masks.is_file():
        return [masks]
    folder, stem = (photo.parent, photo.stem) if masks is None else (masks / name.parent, name.stem)
    beside = sorted(file for file in folder.glob(f"{glob.escape(stem)}*") if _is_picture(file))
    found = [file for file in beside if file.stem.startswith(f"{stem}{MASK}")]
    if masks is not None:
        found = [file for file in beside if file.stem == stem] or found
    return found or [None]


def _result_name(photo: Path, name: Path, mask: Path | None, form: str) -> Path:
    """Where a result goes below the output folder: the photo's name, or the mask's if a photo has several."""
    own = photo.suffix if photo.suffix.lower() in FORMATS else ONLY_READ.get(photo.suffix.lower(), ".png")
    suffix = own if form == "same" else SUFFIXES[form]
    several = mask is not None and mask.stem.startswith(f"{name.stem}{MASK}") and mask.stem != f"{name.stem}{MASK}"
    return name.with_name(f"{mask.stem if several and mask else name.stem}{suffix}")
