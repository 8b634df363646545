"""The always-on HTTP process: `everreach serve`."""
