"""Run the fix of a finding."""

import shlex

import pytest
from awscli.clidriver import create_clidriver

from broker.dev.s3 import EmbeddedS3
from broker.doctor import Finding


def apply_fix(finding: Finding, server: EmbeddedS3) -> None:
    """Run the finding's `aws` commands as they are written, with the server's own keys.

    Within this process, which has the aws program's modules loaded: a new one takes two seconds for them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        for command in finding.fix.split(" && "):
            program, *arguments = shlex.split(command)
            assert program == "aws"
            assert create_clidriver().main(arguments) == 0, command
