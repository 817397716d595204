"""Replays what was recorded, or any CSV of powers, onto a bus."""
