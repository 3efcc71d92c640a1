"""The seams of training services, each with what goes wrong when a sign or a frame is turned.

Tests that need the package of a service are skipped where it is not installed.
"""
