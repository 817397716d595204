"""The live table of `wattbus run`: what is known, and what is no news any more."""

from rich.console import Console

from energy.tariff import load_tariff
from tests.conftest import START
from tests.unit.test_optimizer_model import der
from wattbus.scoreboard import HouseBoard
from wattbus.table import live_table


def shown(after_s: float) -> str:
    board = HouseBoard("house-a", load_tariff(), 0.0)
    board.hear(der(START, current_output=1.25, current_soc=51.0))
    console = Console(width=160, record=True)
    with console.capture() as captured:
        console.print(live_table([board], START.after(after_s), "a note", 160))
    return captured.get()


def test_a_device_is_shown_with_what_it_said_last() -> None:
    assert "+1.25" in shown(20.0)
    assert "silent" not in shown(20.0)


def test_one_that_has_been_silent_for_half_a_minute_is_shown_so() -> None:
    assert "silent" in shown(31.0)
    assert "+1.25" not in shown(31.0)
