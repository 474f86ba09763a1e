"""A deployment as Terraform creates it is healthy, and the doctor leaves nothing in it."""

from broker.doctor import Verdict
from tests.doctor.deployed import ABORTED, CLEARED, Deployed, page_rule, unhealthy


async def test_a_healthy_deployment_passes_and_no_object_is_left(deployed: Deployed) -> None:
    findings = await deployed.examine()
    assert unhealthy(findings) == {}
    assert len(findings) >= 30
    assert deployed.leftovers() == []


async def test_a_versioned_bucket_passes_if_old_versions_expire_and_no_version_is_left(
    deployed: Deployed,
) -> None:
    deployed.set("bucket_versioning", VersioningConfiguration={"Status": "Enabled"})
    old = {"Status": "Enabled", "NoncurrentVersionExpiration": {"NoncurrentDays": 30}}
    deployed.set_rules(CLEARED, ABORTED, {**old, "ID": "old", "Filter": {"Prefix": ""}})
    assert unhealthy(await deployed.examine()) == {}
    assert deployed.leftovers() == []


async def test_each_check_has_its_own_name(deployed: Deployed) -> None:
    names = [finding.check for finding in await deployed.examine()]
    assert len(set(names)) == len(names)


async def test_no_finding_holds_a_secret(deployed: Deployed) -> None:
    told = " ".join(str(finding.to_json()) for finding in await deployed.examine())
    assert deployed.server.secret_key not in told
    assert Verdict.OK in told


async def test_origins_of_apps_and_patterns_are_healthy(deployed: Deployed) -> None:
    origins = ("capacitor://localhost", "https://*.preview.example")
    deployed.set("bucket_cors", CORSConfiguration={"CORSRules": [page_rule(*origins)]})
    findings = await deployed.examine(page_origins=origins)
    assert unhealthy(findings) == {}
    details = {finding.check: finding.detail for finding in findings}
    assert details["CORS"] == "capacitor://localhost, https://*.preview.example may POST, GET, HEAD"
