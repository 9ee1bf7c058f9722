"""Floor 0: episodes in any format become one typed `Batch`. No module here holds parameters.

    readers/     one reader a published format ──► Episode
    spaces/      the unified state and action spaces, rotations, every robot's columns into them
    statistics/  quantiles, streamed and pooled ──► Normalisation
    storage/     a data set's index (numerics as memory maps), its frames, copies of what lies behind a URL
    shards/      the same, rewritten once for training: `vla data ingest`
    sampling/    sample ids ──► windows ──► batches: samplers, augmentation, the loader and its workers
    lerobot/     LeRobot v3.0 written: recordings, latents as columns, conversions
    video/       encoding and decoding
    summaries/   what people look at: a data set, an episode, a mixture

`config.py` is what a mixture's YAML may say, `source.py` one data set of it, `mixture.py` all of them.
"""
