"""Sensors: a thin shell around a pure decision of `everreach_assets.domain`."""
