"""The S3 protocol: HTTP and XML only; knows no plugin."""
