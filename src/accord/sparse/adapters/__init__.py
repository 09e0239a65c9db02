"""Adapters through ``peft``, the baselines of sparse training: what is compared fairly trains equally many scalars."""

from accord.sparse.adapters.adapters import Adapters as Adapters
from accord.sparse.adapters.kinds import ADAPTERS as ADAPTERS
from accord.sparse.adapters.kinds import IA3 as IA3
from accord.sparse.adapters.kinds import LoRA as LoRA
