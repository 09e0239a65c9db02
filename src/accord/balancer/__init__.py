"""The training step: engine -> method -> ``.grad``; the only writer of ``.grad``."""

from accord.balancer.balancer import Balancer as Balancer
