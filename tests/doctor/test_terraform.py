"""Every resource, statement, output and variable of Terraform that a finding names exists."""

import ast
import re
from datetime import timedelta
from pathlib import Path

import pytest

from broker.doctor.checks.lifecycle import CLEAR_STAGING, STAGING_DAYS
from broker.lifecycle.forms import RENEW_WITHIN
from broker.settings import Settings
from tests.doctor.granted import MODULE, granted_by, rights_in

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "broker" / "doctor").rglob("*.py"))


def said() -> list[str]:
    """Return every text of the doctor's source that speaks of Terraform."""
    texts = [
        node.value
        for file in SOURCES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return [text for text in texts if re.search(r"\baws_[a-z]|^output |\boutput [a-z]|statements? \"", text)]


def named(pattern: str) -> list[str]:
    """Return what a pattern finds in these texts."""
    return sorted({found for text in said() for found in re.findall(pattern, text)})


@pytest.mark.parametrize("address", named(r"\baws_\w+\.\w+"))
def test_a_named_resource_exists(address: str) -> None:
    kind, name = address.split(".")
    assert f'resource "{kind}" "{name}"' in MODULE


@pytest.mark.parametrize("sid", named(r'"([A-Z][A-Za-z0-9]+)"'))
def test_a_named_statement_exists(sid: str) -> None:
    assert re.search(rf'sid\s*=\s*"{sid}"', MODULE)


def causes() -> list[tuple[str, str]]:
    """Return the cause of each finding in the doctor's source that names statements, and these statements."""
    pairs = []
    for file in SOURCES:
        tree = ast.parse(file.read_text())
        constants = {
            node.targets[0].id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            given = {argument.arg: _words(argument.value, constants) for argument in call.keywords}
            if "statement" in given.get("terraform", "") and rights_in(given["cause"]):
                pairs.append((given["cause"], given["terraform"]))
    return pairs


def _words(node: ast.AST, constants: dict[str, ast.expr]) -> str:
    """Return the literal texts in an expression, with those of a constant or a variable that the module names."""
    inner = [constants[part.id] for part in ast.walk(node) if isinstance(part, ast.Name) and part.id in constants]
    parts = (part for root in (node, *inner) for part in ast.walk(root) if isinstance(part, ast.Constant))
    return " ".join(part.value for part in parts if isinstance(part.value, str))


@pytest.mark.parametrize(("cause", "terraform"), causes())
def test_the_named_statements_grant_the_rights_that_the_cause_says_are_missing(cause: str, terraform: str) -> None:
    assert rights_in(cause) <= granted_by(terraform)


def test_the_causes_are_read() -> None:
    assert len(causes()) >= 7


@pytest.mark.parametrize("name", named(r"output ([a-z_]+)"))
def test_a_named_output_exists(name: str) -> None:
    assert f'output "{name}"' in MODULE


@pytest.mark.parametrize("name", ["allowed_origins", "encryption", "noncurrent_days", "staging_days", "versioning"])
def test_a_named_variable_exists(name: str) -> None:
    source = "\n".join(file.read_text() for file in SOURCES)
    assert name in source
    assert f'variable "{name}"' in MODULE


def test_the_doctors_rule_expires_staging_objects_when_terraforms_does() -> None:
    variable = MODULE.partition('variable "staging_days"')[2].partition("\n}")[0]
    default = re.search(r"default\s*=\s*(\d+)", variable)
    assert default is not None
    assert CLEAR_STAGING["Expiration"] == {"Days": int(default[1])}


def test_staging_objects_outlive_every_promise() -> None:
    grace = timedelta(seconds=Settings.model_fields["grace_seconds"].default)
    resumable = timedelta(seconds=Settings.model_fields["resumable_seconds"].default)
    assert RENEW_WITHIN + grace < resumable + grace < timedelta(days=STAGING_DAYS)


def test_cloudfront_caches_a_deleted_media_for_no_longer_than_the_readme_says() -> None:
    policy = MODULE.partition('resource "aws_cloudfront_cache_policy" "media"')[2].partition("\n}")[0]
    lifetimes = dict(re.findall(r"(\w+_ttl)\s*=\s*(\d+)", policy))
    assert lifetimes == {"min_ttl": "1", "default_ttl": "300", "max_ttl": "300"}
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert "an edge may serve a cached object for five more minutes" in readme


def test_the_rights_that_the_doctor_needs_are_granted() -> None:
    calls = {
        "get_bucket_cors": "s3:GetBucketCORS",
        "get_bucket_policy": "s3:GetBucketPolicy",
        "get_bucket_versioning": "s3:GetBucketVersioning",
        "get_bucket_encryption": "s3:GetEncryptionConfiguration",
        "get_public_access_block": "s3:GetBucketPublicAccessBlock",
        "get_bucket_ownership_controls": "s3:GetBucketOwnershipControls",
        "get_bucket_lifecycle_configuration": "s3:GetLifecycleConfiguration",
        "get_bucket_notification_configuration": "s3:GetBucketNotification",
    }
    source = "\n".join(file.read_text() for file in SOURCES)
    assert set(re.findall(r'ask\(\s*"(get_\w+)"', source)) == calls.keys()
    doctor = MODULE[MODULE.index('data "aws_iam_policy_document" "doctor"') :]
    assert [right for right in calls.values() if f'"{right}"' not in doctor] == []
    assert '"sqs:GetQueueAttributes"' in doctor
