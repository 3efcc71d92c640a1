"""The gRPC server around the engine.  Start reading in ``app``."""
