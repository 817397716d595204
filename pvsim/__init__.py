"""PV simulator: answers each meter reading with the production at the same instant."""
