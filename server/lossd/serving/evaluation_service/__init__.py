"""The gRPC service ``EvaluationService``: metrics over batches."""
