"""The front door: one command line, and the whole neighbourhood in one process."""
