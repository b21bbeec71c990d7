"""The write path: values of a framework become row blocks, chunks, segments, and one commit."""
