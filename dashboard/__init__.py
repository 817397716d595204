"""The live web page: what the houses do now, why, what was planned, and what was recorded."""
