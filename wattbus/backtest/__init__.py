"""What the system would have cost on recorded days: the real services' models in closed loop, no bus."""
