"""Episode rows, read, merged and counted; what `vla report` shows of a benchmark."""
