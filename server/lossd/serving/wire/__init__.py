"""What is read from messages: tensors within limits, parameters, the comments of the protos."""
