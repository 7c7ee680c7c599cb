"""Errors the user can fix: each message is one line that names the file or key and the remedy."""


class UserError(Exception):
    """Base of every foreseeable mistake; command lines print its message and exit with code 1."""


class ConfigError(UserError):
    """A config key or value that cannot work."""


class DataError(UserError):
    """A dataset, partition or sequence that cannot be used."""


class CheckpointError(UserError):
    """A checkpoint that is damaged, or that does not fit the model."""
