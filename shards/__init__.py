"""Raw videos to verified, train-ready WebDataset shards. Knows nothing of training."""
