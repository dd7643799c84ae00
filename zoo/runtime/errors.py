"""The error of this package."""


class PackError(Exception):
    """A folder that cannot be opened, or an input that it does not take. The message says what is wrong and what to do."""
