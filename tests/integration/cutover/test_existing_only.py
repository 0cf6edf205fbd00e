"""`PERSONA_SYNC_UPDATE_EXISTING_ONLY`: profiles are changed, never made."""

from typing import Any


def test_no_profile_is_created(cutover: Any) -> None:
    """Who exists in Braze is kept in step; who does not is delivered to nobody, and not retried."""
    deployment = cutover.deployment
    cutover.braze_holds({f"u{n}": {"plan": "x"} for n in range(0, 100, 2)})
    deployment.send([deployment.change(f"u{n}", "vip", True) for n in range(100)])
    worker = deployment.worker(update_existing_only=True)
    deployment.drain(worker)
    profiles = cutover.sandbox.profiles()
    assert profiles == {f"u{n}": {"plan": "x", "vip": True} for n in range(0, 100, 2)}
    deployment.put("u2", vip=False)
    deployment.put("u3", vip=False)
    deployment.drain(worker)
    assert cutover.sandbox.attributes("u2")["vip"] is False
    assert "u3" not in cutover.sandbox.profiles()
    assert deployment.ledger()["delivered"] == 102
    assert set(cutover.sandbox.report()["by_status"]) == {"201"}


def test_without_it_profiles_are_created(cutover: Any) -> None:
    """The default makes a profile for whoever enters an audience."""
    cutover.deployment.put("u1", vip=True)
    cutover.deployment.drain(cutover.deployment.worker())
    assert cutover.sandbox.profiles() == {"u1": {"vip": True}}
