"""The gRPC service ``SharedMemoryService``, and the segments that it attaches."""
