"""Real meters: one file each, imported only where it is asked for."""
