"""What entries of the catalogue have in common: terms, file names, remedies."""

from retrieval.engine.encoders.spec import ModelFiles

CC_BY_NC_ND = "CC-BY-NC-ND-4.0: non-commercial academic research, also for what is made from it"
TIMM_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
TOKENIZER = ("tokenizer.json|vocab.txt|vocab.json",)
# Libraries that are not in the default environment.
EXTRA = ("timm", "open_clip")

_Triple = tuple[float, float, float]


def grey_levels(mean: _Triple, std: _Triple) -> tuple[_Triple, _Triple]:
    """Return mean and deviation of values 0 to 1 as grey levels 0 to 255."""
    r, g, b = (255 * value for value in mean)
    dr, dg, db = (255 * value for value in std)
    return (r, g, b), (dr, dg, db)


def remedy(name: str, files: ModelFiles, *, gated: bool, extra: bool) -> str:
    """Return how to get a model's files, and what else it needs."""
    steps = []
    if gated:
        steps.append(
            f"Ask for access at huggingface.co/{files.repositories[0]}, if its terms allow your use"
        )
    wanted = ", ".join(
        (" or ".join(files.weights), *(name.replace("|", " or ") for name in files.required))
    )
    steps.append(
        f"put {wanted} into the folder {files.folder} of the models folder "
        "(PATHSEARCH_MODELS_DIR), or into the hub's cache"
        + (f": hf download {files.repositories[0]}" if files.repositories else "")
    )
    steps.append(f"accept the files once: manage.py encoders pin {name}")
    if extra:
        steps.append("run it in the environment with timm and open_clip (docs/encoders.md)")
    text = "; ".join(steps)
    return text[0].upper() + text[1:] + "."
