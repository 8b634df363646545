"""The assets, one file per noun. Each reads, decides by one domain call, writes, and reports."""
