"""Media files in and out: containers, streams, reader, writer, drawings."""
