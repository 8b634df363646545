"""The subcommands of `everreach`, one file per noun: each reads arguments, calls one function, prints what came out.

What takes long to load is imported inside the commands, so that `everreach --help` answers at once.
"""
