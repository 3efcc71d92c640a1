"""Reads messages: tensors within limits, parameters, and the comments of the protos."""
