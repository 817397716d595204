"""Shows houses, batteries and cars to Home Assistant, by its MQTT discovery."""
