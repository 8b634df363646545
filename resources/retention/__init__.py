"""Retention in Postgres, one file per noun: holds, plans, receipts, purges, restores, and what they count.

What does not belong here: the policy itself and the guards (`everreach_assets/domain/retention.py`), the files of the
archives (`resources/archives.py`), the order of the steps (`everreach_assets/retention.py`).
"""
