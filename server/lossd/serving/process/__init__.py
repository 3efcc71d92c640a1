"""The process around the server: signals, health, logs, pages, memory, the device check."""
