"""Apply, plan, status and remove against a real API server."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ferryman.core.errors import ConfigError, DeployError
from ferryman.core.progress import silent
from ferryman.core.target import Change, Landing
from tests.targets.making import landing, target
from tests.targets.real_api import BROKEN, WEAK, Api

pytestmark = pytest.mark.tool("etcd", "kube-apiserver", "kube-controller-manager")
# One copy and no budget: kinds that servers of every age know (the newest ones are checked by their schemas).
SECTION: dict[str, Any] = {"replicas": 1, "wait_s": 60}


@pytest.fixture
def known(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig()))
    return api


def apply(wanted: Landing, *, dry_run: bool = False, **section: Any) -> list[Change]:
    changes: list[Change] = target("kubernetes", **(SECTION | section)).apply(wanted, dry_run=dry_run, progress=silent)
    return changes


def remove(name: str, **section: Any) -> list[Change]:
    changes: list[Change] = target("kubernetes", **(SECTION | section)).remove(name, dry_run=False, progress=silent)
    return changes


def moves(changes: list[Change]) -> dict[str, str]:
    return {change.what: change.move for change in changes}


class TestALandingsLife:
    """One landing through its life, in the order of the tests."""

    ours = landing(name="life")

    def test_a_plan_creates_nothing(self, known: Api) -> None:
        assert set(moves(apply(self.ours, dry_run=True)).values()) == {"create"}
        assert known.items("/apis/apps/v1/namespaces/default/deployments", name="life") == []

    def test_apply_waits_until_every_copy_answers(self, known: Api) -> None:
        assert set(moves(apply(self.ours)).values()) == {"create"}
        standing = target("kubernetes").status("life")
        assert (standing.is_ready, standing.ready, standing.image) == (True, 1, self.ours.image)

    def test_a_second_apply_changes_nothing_and_says_so(self, known: Api) -> None:
        before = self._versions(known)
        assert set(moves(apply(self.ours)).values()) == {"keep"}
        assert self._versions(known) == before

    def test_a_plan_shows_what_would_change_line_by_line(self, known: Api) -> None:
        changes = apply(replace(self.ours, memory_mb=640), dry_run=True)
        changed = [change for change in changes if change.move != "keep"]
        assert [change.what for change in changed] == ["Deployment life"]
        assert '-              memory: "512Mi"' in changed[0].diff
        assert '+              memory: "640Mi"' in changed[0].diff

    def test_what_is_no_longer_wanted_is_taken_away(self, known: Api) -> None:
        found = moves(apply(self.ours, network_policy=False, headless=True))
        assert found["NetworkPolicy life"] == "remove"
        assert found["Service life-headless"] == "create"
        assert known.items("/apis/networking.k8s.io/v1/namespaces/default/networkpolicies", name="life") == []

    def test_a_new_version_that_does_not_start_leaves_the_old_one_and_is_not_called_ready(self, known: Api) -> None:
        with pytest.raises(DeployError, match="ImagePullBackOff"):
            apply(replace(self.ours, image=f"registry.example.com{BROKEN}:2"))
        assert target("kubernetes").status("life").ready == 0
        pods = known.items("/api/v1/namespaces/default/pods", name="life")
        assert [pod["status"]["phase"] for pod in pods].count("Running") == 1
        apply(self.ours)

    def test_copies_that_another_has_scaled_are_not_taken_over_without_a_word(self, known: Api) -> None:
        path = "/apis/apps/v1/namespaces/default/deployments/life"
        known.ask(f"{path}?fieldManager=someone", "PATCH", {"spec": {"replicas": 3}})
        with pytest.raises(DeployError, match="someone") as caught:
            apply(self.ours)
        assert "force_conflicts" in caught.value.hint
        assert moves(apply(self.ours, force_conflicts=True))["Deployment life"] == "change"
        assert known.ask(path)["spec"]["replicas"] == 1

    def test_remove_takes_all_of_it_and_nothing_else(self, known: Api) -> None:
        apply(landing(name="other"))
        dry = target("kubernetes").remove("life", dry_run=True, progress=silent)
        assert moves(dry) == moves(remove("life"))
        assert not target("kubernetes").status("life").is_there
        assert remove("life") == []
        assert target("kubernetes").status("other").is_ready
        remove("other")

    def _versions(self, api: Api) -> set[str]:
        paths = ("/api/v1/namespaces/default/services", "/apis/apps/v1/namespaces/default/deployments")
        return {one["metadata"]["resourceVersion"] for path in paths for one in api.items(path, name="life")}


def test_an_image_that_is_not_there_ends_the_wait_and_says_why(known: Api) -> None:
    with pytest.raises(DeployError, match="ImagePullBackOff") as caught:
        apply(landing(name="lost", image=f"registry.example.com{BROKEN}:1"))
    assert "lost doesn't come up" in str(caught.value)
    standing = target("kubernetes").status("lost")
    assert (standing.is_there, standing.is_ready) == (True, False)
    assert any("Back-off pulling image" in note for note in standing.notes)
    remove("lost")


def test_a_quota_that_is_used_up_is_told_in_the_clusters_words(known: Api) -> None:
    quota: dict[str, Any] = {"metadata": {"name": "small"}, "spec": {"hard": {"limits.memory": "100Mi"}}}
    known.ask("/api/v1/namespaces", "POST", {"metadata": {"name": "small"}})
    known.ask("/api/v1/namespaces/small/resourcequotas", "POST", quota)
    known.ask(
        "/api/v1/namespaces/small/resourcequotas/small/status",
        "PATCH",
        {"status": {**quota["spec"], "used": {"limits.memory": "0"}}},
    )
    with pytest.raises(DeployError, match="exceeded quota"):
        apply(landing(name="big"), namespace="small")
    remove("big", namespace="small")


def test_who_may_not_apply_is_told_what_to_ask_for(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(WEAK)))
    with pytest.raises(DeployError, match=r'forbidden: User "weak"') as caught:
        apply(landing(name="weak"))
    assert "kubectl auth can-i" in caught.value.hint


def test_a_namespace_that_is_not_there_is_named(known: Api) -> None:
    with pytest.raises(DeployError, match='namespaces "nowhere" not found') as caught:
        apply(landing(), namespace="nowhere")
    assert caught.value.hint == "make the namespace: kubectl create namespace nowhere"


def test_a_kind_that_the_cluster_lacks_is_named_before_anything_is_made(known: Api) -> None:
    with pytest.raises(DeployError, match=r"knows no ServiceMonitor \(monitoring.coreos.com/v1\)"):
        apply(landing(name="early"), service_monitor=True)
    assert not target("kubernetes").status("early").is_there


def test_an_object_of_somebody_else_is_left_alone(known: Api) -> None:
    ports = [{"name": "http", "port": 80}]
    known.ask("/api/v1/namespaces/default/services", "POST", {"metadata": {"name": "theirs"}, "spec": {"ports": ports}})
    with pytest.raises(DeployError, match="Service theirs in default that Ferryman didn't make"):
        apply(landing(name="theirs"))
    assert remove("theirs") == []
    assert known.ask("/api/v1/namespaces/default/services/theirs")["metadata"]["name"] == "theirs"


def test_a_cluster_that_does_not_answer_is_named(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(Api("https://127.0.0.1:9", api.folder).kubeconfig("nobody")))
    with pytest.raises(DeployError, match=r"https://127.0.0.1:9 doesn't answer"):
        apply(landing())
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no cluster is known"):
        apply(landing())
