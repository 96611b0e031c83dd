"""The HTTP API of the registered models, with limits, batching and streaming, and the playground."""
