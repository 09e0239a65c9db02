"""The record of a run: Parquet part files, written atomically, and the arrays that are read back from them.

One row per probed step. Everything measured later (conflict, harm, the report) is a function of these arrays.
"""

from accord.record.files import drop_after as drop_after
from accord.record.files import next_number as next_number
from accord.record.files import parts as parts
from accord.record.files import read as read
from accord.record.files import write_part as write_part
from accord.record.table import Record as Record
from accord.record.table import Row as Row
