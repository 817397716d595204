"""What travels on the bus and what is kept on disk: messages, topics, codec, archive."""
