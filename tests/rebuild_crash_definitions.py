"""What a code server loads whose run workers are to be killed. Importing it replaces steps of the project: only a
process that is nothing else may do so.
"""

from tests.rebuild_crashes import definitions

defs = definitions()
