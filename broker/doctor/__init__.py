"""`broker doctor`: examine a real deployment, try it out, and name the fix for each fault.

It reads the bucket's configuration, then sends valid and invalid uploads and copies to it, under keys of its own that
it removes again. It changes no setting.
"""

from broker.doctor.deployment import Deployment
from broker.doctor.examination import examine
from broker.doctor.finding import Finding, Verdict

__all__ = ["Deployment", "Finding", "Verdict", "examine"]
