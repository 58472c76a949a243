"""The engine's own process, and the line between it and the web process."""
