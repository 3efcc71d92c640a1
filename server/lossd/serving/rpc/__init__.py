"""The boundary between gRPC and the services: threads, admission, time limits, statuses."""
