"""What a ``FileStore`` stands on: a folder, or a bucket in S3. Keys come here checked."""
