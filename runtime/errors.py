"""The error tree of a process: each becomes one line on stderr and an exit code."""


class RuntimeFaultError(Exception):
    """Something went wrong that the user should read in one line; exit code 1."""

    exit_code = 1


class UsageError(RuntimeFaultError):
    """Bad usage or bad settings; the line says what is wrong and where. Exit code 2."""

    exit_code = 2


class StoreError(RuntimeFaultError):
    """A state file that can't be read or written."""


class DiskFullError(StoreError):
    """A state file for which there is no room now: waiting helps, or making room."""
