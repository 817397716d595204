"""The error tree of what travels: everything here is about one message or one id that can't be used."""


class ContractError(ValueError):
    """What was given breaks the contract; the message says what and where."""


class BadIdError(ContractError):
    """An id that must not become a topic level, a queue name or a file name."""


class BadMessageError(ContractError):
    """A payload that can't be decoded, breaks its range, or speaks for another address."""


class BadArchiveError(ContractError):
    """A recorded file that can't be read; the message names file and line."""
