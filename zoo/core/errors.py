"""The errors that users can fix, all below one root. Any other exception is a bug and keeps its traceback."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.core import help_addresses


class ZooError(Exception):
    """An error that the user can fix. The message says what is wrong, where, and what to do.

    If the troubleshooting page has a section about it, a note gives the address, which Python prints below the message.

    Attributes:
        problems: one line for each mistake, if several were found in one pass.
    """

    def __init__(self, *problems: str) -> None:
        self.problems: Sequence[str] = problems
        super().__init__("\n".join(problems))
        addresses = dict.fromkeys(map(help_addresses.find_address, problems))
        for address in filter(None, addresses):
            self.add_note(f"See `{address}`.")


class RecipeError(ZooError):
    """Mistakes in a recipe. Each line reads `file:line:col: path: what is wrong`."""


class DataError(ZooError):
    """Data that cannot be read or used. The message names the file and the row."""


class ArtefactError(ZooError):
    """A model folder that differs from its manifest, or that is not safe to open."""


class UncuttableError(ZooError):
    """A text backbone that is sound, but whose layers cannot be cut."""


class HubError(ZooError):
    """The Hub refused a request or could not be reached."""


class AcceptanceError(ZooError):
    """A task scored below its `at_least`. All files were written; the exit status is 1."""


class ZooWarning(UserWarning):
    """Base of zoo's warnings. The command line prints each as one line."""


class DataWarning(ZooWarning):
    """Data that can be used, but that probably is not what its author meant. The message names the file and the row."""


class RenamedFieldWarning(ZooWarning, FutureWarning):
    """A recipe uses the old name of a field. The old name is still read; the message gives the new one."""


class UnreadFieldWarning(ZooWarning):
    """A recipe gives a field that its family does not read, or reads as another value."""


class RunWarning(ZooWarning):
    """Something about a run that its author should know before it goes on."""


class WeightsWarning(ZooWarning):
    """A pretrained model has names with a prefix, which is removed, or tensors that its architecture does not use."""


def first_line(error: BaseException, limit: int = 120) -> str:
    """Return the first line of an exception's message, cut to `limit` characters.

    White space is collapsed. An exception without a message gives the name of its class.
    """
    lines = str(error).strip().splitlines()
    line = " ".join(lines[0].split()) if lines else type(error).__name__
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
