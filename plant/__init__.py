"""The plant: a test API that simulates a power plant, and the poller that turns such an API into readings."""
