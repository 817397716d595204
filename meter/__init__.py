"""A house's electricity meter: simulated, or played from a recording."""
