"""What a node must be like, told by asking it; on several nodes: ``tests/e2e/test_cluster.py``."""

import re
from dataclasses import replace

import pytest
import ray

from workers.nodes import UnfitNode, code_hash, elsewhere, fault, name_of, require_fit, site, unfit_nodes


@pytest.fixture
def here(tmp_path):
    with site(tmp_path / "root") as found:
        yield found


def test_this_node_is_fit_and_leaves_nothing_behind(tmp_path):
    with site(tmp_path / "root") as found:
        assert fault(found) is None
        require_fit(found)
        assert list(found.probe.iterdir()) != []
    assert list((tmp_path / "root" / ".nodes").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"python": "3.0.0"}, r"packages: found Python 3\.\d+\.\d+, allowed: 3\.0\.0"),
        ({"packages": {"torch": "1.0", "ray": "2.0"}}, r"packages: found torch .*, allowed: 1\.0; ray .*, allowed: 2\.0"),
        ({"packages": {"no-such-package": "1"}}, "no-such-package none, allowed: 1"),
        ({"code": "0"}, "code: found another version of this project"),
    ],
)  # fmt: skip
def test_what_differs_is_told(here, changes, reason):
    assert re.search(reason, fault(replace(here, **changes)))


def test_a_node_without_the_artifact_root_says_so(here, tmp_path):
    elsewhere_ = replace(here, probe=tmp_path / "elsewhere" / ".nodes" / "probe")
    assert fault(elsewhere_).startswith(
        f"artifact root: {tmp_path}/elsewhere is not the one of the search here"
    )


def test_the_code_of_a_project_is_one_hash():
    assert len(code_hash()) == 64


def test_no_selector_where_no_node_is_refused():
    assert elsewhere({}) == {}
    assert elsewhere({"b": "old", "a": "old"}) == {"ray.io/node-id": "!in(a,b)"}


@pytest.mark.usefixtures("ray_cluster")
def test_nodes_are_asked_where_they_are(here):
    (node,) = ray.nodes()
    assert unfit_nodes(here) == {}
    reasons = unfit_nodes(replace(here, code="0"))
    assert list(reasons) == [node["NodeID"]]
    assert "another version" in reasons[node["NodeID"]]
    assert node["NodeManagerAddress"] in name_of(node["NodeID"])
    assert name_of("gone") == "gone"


@pytest.mark.usefixtures("ray_cluster")
def test_a_worker_on_an_unfit_node_names_it(here):
    with pytest.raises(UnfitNode, match="another version") as caught:
        require_fit(replace(here, code="0"))
    assert caught.value.node_id == ray.get_runtime_context().get_node_id()
