"""The gRPC service ``LossService``: losses, the catalogue, information about the server."""
