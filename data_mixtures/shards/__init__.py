"""Training shards: any data set rewritten once so that random windows of frames cost as little as they can."""
