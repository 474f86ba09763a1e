"""The rights that a finding names, and those that Terraform's statements grant."""

import re
from pathlib import Path

MODULE = "\n".join(
    file.read_text() for file in (Path(__file__).resolve().parents[2] / "infra" / "terraform").rglob("*.tf")
)
_RIGHT = r"\b(?:s3|sqs|kms):[A-Z]\w+"


def rights_in(text: str) -> set[str]:
    """Return the rights that a text names."""
    return set(re.findall(_RIGHT, text))


def granted_by(terraform: str) -> set[str]:
    """Return the rights that the statements named in a finding grant."""
    statements = re.findall(r'"([A-Z]\w+)"', terraform)
    blocks = [
        block for sid in statements for block in re.findall(rf'sid\s*=\s*"{sid}"(.*?)resources\s*=', MODULE, re.DOTALL)
    ]
    return {right for block in blocks for right in rights_in(block)}
