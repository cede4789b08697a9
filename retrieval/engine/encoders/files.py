"""The files of models that a site provides: where they lie, and which ones it has accepted.

A model's files are in the folder of its name inside the models folder, or in the Hugging Face
hub's cache; nothing is ever downloaded. Before first use an administrator pins them: their
SHA-256 are kept in `pins.json` in the models folder. Loading refuses files that were not
pinned, or that are not the ones that were.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from retrieval.engine.encoders.spec import EncoderSpec, ModelFiles
from retrieval.engine.errors import ModelCorrupt, ModelMissing, ModelUnpinned

FOLDER_VARIABLE = "PATHSEARCH_MODELS_DIR"
# Of all that lies beside the weights, what a library may read on loading.
_READ_SUFFIXES = {".json", ".txt", ".model", ".yaml"}

_folder: Path | None = None


def set_models_folder(folder: Path) -> None:
    """Say where the site keeps its models; without it the environment variable decides."""
    global _folder
    _folder = folder


def models_folder() -> Path:
    """Return the folder of the site's models; `PATHSEARCH_MODELS_DIR`, else ``models``."""
    return _folder or Path(os.environ.get(FOLDER_VARIABLE) or "models").absolute()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_weights(files: ModelFiles) -> Path:
    """Return the path of a model's weights file: in its own folder, else in the hub's cache.

    Raises
    ------
    ModelMissing
        It is in neither.
    """
    own = models_folder() / files.folder
    for weights in files.weights:
        if (own / weights).is_file():
            return own / weights
    for repository in files.repositories:
        for weights in files.weights:
            cached = _in_hub_cache(repository, weights)
            if cached:
                return cached
    raise ModelMissing(f"The files of the model {files.folder} are not on this machine.")


def _in_hub_cache(repository: str, file: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    # Looks on the disk only. The snapshot's path, not the blob's: its folder has the others.
    found = try_to_load_from_cache(repository, file)
    return Path(found) if isinstance(found, str) else None


@dataclass(frozen=True)
class Pin:
    """The files of a model that an administrator accepted.

    Attributes
    ----------
    weights : str
        Name of the weights file.
    files : mapping of str to str
        SHA-256 by path inside the model's folder; the weights are among them.
    pinned_at : str
        ISO 8601, UTC.
    """

    weights: str
    files: Mapping[str, str]
    pinned_at: str

    @property
    def weights_sha256(self) -> str:
        """Return the SHA-256 of the weights file."""
        return self.files[self.weights]


def pins_path() -> Path:
    """Return the path of the file with the pins."""
    return models_folder() / "pins.json"


def read_pins() -> dict[str, Pin]:
    """Return the pins by the models' folders.

    Raises
    ------
    ModelUnpinned
        The file cannot be read: then nothing is accepted.
    """
    path = pins_path()
    if not path.is_file():
        return {}
    try:
        said = json.loads(path.read_text(encoding="utf-8"))["models"]
        pins = {
            name: Pin(str(p["weights"]), dict(p["files"]), str(p["pinned_at"]))
            for name, p in said.items()
        }
        if any(pin.weights not in pin.files for pin in pins.values()):
            raise KeyError("weights")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnpinned(
            f"The file of accepted models cannot be read: {path}. Restore it, or remove it and "
            "pin the models again: manage.py encoders pin NAME"
        ) from error
    return pins


def pin(spec: EncoderSpec, *, expected_sha256: str = "", replace: bool = False) -> Pin:
    """Accept the files that are there now, and return what was kept.

    Parameters
    ----------
    expected_sha256 : str
        Of the weights file, as their authors publish it; empty: not compared.
    replace : bool
        Whether an earlier pin of other files may be given up.

    Raises
    ------
    ModelMissing
        There is nothing to pin.
    ModelCorrupt
        The weights have another SHA-256 than expected, or than an earlier pin.
    """
    if spec.files is None:
        raise ModelCorrupt(f"{spec.name} comes with PathSearch: its entry pins it already.")
    weights = located(spec)
    found = _hashes(weights)
    if expected_sha256 and found[weights.name] != expected_sha256.lower():
        raise ModelCorrupt(
            f"The weights of {spec.name} have the SHA-256 {found[weights.name]}, not the one "
            f"expected. {spec.remedy}"
        )
    pins = read_pins()
    earlier = pins.get(spec.files.folder)
    if earlier and dict(earlier.files) == found:
        return earlier
    if earlier and not replace:
        raise ModelCorrupt(
            f"Other files of {spec.name} were pinned at {earlier.pinned_at}. Restore those, or "
            f"give the earlier pin up deliberately: manage.py encoders pin {spec.name} --replace"
        )
    new = Pin(weights.name, found, datetime.now(UTC).isoformat(timespec="seconds"))
    pins[spec.files.folder] = new
    _write_pins(pins)
    return new


def _write_pins(pins: Mapping[str, Pin]) -> None:
    said = {
        name: {"weights": p.weights, "pinned_at": p.pinned_at, "files": dict(p.files)}
        for name, p in sorted(pins.items())
    }
    path = pins_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps({"models": said}, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def _hashes(weights: Path) -> dict[str, str]:
    """Return the SHA-256 of the weights and of all that a library may read beside them."""
    folder = weights.parent
    read = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix in _READ_SUFFIXES and path.is_file()
    ]
    return {str(path.relative_to(folder)): sha256_of(path) for path in [weights, *read]}


def located(spec: EncoderSpec) -> Path:
    """Return the path of the weights file, which is there with all it needs, and no more.

    Raises
    ------
    ModelMissing
        The package, the weights or another file is missing.
    """
    try:
        path = spec.locate()
    except ImportError as error:
        raise ModelMissing(
            f"The package with the encoder {spec.name} is not installed. {spec.remedy}"
        ) from error
    except ModelMissing as error:
        raise ModelMissing(f"{error.message} {spec.remedy}") from error
    if not path.is_file():
        raise ModelMissing(f"The weights of the encoder {spec.name} are missing. {spec.remedy}")
    for name in spec.files.required if spec.files else ():
        if not any((path.parent / either).is_file() for either in name.split("|")):
            raise ModelMissing(
                f"The encoder {spec.name} lacks its file {name.replace('|', ' or ')}. {spec.remedy}"
            )
    return path


def weights_digest(spec: EncoderSpec) -> str:
    """Return the SHA-256 that an encoder's weights must have: the entry's, else the pinned one.

    Raises
    ------
    ModelUnpinned
        The site provides the model, and nobody has accepted its files.
    """
    if spec.files is None:
        return spec.weights_sha256
    accepted = read_pins().get(spec.files.folder)
    if accepted is None:
        raise ModelUnpinned(
            f"The files of the encoder {spec.name} have not been accepted on this site. Check "
            f"where they come from, then: manage.py encoders pin {spec.name}"
        )
    return accepted.weights_sha256


def checked_weights(spec: EncoderSpec) -> Path:
    """Return the path of the encoder's weights, known to be the right ones.

    Raises
    ------
    ModelMissing
        The package or a file is not there.
    ModelUnpinned
        The site provides the model, and nobody has accepted its files.
    ModelCorrupt
        A file has another SHA-256, or there is one more than was accepted.
    """
    path = located(spec)
    digest = weights_digest(spec)
    if spec.files is None:
        if sha256_of(path) != digest:
            raise ModelCorrupt(
                f"The weights of the encoder {spec.name} are damaged or another version "
                f"(their SHA-256 differs). {spec.remedy}"
            )
        return path
    accepted, found = read_pins()[spec.files.folder].files, _hashes(path)
    changed = sorted(name for name in {*accepted, *found} if accepted.get(name) != found.get(name))
    if changed:
        raise ModelCorrupt(
            f"Files of the encoder {spec.name} are not the ones that were pinned: "
            f"{', '.join(changed[:5])}. Restore them. {spec.remedy}"
        )
    return path
