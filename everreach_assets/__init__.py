"""EverReach Assets: the shared memory and feedback loop of EverReach OS, as a Dagster data-asset project."""
