"""`broker doctor`: look at a real deployment, try it, and say how to mend what is wrong.

It reads how the bucket is set up, and then does with it what the broker and its clients do, good and evil, under keys
of its own that it removes again. It changes no setting.
"""

from broker.doctor.deployment import Deployment
from broker.doctor.examination import examine
from broker.doctor.finding import Finding, Verdict

__all__ = ["Deployment", "Finding", "Verdict", "examine"]
