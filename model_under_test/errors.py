"""Errors of the subject. Each says what was expected, what came, where, and what to do."""


class SubjectError(Exception):
    """Base of everything this package raises on purpose."""


class DatasetUnavailable(SubjectError, FileNotFoundError):
    """The data are not on this machine and could not be fetched. The only error that allows a fallback."""


class IntegrityError(SubjectError, ValueError):
    """Bytes differ from the digest or format they are pinned to."""


class RecipeError(SubjectError, ValueError):
    """An unknown recipe or dataset was asked for."""


class ServingError(SubjectError, ValueError):
    """Settings, a token file or an audit log with which nothing can be served."""
