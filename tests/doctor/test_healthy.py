"""A deployment as Terraform makes it is well, and the doctor leaves nothing in it."""

from broker.doctor import Verdict
from tests.doctor.deployed import ABORTED, CLEARED, Deployed, ill


async def test_all_is_green_and_nothing_is_left_behind(deployed: Deployed) -> None:
    findings = await deployed.examine()
    assert ill(findings) == {}
    assert len(findings) >= 30
    assert deployed.leftovers() == []


async def test_a_versioned_bucket_is_green_where_old_versions_expire_and_keeps_none_of_the_doctors(
    deployed: Deployed,
) -> None:
    deployed.set("bucket_versioning", VersioningConfiguration={"Status": "Enabled"})
    old = {"Status": "Enabled", "NoncurrentVersionExpiration": {"NoncurrentDays": 30}}
    deployed.set_rules(CLEARED, ABORTED, {**old, "ID": "old", "Filter": {"Prefix": ""}})
    assert ill(await deployed.examine()) == {}
    assert deployed.leftovers() == []


async def test_each_check_has_a_name_of_its_own(deployed: Deployed) -> None:
    names = [finding.check for finding in await deployed.examine()]
    assert len(set(names)) == len(names)


async def test_no_secret_is_told(deployed: Deployed) -> None:
    told = " ".join(str(finding.to_json()) for finding in await deployed.examine())
    assert deployed.server.secret_key not in told
    assert Verdict.OK in told
