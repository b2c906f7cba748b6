"""What students are made of: dense layers, BatchNorm, dropout, adapters, and blocks that many have."""
