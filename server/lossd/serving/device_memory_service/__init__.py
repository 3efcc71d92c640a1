"""The gRPC service ``DeviceMemoryService``, and the device memory that it hands out."""
