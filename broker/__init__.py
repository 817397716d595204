"""The bus: one port, its transports, the embedded broker."""
