"""The one root error. Whatever the command line prints in one line derives from it; anything else is a bug."""

from __future__ import annotations

from collections.abc import Sequence


class ZooError(Exception):
    """Something the user can mend: the message says what is wrong, where, and what to do about it.

    `problems` holds one line per mistake where several were found in one pass.
    """

    def __init__(self, *problems: str) -> None:
        self.problems: Sequence[str] = problems
        super().__init__("\n".join(problems))


class RecipeError(ZooError):
    """Mistakes in a recipe, each as `file:line:col: path: what is wrong`."""


class DataError(ZooError):
    """Data that cannot be read or used, with file and row."""


class ArtefactError(ZooError):
    """A model folder that is not what its manifest says, or that must not be opened."""


class HubError(ZooError):
    """The Hub refused, or could not be reached."""


class AcceptanceError(ZooError):
    """A task fell below its `at_least`: everything was written, the exit status is 1."""


class RenamedFieldWarning(FutureWarning):
    """A recipe uses the old name of a field. The old name is still read; the message gives the new one."""
