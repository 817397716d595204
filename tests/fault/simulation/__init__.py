"""A whole house simulated from a seed: every service, a broker that misbehaves, crashes, and clocks that jump."""
