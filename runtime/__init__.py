"""What a service process stands on: clock, life-cycle, settings, logs, store."""
