"""The optimizer: a 48 h plan for each battery, made anew every quarter of an hour."""
