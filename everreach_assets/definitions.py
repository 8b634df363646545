"""What Dagster loads."""

from everreach_assets.build import build_definitions

defs = build_definitions()
