"""The error tree of the backtest."""


class BacktestError(Exception):
    """A house that can't be run: one line says what, where and what to do."""
