"""What the optimizer talks to over HTTP, simulated: a Reporter, and a validator in place of a BMS."""
