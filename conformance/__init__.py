"""Vectors that a client in any language proves itself with, see ``README.md``."""
