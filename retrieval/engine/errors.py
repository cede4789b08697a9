"""Errors of the engine. Each has a code that stays, and a sentence for people."""


class EngineError(Exception):
    """Base of the engine's errors.

    Attributes
    ----------
    code : str
        Stable name of what went wrong.
    message : str
        A sentence for people, with the remedy where there is one.
    """

    code = "engine_error"

    def __init__(self, message: str, *, code: str = "") -> None:
        self.message = message
        self.code = code or self.code
        super().__init__(message)


class SkipSlide(EngineError):
    """A slide that is in order but has nothing to embed; `code` says why.

    Codes: ``no_tissue``, ``too_small``, ``too_coarse``, ``fluorescence``, ``no_mpp``.
    """

    code = "skipped"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, code=code)


class UnknownEncoder(EngineError):
    """No encoder of this name is registered."""

    code = "unknown_encoder"


class ModelMissing(EngineError):
    """The weights of an encoder, or the package that holds them, are not on this machine."""

    code = "model_missing"


class ModelCorrupt(EngineError):
    """The weights of an encoder are not the ones its entry names, or cannot be read."""

    code = "model_corrupt"


class ModelUnpinned(EngineError):
    """The files of an encoder were never accepted by an administrator of this site."""

    code = "model_unpinned"


class DataUnusable(EngineError):
    """Files that a measurement needs are missing or say something else than they should."""

    code = "data_unusable"
